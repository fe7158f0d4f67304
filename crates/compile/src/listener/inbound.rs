//! `virtualInbound`: every connection that reaches a workload, whatever its port.
//!
//! - Reads: the workload's ports, PeerAuthentication, the policies that select it.
//! - Twin: `proxy/src/listener/match.rs`, which picks the chain; `kinds/src/peer_authentication/mod.rs`.
//! - Rule: PERMISSIVE has chains for mTLS (by the ALPN that only sidecars offer) and for plaintext; STRICT only the first, DISABLE only the second.
//! - Rule: a connection to 15006 itself is dropped, or it would come back for ever.
//! - Not here: outbound (`outbound`), the workload's clusters (`cluster/inbound.rs`).

use super::filter_chain::{self, Sniffing, PLAINTEXT_HTTP, RAW_BUFFER, TLS, protocol_match, tcp_filters, to_cluster};
use super::http_connection_manager::{Routes, http_connection_manager};
use super::outbound::WILDCARD;
use super::policy::Policies;
use super::tls::{mesh_tls, server_tls};
use crate::filter_order::Stack;
use crate::route::inbound_routes;
use crate::view::InboundPort;
use crate::{View, access_log, pb};
use lateen_base::{names, ports};
use lateen_envoy_api::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use lateen_envoy_api::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter};
use lateen_mesh::{MtlsMode, Protocol};

/// ALPN of HTTP between sidecars.
const MTLS_HTTP: [&str; 3] = [names::ALPN_ISTIO_HTTP10, names::ALPN_ISTIO_HTTP11, names::ALPN_ISTIO_H2];
/// ALPN of TCP between sidecars.
const MTLS_TCP: [&str; 2] = [names::ALPN_PEER_EXCHANGE, names::ALPN_ISTIO];
/// ALPN of anything between sidecars.
const MTLS_ANY: [&str; 5] = [names::ALPN_ISTIO, names::ALPN_PEER_EXCHANGE, names::ALPN_ISTIO_HTTP10, names::ALPN_ISTIO_HTTP11, names::ALPN_ISTIO_H2];

/// What a chain does with the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Http,
    Tcp,
}

