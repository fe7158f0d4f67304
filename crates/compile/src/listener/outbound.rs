//! Outbound listeners of a sidecar: what a call to a service or to anybody else becomes.
//!
//! - Reads: visible services and their ports; `VirtualService.tcp[]`, `tls[]`.
//! - Twin: `proxy/src/listener/original_dst.rs`, which hands connections to these listeners.
//! - Rule: HTTP ports share `0.0.0.0_PORT`, told apart by authority; other ports are told apart by address, `VIP_PORT`.
//! - Rule: a port of unknown protocol is sniffed: HTTP goes to routes named `FQDN:PORT`, the rest straight to its cluster.
//! - Limits: on one address and port the first service wins; TLS services without an address share by server name.
//! - Not here: routes (`route/outbound.rs`).

use super::filter_chain::{self, Sniffing, PLAINTEXT_HTTP, RAW_BUFFER, chain, named_tcp_filters, passthrough_chain, passthrough_cluster, protocol_match, tcp_filters, to_cluster};
use super::http_connection_manager::{Routes, http_connection_manager};
use super::tcp_route::{self, Entry, TcpRoute};
use crate::filter_order::Stack;
use crate::{View, access_log, pb};
use lateen_base::{Host, names, ports};
use lateen_envoy_api::envoy::config::core::v3::TrafficDirection;
use lateen_envoy_api::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use lateen_mesh::{Health, Protocol, Registry, Resolution, Service, ServicePort};
use std::collections::BTreeMap;

/// Address that means "any".
pub(super) const WILDCARD: &str = "0.0.0.0";

/// What has been put together for one address and port.
#[derive(Default)]
struct Build {
    /// Name of the routes of plaintext HTTP, if HTTP is expected.
    http_routes: Option<String>,
    /// Chains told apart by server name or address range.
    special: Vec<FilterChain>,
    /// What a connection gets that fits nothing else.
    rest: Option<FilterChain>,
}

/// Listeners by address and port.
type Builds = BTreeMap<(String, u16), Build>;

/// Listeners for every visible service.
pub(super) fn listeners(view: &View<'_>) -> Vec<Listener> {
    let mut builds = Builds::new();
    for service in view.services.values() {
        for port in &service.ports {
            add_port(view, service, port, &mut builds);
        }
    }
    builds.into_iter().map(|((address, port), build)| listener(view, &address, port, build)).collect()
}

/// Name of the routes of a sniffed port.
pub(crate) fn route_name_of_service(host: &Host, port: u16) -> String {
    format!("{host}:{port}")
}

fn add_port(view: &View<'_>, service: &Service, port: &ServicePort, builds: &mut Builds) {
    match port.protocol {
        Protocol::Udp => {}
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => {
            builds.entry((WILDCARD.to_owned(), port.number)).or_default().http_routes = Some(port.number.to_string());
        }
        Protocol::Auto | Protocol::Https | Protocol::Tls | Protocol::Tcp | Protocol::Mongo | Protocol::MySql | Protocol::Redis => {
            let addresses = listen_addresses(view, service);
            if addresses.is_empty() {
                return add_without_address(view, service, port, builds);
            }
            for address in addresses {
                add_at_address(view, service, port, builds.entry((address, port.number)).or_default());
            }
        }
    }
}

/// Addresses a service is told apart by: its virtual ones, or its endpoints' when it is headless.
fn listen_addresses(view: &View<'_>, service: &Service) -> Vec<String> {
    if service.headless && service.registry == Registry::Kubernetes && service.resolution == Resolution::Passthrough {
        let others = service.endpoints.iter().filter(|e| e.health == Health::Healthy && !view.proxy.ip_addresses.contains(&e.address));
        return others.map(|e| e.address.clone()).collect();
    }
    service.single_addresses().map(str::to_owned).collect()
}

fn add_at_address(view: &View<'_>, service: &Service, port: &ServicePort, build: &mut Build) {
    if build.rest.is_some() {
        return;
    }
    if port.protocol == Protocol::Auto {
        build.http_routes = Some(route_name_of_service(&service.hostname, port.number));
    }
    let routes = rules(view, service, port);
    let mut rest = None;
    for route in routes {
        if route.matches.is_some() {
            build.special.push(route_chain(view, route));
        } else {
            rest.get_or_insert(route_chain(view, route));
        }
    }
    let own = || chain(None, tcp_filters(view, Stack::Outbound, &[], to_cluster(&cluster(service, port))));
    build.rest = Some(rest.unwrap_or_else(own));
}

