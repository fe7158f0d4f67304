//! Gateway listeners: the ports an edge proxy opens, merged from every Gateway that selects it.
//!
//! - Reads: Gateways, the gateway workload's own Service (which port leads to which), `VirtualService.tcp[]`, `tls[]`.
//! - Twin: `kinds/src/gateway/`, which validates them.
//! - Rule: a server's port is bound as the target port of the gateway's Service, so 80 becomes 8080 where the Service says so.
//! - Rule: plain HTTP servers on one port share a listener and the routes `http.PORT`; HTTPS servers are chains by server name.
//! - Limits: on one port the first server's kind (HTTP or not) wins; `AUTO_PASSTHROUGH` is not lowered.
//! - Not here: HTTP routes (`route/gateway.rs`).

use super::filter_chain::{Sniffing, chain, named_tcp_filters, tls_inspector};
use super::http_connection_manager::{Routes, http_connection_manager};
use super::outbound::WILDCARD;
use super::policy::Policies;
use super::tcp_route::{self, Entry, TcpRoute};
use super::tls::server_tls;
use crate::filter_order::Stack;
use crate::{View, access_log, pb};
use lateen_base::Host;
use lateen_envoy_api::envoy::config::core::v3::TrafficDirection;
use lateen_envoy_api::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use lateen_istio_api::{Gateway, Server, ServerTLSMode};
use lateen_mesh::{Object, Protocol, TargetPort};
use std::collections::BTreeMap;

/// One server of one Gateway, with what its port means for this proxy.
#[derive(Clone)]
pub(crate) struct GatewayServer<'a> {
    /// The Gateway.
    pub gateway: &'a Object<Gateway>,
    /// The server.
    pub server: &'a Server,
    /// Port number that rules name.
    pub port: u16,
    /// Port the proxy binds.
    pub bind_port: u16,
    /// What it speaks.
    pub protocol: Protocol,
}

impl GatewayServer<'_> {
    /// `namespace/name` of the Gateway.
    pub(crate) fn gateway_name(&self) -> String {
        format!("{}/{}", self.gateway.meta.namespace, self.gateway.meta.name)
    }

    /// Address the listener is bound to.
    fn address(&self) -> &str {
        if self.server.bind.is_empty() { WILDCARD } else { &self.server.bind }
    }

    /// Whether requests are seen: HTTP, or HTTPS that ends here.
    pub(crate) fn is_http(&self) -> bool {
        self.protocol.is_http() || self.ends_https()
    }

    fn ends_https(&self) -> bool {
        self.protocol == Protocol::Https && self.mode().is_some_and(|m| !matches!(m, ServerTLSMode::Passthrough | ServerTLSMode::AutoPassthrough))
    }

    fn mode(&self) -> Option<ServerTLSMode> {
        self.server.tls.as_ref().map(|tls| tls.mode)
    }

    /// Name of the routes of an HTTP server.
    pub(crate) fn route_name(&self) -> String {
        if self.protocol.is_http() {
            return format!("http.{}", self.bind_port);
        }
        let name = self.server.port.as_ref().map(|p| p.name.as_str()).unwrap_or_default();
        format!("https.{}.{name}.{}.{}", self.port, self.gateway.meta.name, self.gateway.meta.namespace)
    }

    /// Hosts without their namespace part.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = Host> {
        self.server.hosts.iter().map(|h| Host::new(h.split_once('/').map_or(h.as_str(), |(_, host)| host)))
    }

    /// The part of a rule's host that this server serves to rules of `namespace`; several when either is a wildcard.
    pub(crate) fn serves(&self, rule_host: &Host, namespace: &str) -> Vec<Host> {
        let mut served = Vec::new();
        for entry in &self.server.hosts {
            let (of, host) = entry.split_once('/').unwrap_or(("*", entry));
            let allowed = match of {
                "*" => true,
                "." => namespace == self.gateway.meta.namespace,
                other => other == namespace,
            };
            let host = Host::new(host);
            if allowed && host.covers(rule_host) {
                served.push(rule_host.clone());
            } else if allowed && rule_host.covers(&host) {
                served.push(host);
            }
        }
        served.dedup();
        served
    }
}

/// The servers of every Gateway that selects this proxy, in order of Gateway age.
pub(crate) fn gateway_servers<'a>(view: &View<'a>) -> Vec<GatewayServer<'a>> {
    let of_gateway = |gateway: &'a Object<Gateway>| {
        gateway.spec.servers.iter().filter_map(move |server| {
            let declared = server.port.as_ref()?;
            let port = u16::try_from(declared.number).ok()?;
            let protocol = Protocol::parse(&declared.protocol)?;
            Some(GatewayServer { gateway, server, port, bind_port: port, protocol })
        })
    };
    let mut servers: Vec<GatewayServer<'a>> = view.snapshot.gateways_of(view.proxy).flat_map(of_gateway).collect();
    for server in &mut servers {
        server.bind_port = bind_port(view, server.port);
    }
    servers
}

