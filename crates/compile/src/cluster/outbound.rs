//! Outbound clusters: one for each port of each visible service, and for each subset.
//!
//! - Reads: services, DestinationRules, PeerAuthentication.
//! - Rule: the cluster's type follows the service's resolution: EDS, DNS by the proxy, or wherever the client was going.
//! - Rule: a DNS service without an address to ask for has no cluster.
//! - Not here: field meanings (`kinds/src/destination_rule/`), endpoints of EDS clusters (`endpoint`).

use super::{cluster, connect_timeout, tls};
use crate::{View, endpoint, pb};
use lateen_base::names;
use lateen_envoy_api::envoy::config::cluster::v3::Cluster;
use lateen_envoy_api::envoy::config::cluster::v3::cluster::{DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy};
use lateen_envoy_api::envoy::config::core::v3::{Metadata, TypedExtensionConfig};
use lateen_envoy_api::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use lateen_envoy_api::{pack, wkt};
use lateen_istio_api::{DestinationRule, SimpleLB, Subset};
use lateen_kinds::destination_rule::connection_pool::{self, UpstreamHttp};
use lateen_kinds::destination_rule::{load_balancer, outlier_detection, subset};
use lateen_mesh::{Object, Protocol, Registry, Resolution, Service, ServicePort};
use std::time::Duration;

/// All clusters of visible services.
pub(super) fn clusters(view: &View<'_>) -> Vec<Cluster> {
    let mut all = Vec::new();
    for service in view.services.values() {
        let rule = view.destination_rule(service);
        for port in &service.ports {
            all.extend(of_port(view, service, port, rule, None));
            for group in rule.iter().flat_map(|r| &r.spec.subsets) {
                all.extend(of_port(view, service, port, rule, Some(group)));
            }
        }
    }
    all
}

fn of_port(view: &View<'_>, service: &Service, port: &ServicePort, rule: Option<&Object<DestinationRule>>, group: Option<&Subset>) -> Option<Cluster> {
    let host = service.hostname.as_str();
    let group_name = group.map(|g| g.name.as_str()).unwrap_or_default();
    let name = names::outbound_cluster(port.number, group_name, host);
    let policy = subset::effective(rule.map(|r| r.spec.as_ref()), group, u32::from(port.number));
    let passthrough = policy.load_balancer.is_some_and(|lb| lb.simple == Some(SimpleLB::Passthrough));
    let resolution = if passthrough { Resolution::Passthrough } else { view.resolution(service) };
    let mut cluster = discovered(view, service, port, group, (resolution, &name))?;
    outlier_detection::apply(policy.outlier_detection, &mut cluster);
    load_balancer::apply(policy.load_balancer, &mut cluster);
    if resolution == Resolution::Passthrough {
        cluster.lb_policy = LbPolicy::ClusterProvided as i32;
        cluster.lb_config = None;
    }
    connection_pool::apply(policy.connection_pool, policy.retry_budget, Some(connect_timeout(view)), &mut cluster);
    cluster.typed_extension_protocol_options = connection_pool::http_options(policy.connection_pool, upstream_http(view, port.protocol));
    let identities = match group {
        Some(group) => identities_of(service, group),
        None => service.identities(),
    };
    let to = tls::Destination { service, identities, sni: names::sni(port.number, group_name, host), http2: speaks_http2(&cluster) };
    let own_certificates = tls::apply(view, policy.tls, &to, &mut cluster);
    cluster.metadata = metadata(service, rule, group_name, own_certificates);
    Some(cluster)
}

fn identities_of(service: &Service, group: &Subset) -> Vec<String> {
    let endpoints = service.endpoints.iter().filter(|e| subset::takes(group, &e.labels)).cloned().collect();
    let narrowed = Service { endpoints, ..service.clone() };
    let found = narrowed.identities();
    if found.is_empty() { service.identities() } else { found }
}