fn add_without_address(view: &View<'_>, service: &Service, port: &ServicePort, builds: &mut Builds) {
    if service.headless {
        return;
    }
    let build = builds.entry((WILDCARD.to_owned(), port.number)).or_default();
    if port.protocol == Protocol::Auto {
        build.http_routes = Some(port.number.to_string());
        return;
    }
    let routes = rules(view, service, port);
    let to_service = |matches| chain(matches, tcp_filters(view, Stack::Outbound, &[], to_cluster(&cluster(service, port))));
    if port.protocol.is_tls() {
        let by_name = FilterChainMatch { server_names: vec![service.hostname.as_str().to_owned()], ..Default::default() };
        let chains: Vec<FilterChain> = if routes.is_empty() { vec![to_service(Some(by_name))] } else { routes.into_iter().map(|r| route_chain(view, r)).collect() };
        let taken: Vec<Option<FilterChainMatch>> = build.special.iter().map(|c| c.filter_chain_match.clone()).collect();
        build.special.extend(chains.into_iter().filter(|c| !taken.contains(&c.filter_chain_match)));
        return;
    }
    let ranges: Vec<_> = service.addresses.iter().filter_map(|a| tcp_route::cidr(a)).collect();
    if !ranges.is_empty() {
        build.special.push(to_service(Some(FilterChainMatch { prefix_ranges: ranges, ..Default::default() })));
    } else if build.rest.is_none() {
        build.rest = Some(routes.into_iter().next().map_or_else(|| to_service(None), |r| route_chain(view, r)));
    }
}

fn cluster(service: &Service, port: &ServicePort) -> String {
    names::outbound_cluster(port.number, "", service.hostname.as_str())
}

/// Ways that the VirtualServices for this service give its connections.
fn rules(view: &View<'_>, service: &Service, port: &ServicePort) -> Vec<TcpRoute> {
    let entry = Entry { gateway: names::MESH_GATEWAY, port: port.number };
    let covers = |host: &String, namespace: &str| view.resolve(host, namespace).covers(&service.hostname);
    view.mesh_virtual_services()
        .filter(|rule| rule.spec.hosts.iter().any(|h| covers(h, &rule.meta.namespace)))
        .flat_map(|rule| {
            let mut routes = if port.protocol.is_tls() { tcp_route::tls_routes(view, rule, entry) } else { Vec::new() };
            routes.extend(tcp_route::tcp_routes(view, rule, entry));
            routes
        })
        .collect()
}

fn route_chain(view: &View<'_>, route: TcpRoute) -> FilterChain {
    let filters = named_tcp_filters(view, (Stack::Outbound, &[]), &route.stat_prefix, route.target);
    FilterChain { metadata: route.metadata, ..chain(route.matches, filters) }
}

fn listener(view: &View<'_>, address: &str, port: u16, build: Build) -> Listener {
    let mut listener_filters = Vec::new();
    if build.special.iter().any(|c| c.filter_chain_match.as_ref().is_some_and(|m| !m.server_names.is_empty())) {
        listener_filters.push(filter_chain::tls_inspector(&Sniffing::ALL));
    }
    let mut filter_chains = build.special;
    let default_filter_chain = match build.http_routes {
        Some(routes) => {
            listener_filters.push(filter_chain::http_inspector(&Sniffing::ALL));
            let manager = http_connection_manager(view, Stack::Outbound, &format!("outbound_{address}_{port}"), Routes::Rds(routes), &[]);
            filter_chains.push(chain(Some(protocol_match(RAW_BUFFER, &PLAINTEXT_HTTP)), vec![manager]));
            let to_anybody = address == WILDCARD;
            Some(build.rest.filter(|_| !to_anybody).unwrap_or_else(|| passthrough_chain(view)))
        }
        None if filter_chains.is_empty() => {
            filter_chains.extend(build.rest);
            None
        }
        None => Some(build.rest.unwrap_or_else(|| passthrough_chain(view))),
    };
    Listener {
        name: format!("{address}_{port}"),
        address: Some(pb::address(address, port)),
        filter_chains,
        default_filter_chain,
        listener_filters,
        listener_filters_timeout: pb::duration(view.config().protocol_detection_timeout),
        continue_on_listener_filters_timeout: true,
        traffic_direction: TrafficDirection::Outbound as i32,
        bind_to_port: pb::boolean(false),
        ..Default::default()
    }
}

/// The listener all redirected outbound connections arrive at.
pub(super) fn virtual_outbound(view: &View<'_>) -> Listener {
    let loops = FilterChainMatch { destination_port: pb::uint(u32::from(ports::OUTBOUND)), ..Default::default() };
    Listener {
        name: names::VIRTUAL_OUTBOUND.to_owned(),
        address: Some(pb::address(WILDCARD, ports::OUTBOUND)),
        filter_chains: vec![
            FilterChain {
                filter_chain_match: Some(loops),
                filters: tcp_filters(view, Stack::Outbound, &[], to_cluster(names::BLACK_HOLE_CLUSTER)),
                name: "virtualOutbound-blackhole".to_owned(),
                ..Default::default()
            },
            FilterChain {
                filters: tcp_filters(view, Stack::Outbound, &[], to_cluster(passthrough_cluster(view))),
                name: "virtualOutbound-catchall-tcp".to_owned(),
                ..Default::default()
            },
        ],
        use_original_dst: pb::boolean(true),
        traffic_direction: TrafficDirection::Outbound as i32,
        max_connections_to_accept_per_socket_event: pb::uint(1),
        access_log: access_log::listener_logs(view),
        ..Default::default()
    }
}
