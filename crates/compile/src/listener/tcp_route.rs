//! Routes of bytes: which cluster a TCP or TLS connection goes to.
//!
//! - Reads: `VirtualService.tcp[]` and `tls[]`.
//! - Twin: `proxy/src/network/tcp_proxy.rs`.
//! - Rule: rules are tried in order; the first whose source, gateway and port fit is taken for a chain match.
//! - Limits: `destinationSubnets` and `sourceSubnet` become address ranges of the chain match; IPv4 and IPv6 CIDRs only.
//! - Not here: HTTP routes (`route`).

use crate::View;
use crate::route::destination_cluster;
use lateen_base::names;
use lateen_envoy_api::envoy::config::core::v3::{CidrRange, Metadata};
use lateen_envoy_api::envoy::config::listener::v3::FilterChainMatch;
use lateen_envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight};
use lateen_istio_api::{L4MatchAttributes, RouteDestination, TLSMatchAttributes, VirtualService};
use lateen_mesh::{Object, gateway_name, selects};
use std::collections::BTreeMap;

/// Where a connection came in.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// `mesh`, or a gateway's `namespace/name`.
    pub gateway: &'a str,
    /// Port that rules name: the service's or the gateway server's.
    pub port: u16,
}

/// One way a connection can go.
pub(crate) struct TcpRoute {
    /// What the connection must look like; `None` for all.
    pub matches: Option<FilterChainMatch>,
    /// Statistics prefix.
    pub stat_prefix: String,
    /// Cluster or clusters.
    pub target: ClusterSpecifier,
    /// Names the rule it comes from.
    pub metadata: Option<Metadata>,
}

/// Routes that `tcp[]` gives a connection, in order.
pub(crate) fn tcp_routes(view: &View<'_>, rule: &Object<VirtualService>, entry: Entry<'_>) -> Vec<TcpRoute> {
    let metadata = crate::pb::config_metadata("virtual-service", &rule.meta);
    let mut found = Vec::new();
    for route in &rule.spec.tcp {
        let Some((stat_prefix, target)) = target(view, rule, &route.route, entry.port) else { continue };
        let matching: Vec<&L4MatchAttributes> = route
            .r#match
            .iter()
            .filter(|m| applies(view, rule, entry, &Source { gateways: &m.gateways, labels: &m.source_labels, namespace: &m.source_namespace, port: m.port }))
            .collect();
        if route.r#match.is_empty() {
            found.push(TcpRoute { matches: None, stat_prefix, target, metadata });
            return found;
        }
        for m in matching {
            let matches = ranges(&m.destination_subnets, &m.source_subnet);
            let last = matches.is_none();
            found.push(TcpRoute { matches, stat_prefix: stat_prefix.clone(), target: target.clone(), metadata: metadata.clone() });
            if last {
                return found;
            }
        }
    }
    found
}

/// Routes that `tls[]` gives a connection by its server name, in order.
pub(crate) fn tls_routes(view: &View<'_>, rule: &Object<VirtualService>, entry: Entry<'_>) -> Vec<TcpRoute> {
    let metadata = crate::pb::config_metadata("virtual-service", &rule.meta);
    let mut found = Vec::new();
    for route in &rule.spec.tls {
        let Some((stat_prefix, target)) = target(view, rule, &route.route, entry.port) else { continue };
        let applies_here = |m: &&TLSMatchAttributes| {
            applies(view, rule, entry, &Source { gateways: &m.gateways, labels: &m.source_labels, namespace: &m.source_namespace, port: m.port })
        };
        for m in route.r#match.iter().filter(applies_here) {
            let server_names = m.sni_hosts.iter().filter(|h| *h != "*").cloned().collect();
            let matches = FilterChainMatch { server_names, ..ranges(&m.destination_subnets, "").unwrap_or_default() };
            found.push(TcpRoute { matches: Some(matches), stat_prefix: stat_prefix.clone(), target: target.clone(), metadata: metadata.clone() });
        }
    }
    found
}

struct Source<'a> {
    gateways: &'a [String],
    labels: &'a BTreeMap<String, String>,
    namespace: &'a str,
    port: u32,
}

fn applies(view: &View<'_>, rule: &Object<VirtualService>, entry: Entry<'_>, source: &Source<'_>) -> bool {
    let gateway = if source.gateways.is_empty() {
        true
    } else {
        source.gateways.iter().any(|g| gateway_name(g, &rule.meta.namespace) == entry.gateway)
    };
    let proxy = view.proxy;
    let source_fits = entry.gateway != names::MESH_GATEWAY
        || selects(source.labels, &proxy.labels) && (source.namespace.is_empty() || source.namespace == proxy.namespace);
    gateway && source_fits && (source.port == 0 || source.port == u32::from(entry.port))
}

fn target(view: &View<'_>, rule: &Object<VirtualService>, routes: &[RouteDestination], port: u16) -> Option<(String, ClusterSpecifier)> {
    let cluster = |route: &RouteDestination| Some(destination_cluster(view, route.destination.as_ref()?, &rule.meta.namespace, port));
    if let [only] = routes {
        let name = cluster(only)?;
        return Some((name.clone(), ClusterSpecifier::Cluster(name)));
    }
    let clusters: Vec<ClusterWeight> = routes
        .iter()
        .filter(|r| r.weight > 0)
        .filter_map(|r| Some(ClusterWeight { name: cluster(r)?, weight: u32::try_from(r.weight).ok()?, ..Default::default() }))
        .collect();
    let prefix = format!("{}.{}", rule.meta.name, rule.meta.namespace);
    (!clusters.is_empty()).then_some((prefix, ClusterSpecifier::WeightedClusters(WeightedCluster { clusters })))
}

fn ranges(destinations: &[String], source: &str) -> Option<FilterChainMatch> {
    let prefix_ranges: Vec<CidrRange> = destinations.iter().filter_map(|d| cidr(d)).collect();
    let source_prefix_ranges: Vec<CidrRange> = cidr(source).into_iter().collect();
    (!prefix_ranges.is_empty() || !source_prefix_ranges.is_empty()).then(|| FilterChainMatch { prefix_ranges, source_prefix_ranges, ..Default::default() })
}

/// An address or CIDR as Envoy's range; `None` when it is neither.
pub(crate) fn cidr(text: &str) -> Option<CidrRange> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, length.parse::<u32>().ok()?),
        None => (text, if text.contains(':') { 128 } else { 32 }),
    };
    address.parse::<std::net::IpAddr>().ok()?;
    Some(CidrRange { address_prefix: address.to_owned(), prefix_len: crate::pb::uint(length) })
}
