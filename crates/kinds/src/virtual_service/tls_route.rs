//! TLS and TCP routes: connections routed by server name, destination address and port, without looking inside.
//!
//! - Reads: `VirtualService.tls[]` and `tcp[]`.
//! - Twin: `compile/src/listener/`, which makes filter chains of them; `proxy/src/network/tcp_proxy.rs`.
//! - Rule: a TLS match needs `sniHosts`, each of which one of the VirtualService's hosts covers.

use lateen_base::{Host, names};
use lateen_istio_api::{L4MatchAttributes, RouteDestination, TCPRoute, TLSMatchAttributes, TLSRoute};
use std::collections::BTreeMap;

use super::destination;
use crate::check::{Check, is_ip_or_cidr};

/// Checks a TLS rule at `path`; `hosts` are the VirtualService's.
pub fn validate_tls(rule: &TLSRoute, hosts: &[String], path: &str, check: &mut Check<'_>) {
    if rule.r#match.is_empty() {
        check.error(format!("{path}.match"), "a TLS rule needs a match", "add match with sniHosts");
    }
    for (i, entry) in rule.r#match.iter().enumerate() {
        let path = format!("{path}.match[{i}]");
        if entry.sni_hosts.is_empty() {
            check.error(format!("{path}.sniHosts"), "the match has no server names", "add sniHosts");
        }
        for (j, sni) in entry.sni_hosts.iter().enumerate() {
            let path = format!("{path}.sniHosts[{j}]");
            if sni.parse::<std::net::IpAddr>().is_ok() {
                check.warn(path, format!("server names are never addresses, so \"{sni}\" matches nothing"), "use a host name");
                continue;
            }
            check.wildcard_host(&path, sni);
            if !hosts.iter().any(|host| Host::new(host).covers(&Host::new(sni))) {
                check.error(path, format!("server name \"{sni}\" is covered by none of the hosts"), "add it to spec.hosts");
            }
        }
        validate_l4(&l4_of_tls(entry), &path, check);
    }
    validate_routes(&rule.route, path, check);
}

/// Checks a TCP rule at `path`.
pub fn validate_tcp(rule: &TCPRoute, path: &str, check: &mut Check<'_>) {
    for (i, entry) in rule.r#match.iter().enumerate() {
        let path = format!("{path}.match[{i}]");
        validate_l4(entry, &path, check);
        if !entry.source_subnet.is_empty() && !is_ip_or_cidr(&entry.source_subnet) {
            check.error(format!("{path}.sourceSubnet"), format!("\"{}\" is no address block", entry.source_subnet), "use a form such as 10.1.0.0/16");
        }
    }
    validate_routes(&rule.route, path, check);
}

fn validate_l4(entry: &L4MatchAttributes, path: &str, check: &mut Check<'_>) {
    for (i, subnet) in entry.destination_subnets.iter().enumerate() {
        if !is_ip_or_cidr(subnet) {
            check.error(format!("{path}.destinationSubnets[{i}]"), format!("\"{subnet}\" is no address block"), "use a form such as 10.1.0.0/16");
        }
    }
    if entry.port > 65_535 {
        check.port(&format!("{path}.port"), entry.port);
    }
    check.labels(&format!("{path}.sourceLabels"), &entry.source_labels);
}

fn validate_routes(routes: &[RouteDestination], path: &str, check: &mut Check<'_>) {
    if routes.is_empty() {
        check.error(format!("{path}.route"), "the rule has no destination", "add route with a destination");
    }
    for (i, route) in routes.iter().enumerate() {
        match &route.destination {
            Some(target) => destination::validate(target, &format!("{path}.route[{i}].destination"), check),
            None => check.error(format!("{path}.route[{i}]"), "the route has no destination", "add destination.host"),
        }
    }
    let weights: Vec<i32> = routes.iter().map(|route| route.weight).collect();
    destination::validate_weights(&weights, &format!("{path}.route"), check);
}

/// The part of a TLS match that TCP matches have too.
#[must_use]
pub fn l4_of_tls(entry: &TLSMatchAttributes) -> L4MatchAttributes {
    L4MatchAttributes {
        destination_subnets: entry.destination_subnets.clone(),
        port: entry.port,
        source_subnet: String::new(),
        source_labels: entry.source_labels.clone(),
        gateways: entry.gateways.clone(),
        source_namespace: entry.source_namespace.clone(),
    }
}

/// Whether an entry is for a proxy with these labels, in this namespace, bound to `gateway` (`mesh` for sidecars), on this port.
#[must_use]
pub fn applies_to(entry: &L4MatchAttributes, labels: &BTreeMap<String, String>, namespace: &str, gateway: &str, port: u32) -> bool {
    let gateway_matches = entry.gateways.is_empty() || entry.gateways.iter().any(|name| name == gateway);
    let source_matches = gateway != names::MESH_GATEWAY
        || lateen_mesh::selects(&entry.source_labels, labels) && (entry.source_namespace.is_empty() || entry.source_namespace == namespace);
    gateway_matches && source_matches && (entry.port == 0 || entry.port == port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_base::Findings;
    use lateen_mesh::Meta;

    #[test]
    fn server_names_must_be_covered_by_the_hosts() {
        let rule: TLSRoute =
            serde_json::from_value(serde_json::json!({"match": [{"sniHosts": ["b.com"]}], "route": [{"destination": {"host": "b"}}]})).unwrap();
        let mut findings = Findings::new();
        validate_tls(&rule, &["a.com".into()], "spec.tls[0]", &mut Check::new(&Meta::default(), &mut findings));
        assert_eq!(findings[0].path, "spec.tls[0].match[0].sniHosts[0]");
    }
}
