//! Gateway routes: what an edge proxy does with a request, by the host it asks for.
//!
//! - Reads: Gateways that select the proxy, VirtualServices bound to them.
//! - Rule: a host gets routes only where a server and a rule both name it; any other host finds no route (404, flag `NR`).
//! - Rule: rules for one host are merged, oldest first, with their catch-all routes last.
//! - Rule: `httpsRedirect` answers 301 before any route is looked at.
//! - Not here: listeners (`listener/gateway.rs`).

use super::http_route::{self, Entry, is_catch_all};
use super::route_configuration;
use super::virtual_host::virtual_host;
use crate::View;
use crate::listener::{GatewayServer, gateway_servers};
use lateen_base::Host;
use lateen_envoy_api::envoy::config::route::v3::{RouteConfiguration, VirtualHost, virtual_host::TlsRequirementType};
use std::collections::BTreeMap;

/// All route configurations of a gateway.
pub(super) fn routes(view: &View<'_>) -> Vec<RouteConfiguration> {
    let mut by_name: BTreeMap<String, Vec<GatewayServer<'_>>> = BTreeMap::new();
    for server in gateway_servers(view).into_iter().filter(GatewayServer::is_http) {
        by_name.entry(server.route_name()).or_default().push(server);
    }
    by_name.into_iter().map(|(name, servers)| configuration(view, name, &servers)).collect()
}

fn configuration(view: &View<'_>, name: String, servers: &[GatewayServer<'_>]) -> RouteConfiguration {
    let mut hosts: BTreeMap<Host, VirtualHost> = BTreeMap::new();
    for server in servers {
        add_rules(view, server, &mut hosts);
        if redirects(server) {
            for host in server.hosts() {
                let entry = hosts.entry(host.clone()).or_insert_with(|| new_host(&host, server));
                entry.require_tls = TlsRequirementType::All as i32;
            }
        }
    }
    for host in hosts.values_mut() {
        host.routes.sort_by_key(is_catch_all);
    }
    let mut virtual_hosts: Vec<VirtualHost> = hosts.into_values().collect();
    if virtual_hosts.is_empty() {
        let port = servers.first().map_or(0, |s| s.port);
        virtual_hosts.push(VirtualHost { name: format!("blackhole:{port}"), domains: vec!["*".to_owned()], ..Default::default() });
    }
    route_configuration(name, virtual_hosts)
}

fn add_rules(view: &View<'_>, server: &GatewayServer<'_>, hosts: &mut BTreeMap<Host, VirtualHost>) {
    let gateway = server.gateway_name();
    for rule in view.snapshot.virtual_services(&gateway, &view.proxy.namespace).filter(|r| !r.spec.http.is_empty()) {
        let entry = Entry { gateway: &gateway, port: server.port };
        let routes = http_route::routes(view, rule, entry);
        if routes.is_empty() {
            continue;
        }
        let named = rule.spec.hosts.iter().map(|h| view.resolve(h, &rule.meta.namespace));
        for host in named.flat_map(|h| server.serves(&h, &rule.meta.namespace)) {
            let virtual_host = hosts.entry(host.clone()).or_insert_with(|| new_host(&host, server));
            for route in &routes {
                if !virtual_host.routes.contains(route) {
                    virtual_host.routes.push(route.clone());
                }
            }
            if redirects(server) {
                virtual_host.require_tls = TlsRequirementType::All as i32;
            }
        }
    }
}

fn new_host(host: &Host, server: &GatewayServer<'_>) -> VirtualHost {
    virtual_host(format!("{host}:{}", server.port), vec![host.as_str().to_owned()], Vec::new())
}

fn redirects(server: &GatewayServer<'_>) -> bool {
    server.server.tls.as_ref().is_some_and(|tls| tls.https_redirect)
}