/// A cluster that finds its endpoints as the resolution says.
fn discovered(view: &View<'_>, service: &Service, port: &ServicePort, group: Option<&Subset>, (resolution, name): (Resolution, &str)) -> Option<Cluster> {
    Some(match resolution {
        Resolution::ClientSide => Cluster {
            eds_cluster_config: Some(EdsClusterConfig { eds_config: pb::ads(), service_name: name.to_owned() }),
            ..cluster(view, name, DiscoveryType::Eds)
        },
        Resolution::Passthrough => cluster(view, name, DiscoveryType::OriginalDst),
        Resolution::Dns | Resolution::DnsRoundRobin => {
            let assignment = endpoint::assignment(view, service, port, group, name);
            if assignment.endpoints.is_empty() {
                return None;
            }
            let kind = if resolution == Resolution::Dns { DiscoveryType::StrictDns } else { DiscoveryType::LogicalDns };
            Cluster { load_assignment: Some(assignment), ..with_dns(view, cluster(view, name, kind)) }
        }
    })
}

#[expect(deprecated, reason = "istiod writes these fields")]
fn with_dns(view: &View<'_>, cluster: Cluster) -> Cluster {
    let resolver = CaresDnsResolverConfig { udp_max_queries: pb::uint(100), ..Default::default() };
    Cluster {
        dns_refresh_rate: pb::duration(view.config().dns_refresh_rate),
        dns_jitter: pb::duration(Duration::from_millis(100)),
        respect_dns_ttl: true,
        dns_lookup_family: DnsLookupFamily::V4Only as i32,
        typed_dns_resolver_config: Some(TypedExtensionConfig { name: "envoy.network.dns_resolver.cares".to_owned(), typed_config: Some(pack(&resolver)) }),
        ..cluster
    }
}

fn upstream_http(view: &View<'_>, protocol: Protocol) -> UpstreamHttp {
    match protocol {
        // A gateway's client says nothing about what the backend speaks.
        Protocol::Auto if view.proxy.is_router() => UpstreamHttp::Http1,
        Protocol::Http2 | Protocol::Grpc => UpstreamHttp::Http2,
        Protocol::Auto => UpstreamHttp::SameAsDownstream,
        Protocol::Http | Protocol::GrpcWeb => UpstreamHttp::Http1,
        Protocol::Https | Protocol::Tls | Protocol::Tcp | Protocol::Mongo | Protocol::MySql | Protocol::Redis | Protocol::Udp => UpstreamHttp::Tcp,
    }
}

/// Whether the cluster was made to speak HTTP/2 whatever the client spoke.
fn speaks_http2(cluster: &Cluster) -> bool {
    use lateen_envoy_api::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
    use lateen_envoy_api::envoy::extensions::upstreams::http::v3::http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig};
    let Some(options) = cluster.typed_extension_protocol_options.get(connection_pool::HTTP_OPTIONS) else { return false };
    let Ok(options) = lateen_envoy_api::unpack::<HttpProtocolOptions>(options) else { return false };
    match options.upstream_protocol_options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => matches!(explicit.protocol_config, Some(ProtocolConfig::Http2ProtocolOptions(_))),
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_) | UpstreamProtocolOptions::AutoConfig(_)) | None => false,
    }
}

fn metadata(service: &Service, rule: Option<&Object<DestinationRule>>, group: &str, own_certificates: bool) -> Option<Metadata> {
    let mut facts = pb::structure([("services", pb::list(vec![service_facts(service)]))]);
    if let Some(rule) = rule {
        facts.fields.insert("config".to_owned(), pb::text(pb::config_path("destination-rule", &rule.meta)));
    }
    if !group.is_empty() {
        facts.fields.insert("subset".to_owned(), pb::text(group));
    }
    if own_certificates {
        facts.fields.insert("alpn_override".to_owned(), pb::text("false"));
    }
    if service.external {
        facts.fields.insert("external".to_owned(), pb::truth(true));
    }
    pb::metadata([(pb::ISTIO_METADATA, facts)])
}

/// Host, name and namespace of a service, which metrics are labelled with.
pub(super) fn service_facts(service: &Service) -> wkt::Value {
    let name = match service.registry {
        Registry::Kubernetes => service.name(),
        Registry::External => service.hostname.as_str(),
    };
    pb::object(pb::structure([("host", pb::text(service.hostname.as_str())), ("name", pb::text(name)), ("namespace", pb::text(service.namespace()))]))
}
