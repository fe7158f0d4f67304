//! Outbound routes of a sidecar: one configuration for each HTTP port, and one for each sniffed service port.
//!
//! - Reads: visible services, VirtualServices of the mesh gateway.
//! - Rule: of several VirtualServices for a service the one with the most specific host wins, then the oldest.
//! - Rule: a VirtualService host that is no service is served on ports where the rule has services, else on port 80.
//! - Not here: the routes of one rule (`http_route`).

use super::http_route::{self, Entry};
use super::operation_route::default_route;
use super::virtual_host::{VirtualHosts, domains, host_names, virtual_host};
use super::route_configuration;
use crate::View;
use crate::listener::route_name_of_service;
use lateen_base::{Host, names};
use lateen_envoy_api::envoy::config::route::v3::{Route, RouteConfiguration};
use lateen_istio_api::VirtualService;
use lateen_mesh::{Object, Protocol, Service};
use std::collections::{BTreeMap, BTreeSet};

/// Port at which hosts that are no services are served. Source: istiod.
const HTTP_PORT: u16 = 80;

/// A VirtualService with its resolved hosts.
struct Rule<'a> {
    object: &'a Object<VirtualService>,
    hosts: Vec<Host>,
}

/// All route configurations of a sidecar.
pub(super) fn routes(view: &View<'_>) -> Vec<RouteConfiguration> {
    let rules: Vec<Rule<'_>> = view
        .mesh_virtual_services()
        .filter(|object| !object.spec.http.is_empty())
        .map(|object| Rule { object, hosts: object.spec.hosts.iter().map(|h| view.resolve(h, &object.meta.namespace)).collect() })
        .collect();
    let mut by_port: BTreeMap<u16, Vec<&Service>> = BTreeMap::new();
    let mut listened: BTreeSet<u16> = BTreeSet::new();
    let mut all = Vec::new();
    for service in view.services.values() {
        for port in service.ports.iter().filter(|p| p.protocol.is_http() || p.protocol == Protocol::Auto) {
            by_port.entry(port.number).or_default().push(service);
            let told_apart_by_address = port.protocol == Protocol::Auto && (service.headless || service.single_addresses().next().is_some());
            if told_apart_by_address {
                all.push(of_service(view, &rules, service, port.number));
            } else {
                listened.insert(port.number);
            }
        }
    }
    all.extend(listened.iter().map(|port| of_port(view, &rules, *port, by_port.get(port).map_or(&[], Vec::as_slice))));
    all
}

/// Routes of a sniffed service port: the address already told which service is meant.
fn of_service(view: &View<'_>, rules: &[Rule<'_>], service: &Service, port: u16) -> RouteConfiguration {
    let name = route_name_of_service(&service.hostname, port);
    let routes = service_routes(view, rule_of(rules, service), service, port);
    route_configuration(name.clone(), vec![virtual_host(name, vec!["*".to_owned()], routes)])
}

/// Routes of an HTTP port, told apart by authority.
fn of_port(view: &View<'_>, rules: &[Rule<'_>], port: u16, services: &[&Service]) -> RouteConfiguration {
    let mut hosts = VirtualHosts::default();
    for rule in rules {
        let own: Vec<&&Service> = services.iter().filter(|s| rule_of(rules, s).is_some_and(|r| std::ptr::eq(r, rule))).collect();
        for service in &own {
            hosts.add(format!("{}:{port}", service.hostname), domains(view, service), service_routes(view, Some(rule), service, port));
        }
        if !own.is_empty() || port == HTTP_PORT {
            add_bare_hosts(view, rule, port, services, &mut hosts);
        }
    }
    for service in services.iter().filter(|s| rule_of(rules, s).is_none()) {
        hosts.add(format!("{}:{port}", service.hostname), domains(view, service), vec![default_route(view, service, port)]);
    }
    route_configuration(port.to_string(), hosts.finish(view))
}

/// Virtual hosts for a rule's hosts that are no service on this port.
fn add_bare_hosts(view: &View<'_>, rule: &Rule<'_>, port: u16, services: &[&Service], hosts: &mut VirtualHosts) {
    for host in &rule.hosts {
        let is_service = services.iter().any(|s| host.covers(&s.hostname));
        if is_service {
            continue;
        }
        let routes = http_route::routes(view, rule.object, Entry { gateway: names::MESH_GATEWAY, port });
        if routes.is_empty() {
            continue;
        }
        let known_elsewhere = view.service(host).is_some();
        let names = if known_elsewhere || host.is_wildcard() { vec![host.as_str().to_owned()] } else { host_names(view, host) };
        hosts.add(format!("{host}:{port}"), names, routes);
    }
}

fn service_routes(view: &View<'_>, rule: Option<&Rule<'_>>, service: &Service, port: u16) -> Vec<Route> {
    let routes = rule.map(|rule| http_route::routes(view, rule.object, Entry { gateway: names::MESH_GATEWAY, port })).unwrap_or_default();
    // A rule whose every match is for other sources or gateways says nothing about this service.
    if routes.is_empty() { vec![default_route(view, service, port)] } else { routes }
}

/// The rule that decides for a service: most specific host first, then oldest.
fn rule_of<'a, 'b>(rules: &'b [Rule<'a>], service: &Service) -> Option<&'b Rule<'a>> {
    let best = |rule: &Rule<'_>| rule.hosts.iter().filter(|h| h.covers(&service.hostname)).map(Host::specificity).max();
    let mut found: Option<(&Rule<'_>, (bool, usize))> = None;
    for rule in rules {
        if let Some(specificity) = best(rule)
            && found.is_none_or(|(_, best)| specificity > best)
        {
            found = Some((rule, specificity));
        }
    }
    found.map(|(rule, _)| rule)
}