/// One row of the tables below: what the connection looks like, whether TLS ends here, what it carries.
type Row = (&'static str, &'static [&'static str], bool, Content);

/// The chains for one protocol and mTLS mode. Source: istiod's `virtualInbound`.
fn rows(mode: MtlsMode, protocol: Protocol) -> &'static [Row] {
    use Content::{Http, Tcp};
    if protocol.is_http() {
        return match mode {
            MtlsMode::Permissive => &[(TLS, &MTLS_ANY, true, Http), (RAW_BUFFER, &[], false, Http)],
            MtlsMode::Strict => &[(TLS, &[], true, Http)],
            MtlsMode::Disable => &[(RAW_BUFFER, &[], false, Http)],
        };
    }
    match (protocol == Protocol::Auto, mode) {
        (true, MtlsMode::Permissive) => &[
            (TLS, &MTLS_HTTP, true, Http),
            (RAW_BUFFER, &PLAINTEXT_HTTP, false, Http),
            (TLS, &MTLS_TCP, true, Tcp),
            (RAW_BUFFER, &[], false, Tcp),
            (TLS, &[], false, Tcp),
        ],
        (true, MtlsMode::Strict) => &[(TLS, &MTLS_HTTP, true, Http), (TLS, &[], true, Tcp)],
        (true, MtlsMode::Disable) => &[(RAW_BUFFER, &PLAINTEXT_HTTP, false, Http), (RAW_BUFFER, &[], false, Tcp)],
        (false, MtlsMode::Permissive) => &[(TLS, &MTLS_TCP, true, Tcp), (RAW_BUFFER, &[], false, Tcp), (TLS, &[], false, Tcp)],
        (false, MtlsMode::Strict) => &[(TLS, &[], true, Tcp)],
        (false, MtlsMode::Disable) => &[(RAW_BUFFER, &[], false, Tcp)],
    }
}

/// The listener all redirected inbound connections arrive at.
pub(super) fn virtual_inbound(view: &View<'_>) -> Listener {
    let policies = Policies::of(view);
    let (namespace, labels) = (&view.proxy.namespace, &view.proxy.labels);
    let catch_all = view.snapshot.mtls_mode_default(namespace, labels);
    let mut filter_chains = vec![black_hole(view)];
    filter_chains.extend(catch_all_chains(view, None, catch_all, &policies));
    let mut sniffed = Vec::new();
    for port in undeclared_ports(view) {
        let mode = view.snapshot.mtls_mode(namespace, labels, port);
        if mode != catch_all {
            filter_chains.extend(catch_all_chains(view, Some(port), mode, &policies));
            sniffed.push((port, Protocol::Auto, mode));
        }
    }
    for port in &view.inbound {
        let mode = view.snapshot.mtls_mode(namespace, labels, port.port);
        match own_tls(view, port, mode) {
            Some(tls) => {
                sniffed.push((port.port, port.protocol, MtlsMode::Strict));
                filter_chains.push(own_tls_chain(view, port, tls, &policies));
            }
            None => {
                sniffed.push((port.port, port.protocol, mode));
                filter_chains.extend(port_chains(view, port, mode, &policies));
            }
        }
    }
    Listener {
        name: names::VIRTUAL_INBOUND.to_owned(),
        address: Some(pb::address(WILDCARD, ports::INBOUND)),
        filter_chains,
        listener_filters: listener_filters(catch_all, &sniffed),
        listener_filters_timeout: pb::duration(view.config().protocol_detection_timeout),
        continue_on_listener_filters_timeout: true,
        traffic_direction: TrafficDirection::Inbound as i32,
        max_connections_to_accept_per_socket_event: pb::uint(1),
        access_log: access_log::listener_logs(view),
        ..Default::default()
    }
}

fn black_hole(view: &View<'_>) -> FilterChain {
    FilterChain {
        filter_chain_match: Some(FilterChainMatch { destination_port: pb::uint(u32::from(ports::INBOUND)), ..Default::default() }),
        filters: tcp_filters(view, Stack::Inbound, &[], to_cluster(names::BLACK_HOLE_CLUSTER)),
        name: "virtualInbound-blackhole".to_owned(),
        ..Default::default()
    }
}

/// Ports that the workload's PeerAuthentication speaks of though no service declares them.
fn undeclared_ports(view: &View<'_>) -> Vec<u16> {
    let [workload, _, _] = view.snapshot.peer_authentications_of(&view.proxy.namespace, &view.proxy.labels);
    let named = workload.into_iter().flat_map(|policy| policy.spec.port_level_mtls.keys());
    named.filter_map(|port| u16::try_from(*port).ok()).filter(|port| view.inbound.iter().all(|p| p.port != *port)).collect()
}

/// TLS that a Sidecar ingress listener ends with certificates of its own; only where mesh TLS is off.
fn own_tls(view: &View<'_>, port: &InboundPort<'_>, mode: MtlsMode) -> Option<TransportSocket> {
    let settings = port.ingress?.tls.as_ref().filter(|_| mode == MtlsMode::Disable)?;
    server_tls(view, settings)
}

fn own_tls_chain(view: &View<'_>, port: &InboundPort<'_>, tls: TransportSocket, policies: &Policies) -> FilterChain {
    let content = if port.protocol.is_http() || port.protocol == Protocol::Https { Content::Http } else { Content::Tcp };
    FilterChain { transport_socket: Some(tls), ..port_chain(view, port, &(TLS, &[], false, content), policies) }
}

/// Chains for ports that no service declares: for all of them, or for one.
fn catch_all_chains(view: &View<'_>, port: Option<u16>, mode: MtlsMode, policies: &Policies) -> Vec<FilterChain> {
    let cluster = names::INBOUND_PASSTHROUGH_CLUSTER;
    let chain = |row: &Row| {
        let (filters, name) = match row.3 {
            Content::Http => {
                let routes = Routes::Inline(Box::new(inbound_routes(cluster, cluster, 0, "")));
                (vec![http_connection_manager(view, Stack::Inbound, cluster, routes, &policies.http)], "virtualInbound-catchall-http")
            }
            Content::Tcp => (tcp_filters(view, Stack::Inbound, &policies.network, to_cluster(cluster)), names::VIRTUAL_INBOUND),
        };
        filter_chain(view, row, port, filters, name.to_owned())
    };
    rows(mode, Protocol::Auto).iter().map(chain).collect()
}

/// Chains for one declared port.
fn port_chains(view: &View<'_>, port: &InboundPort<'_>, mode: MtlsMode, policies: &Policies) -> Vec<FilterChain> {
    rows(mode, port.protocol).iter().map(|row| port_chain(view, port, row, policies)).collect()
}

fn port_chain(view: &View<'_>, port: &InboundPort<'_>, row: &Row, policies: &Policies) -> FilterChain {
    let cluster = names::inbound_cluster(port.port);
    let bind = match (port.ingress, view.proxy.ip_addresses.first()) {
        (Some(ingress), _) if !ingress.bind.is_empty() => ingress.bind.as_str(),
        (Some(_), Some(address)) => address.as_str(),
        (Some(_) | None, _) => WILDCARD,
    };
    let declared = port.ingress.and(view.sidecar);
    let (host, service_port) = match (declared, port.services.first()) {
        (Some(sidecar), _) => (format!("{}.{}", sidecar.meta.name, sidecar.meta.namespace), port.port),
        (None, Some((service, service_port))) => (service.hostname.to_string(), service_port.number),
        (None, None) => (String::new(), port.port),
    };
    let filters = match row.3 {
        Content::Http => {
            let routes = Routes::Inline(Box::new(inbound_routes(&cluster, &cluster, service_port, &host)));
            vec![http_connection_manager(view, Stack::Inbound, &format!("inbound_{bind}_{}", port.port), routes, &policies.http)]
        }
        Content::Tcp => tcp_filters(view, Stack::Inbound, &policies.network, to_cluster(&cluster)),
    };
    let metadata = declared.and_then(|sidecar| pb::config_metadata("sidecar", &sidecar.meta));
    FilterChain { metadata, ..filter_chain(view, row, Some(port.port), filters, format!("{bind}_{}", port.port)) }
}

fn filter_chain(view: &View<'_>, (transport, application, tls, _): &Row, port: Option<u16>, filters: Vec<Filter>, name: String) -> FilterChain {
    let matches = FilterChainMatch { destination_port: port.and_then(|p| pb::uint(u32::from(p))), ..protocol_match(transport, application) };
    FilterChain { filter_chain_match: Some(matches), filters, transport_socket: tls.then(|| mesh_tls(view)), name, ..Default::default() }
}

/// Sniffing, only on ports where the chains depend on it: elsewhere it would delay protocols in which the server speaks first.
fn listener_filters(catch_all: MtlsMode, ports: &[(u16, Protocol, MtlsMode)]) -> Vec<ListenerFilter> {
    let mut filters = vec![filter_chain::original_dst()];
    let tls = |_: Protocol, mode: MtlsMode| mode != MtlsMode::Disable;
    filters.extend(sniffing(tls, catch_all, ports).map(|on| filter_chain::tls_inspector(&on)));
    let http = |protocol: Protocol, mode: MtlsMode| protocol == Protocol::Auto && mode != MtlsMode::Strict;
    filters.extend(sniffing(http, catch_all, ports).map(|on| filter_chain::http_inspector(&on)));
    filters
}

/// On which ports to sniff; `None` for none.
fn sniffing(needed: impl Fn(Protocol, MtlsMode) -> bool, catch_all: MtlsMode, ports: &[(u16, Protocol, MtlsMode)]) -> Option<Sniffing> {
    let split = |wanted: bool| -> Vec<u16> { ports.iter().filter(|(_, protocol, mode)| needed(*protocol, *mode) == wanted).map(|(port, ..)| *port).collect() };
    if needed(Protocol::Auto, catch_all) {
        let mut off = split(false);
        off.push(lateen_base::ports::INBOUND);
        off.sort_unstable();
        return Some(Sniffing::AllBut(off));
    }
    let on = split(true);
    (!on.is_empty()).then_some(Sniffing::Only(on))
}