/// The target port of the gateway's own Service for `port`; the port itself when no Service says.
fn bind_port(view: &View<'_>, port: u16) -> u16 {
    let workload = view.proxy.ip_addresses.iter().find_map(|a| view.snapshot.workload_at(a));
    let targets = view.snapshot.services_of(view.proxy).into_iter().filter_map(|service| service.port(port));
    let number = |target: &TargetPort| match target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => workload?.ports.get(name).copied(),
    };
    targets.filter_map(|p| number(&p.target)).next().unwrap_or(port)
}

/// One listener for each address and port.
pub(super) fn listeners(view: &View<'_>) -> Vec<Listener> {
    let mut by_port: BTreeMap<(String, u16), Vec<GatewayServer<'_>>> = BTreeMap::new();
    for server in gateway_servers(view) {
        by_port.entry((server.address().to_owned(), server.bind_port)).or_default().push(server);
    }
    let policies = Policies::of(view);
    by_port.into_iter().filter_map(|((address, port), servers)| listener(view, (&address, port), &servers, &policies)).collect()
}

fn listener(view: &View<'_>, (address, port): (&str, u16), servers: &[GatewayServer<'_>], policies: &Policies) -> Option<Listener> {
    let plain = servers.first()?.protocol.is_http();
    let mut filter_chains = Vec::new();
    if plain {
        filter_chains.push(http_chain(view, servers.first()?, policies));
    } else {
        let mut plain_taken = false;
        for server in servers.iter().filter(|s| !s.protocol.is_http()) {
            // Bytes without a server name cannot be told apart: the first server gets them.
            if !server.protocol.is_tls() && std::mem::replace(&mut plain_taken, true) {
                continue;
            }
            let found = if server.is_http() { vec![http_chain(view, server, policies)] } else { tcp_chains(view, server, policies) };
            let taken: Vec<_> = filter_chains.iter().map(|c: &FilterChain| c.filter_chain_match.clone()).collect();
            filter_chains.extend(found.into_iter().filter(|c| !taken.contains(&c.filter_chain_match)));
        }
    }
    let tls = servers.iter().any(|s| s.protocol.is_tls()) && !plain;
    (!filter_chains.is_empty()).then(|| Listener {
        name: format!("{address}_{port}"),
        address: Some(pb::address(address, port)),
        filter_chains,
        listener_filters: if tls { vec![tls_inspector(&Sniffing::ALL)] } else { Vec::new() },
        traffic_direction: TrafficDirection::Outbound as i32,
        max_connections_to_accept_per_socket_event: pb::uint(1),
        access_log: access_log::listener_logs(view),
        ..Default::default()
    })
}

fn http_chain(view: &View<'_>, server: &GatewayServer<'_>, policies: &Policies) -> FilterChain {
    let prefix = format!("outbound_{}_{}", server.address(), server.bind_port);
    let manager = http_connection_manager(view, Stack::Gateway, &prefix, Routes::Rds(server.route_name()), &policies.http);
    let tls = server.server.tls.as_ref().filter(|_| server.ends_https()).and_then(|tls| server_tls(view, tls));
    let matches = tls.is_some().then(|| server_names(server)).flatten();
    FilterChain { transport_socket: tls, ..chain(matches, vec![manager]) }
}

fn server_names(server: &GatewayServer<'_>) -> Option<FilterChainMatch> {
    let names: Vec<String> = server.hosts().map(|h| h.to_string()).collect();
    (!names.iter().any(|n| n == "*")).then(|| FilterChainMatch { server_names: names, ..Default::default() })
}

fn tcp_chains(view: &View<'_>, server: &GatewayServer<'_>, policies: &Policies) -> Vec<FilterChain> {
    let name = server.gateway_name();
    let entry = Entry { gateway: &name, port: server.port };
    let ends_tls = server.server.tls.as_ref().and_then(|tls| server_tls(view, tls));
    let passthrough = server.protocol.is_tls() && ends_tls.is_none();
    let mut routes: Vec<TcpRoute> = Vec::new();
    for rule in view.snapshot.virtual_services(&name, &view.proxy.namespace) {
        let served = rule.spec.hosts.iter().any(|h| !server.serves(&Host::new(h), &rule.meta.namespace).is_empty());
        if !served {
            continue;
        }
        if server.protocol.is_tls() {
            routes.extend(tcp_route::tls_routes(view, rule, entry));
        }
        if !passthrough {
            routes.extend(tcp_route::tcp_routes(view, rule, entry));
        }
    }
    let each = |route: TcpRoute| {
        let matches = if ends_tls.is_some() && route.matches.is_none() { server_names(server) } else { route.matches };
        let filters = named_tcp_filters(view, (Stack::Gateway, &policies.network), &route.stat_prefix, route.target);
        FilterChain { transport_socket: ends_tls.clone(), ..chain(matches, filters) }
    };
    routes.into_iter().map(each).collect()
}
