//! VirtualService: how requests to a host are routed. One file for each feature: validation, then lowering.
//!
//! - Reads: `networking.istio.io` VirtualService.
//! - Twin: `plan/src/route/mod.rs`, `proxy/src/http/router.rs`.
//! - Rule: rules are tried in order and the first match wins, so a rule after a catch-all is never reached.
//! - Not here: which VirtualService wins for a host (`mesh/src/lookup.rs`), virtual hosts and route lists (`compile/src/route/`).

pub mod analyze;
pub mod cors;
pub mod destination;
pub mod fault;
pub mod headers;
pub mod http_match;
pub mod mirror;
pub mod redirect;
pub mod retry;
pub mod rewrite;
pub mod timeout;
pub mod tls_route;

use lateen_base::{Code, Finding, Findings, Host, names};
use lateen_istio_api::{HTTPRoute, StringMatch, VirtualService};
use lateen_mesh::{Object, Snapshot};

use crate::check::Check;
use crate::kind::{Gvk, Kind};

/// The kind.
pub enum VirtualServiceKind {}

impl Kind for VirtualServiceKind {
    const GVK: Gvk = Gvk { group: "networking.istio.io", version: "v1", also: &["v1beta1", "v1alpha3"], kind: "VirtualService", plural: "virtualservices" };
    type Spec = VirtualService;

    fn objects(mesh: &Snapshot) -> &[Object<VirtualService>] {
        &mesh.virtual_services
    }

    fn validate(object: &Object<VirtualService>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let spec = &object.spec;
        validate_hosts(spec, &mut check);
        validate_gateways(spec, &mut check);
        if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
            check.error("spec", "the VirtualService has no rules", "add http, tls or tcp");
        }
        for (i, rule) in spec.http.iter().enumerate() {
            validate_http(rule, spec, &format!("spec.http[{i}]"), &mut check);
        }
        for (i, rule) in spec.tls.iter().enumerate() {
            tls_route::validate_tls(rule, &spec.hosts, &format!("spec.tls[{i}]"), &mut check);
        }
        for (i, rule) in spec.tcp.iter().enumerate() {
            tls_route::validate_tcp(rule, &format!("spec.tcp[{i}]"), &mut check);
        }
        unreachable_rules(spec, &mut check);
        check.export_to(&spec.export_to);
    }

    fn analyze(object: &Object<VirtualService>, mesh: &Snapshot, findings: &mut Findings) {
        analyze::analyze(object, mesh, findings);
    }
}

fn validate_hosts(spec: &VirtualService, check: &mut Check<'_>) {
    // A VirtualService without hosts is one that others delegate to.
    if spec.hosts.is_empty() && (!spec.gateways.is_empty() || !spec.tls.is_empty() || !spec.tcp.is_empty()) {
        check.error("spec.hosts", "the VirtualService has no hosts", "add the hosts whose requests it routes");
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        let path = format!("spec.hosts[{i}]");
        if host.parse::<std::net::IpAddr>().is_ok() || host.parse::<ipnet::IpNet>().is_ok() {
            if spec.tcp.is_empty() && spec.tls.is_empty() && spec.http.is_empty() {
                check.error(path, format!("\"{host}\" is an address"), "name the host");
            }
        } else {
            check.wildcard_host(&path, host);
        }
        if host == "*" && (spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == names::MESH_GATEWAY)) {
            check.error(format!("spec.hosts[{i}]"), "host \"*\" is not allowed for the gateway \"mesh\"", "name the hosts, or bind the VirtualService to a Gateway");
        }
        let overlaps = |other: &&String| *other == host || host.starts_with('*') && other.starts_with('*') && Host::new(host).overlaps(&Host::new(other));
        if let Some(other) = spec.hosts.iter().take(i).find(overlaps) {
            check.error(format!("spec.hosts[{i}]"), format!("hosts \"{host}\" and \"{other}\" overlap"), "keep the wider one");
        }
    }
}

fn validate_gateways(spec: &VirtualService, check: &mut Check<'_>) {
    for (i, gateway) in spec.gateways.iter().enumerate() {
        let path = format!("spec.gateways[{i}]");
        let parts: Vec<&str> = gateway.split('/').collect();
        let valid = match parts.as_slice() {
            [name] => crate::check::is_dns_name(name),
            [namespace, name] => (*namespace == "." || crate::check::is_dns_label(namespace)) && crate::check::is_dns_name(name),
            _ => false,
        };
        if !valid {
            check.error(path, format!("\"{gateway}\" names no gateway"), "use the Gateway's name, or namespace/name, or mesh");
        }
    }
}

fn validate_http(rule: &HTTPRoute, spec: &VirtualService, path: &str, check: &mut Check<'_>) {
    for (i, entry) in rule.r#match.iter().enumerate() {
        http_match::validate(entry, &format!("{path}.match[{i}]"), check);
        let claims = entry.headers.keys().chain(entry.without_headers.keys()).any(|name| name.starts_with('@'));
        if claims && (spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == names::MESH_GATEWAY)) {
            check.error(format!("{path}.match[{i}].headers"), "routing by claims works only on gateways", "bind the VirtualService to a Gateway");
        }
    }
    validate_action(rule, spec, path, check);
    if let Some(rewrite) = &rule.rewrite {
        rewrite::validate(rewrite, &format!("{path}.rewrite"), check);
    }
    timeout::validate(rule.timeout, &format!("{path}.timeout"), check);
    if let Some(retries) = &rule.retries {
        retry::validate(retries, &format!("{path}.retries"), check);
        retry::hint(retries, &format!("{path}.retries"), check);
    }
    if let Some(fault) = &rule.fault {
        fault::validate(fault, &format!("{path}.fault"), check);
    }
    mirror::validate(rule, path, check);
    if let Some(cors) = &rule.cors_policy {
        cors::validate(cors, &format!("{path}.corsPolicy"), check);
    }
    if let Some(headers) = &rule.headers {
        headers::validate(headers, &format!("{path}.headers"), check);
    }
}

/// A rule does one thing: route, redirect, answer or delegate.
fn validate_action(rule: &HTTPRoute, spec: &VirtualService, path: &str, check: &mut Check<'_>) {
    let actions = [
        ("route", !rule.route.is_empty()),
        ("redirect", rule.redirect.is_some()),
        ("directResponse", rule.direct_response.is_some()),
        ("delegate", rule.delegate.is_some()),
    ];
    let set: Vec<&str> = actions.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    match set.as_slice() {
        [] => check.error(path, "the rule does nothing with requests", "add route, redirect or directResponse"),
        [_] => {}
        several => check.error(path, format!("the rule has {}", several.join(" and ")), "keep one of them; split the rule if both are needed"),
    }
    if (rule.redirect.is_some() || rule.direct_response.is_some()) && rule.rewrite.is_some() {
        check.error(format!("{path}.rewrite"), "a rule that answers by itself cannot rewrite", "remove rewrite, or use redirect.uri");
    }
    if rule.redirect.is_some() && rule.fault.is_some() || rule.direct_response.is_some() && rule.fault.is_some() {
        check.error(format!("{path}.fault"), "a rule that answers by itself cannot inject faults", "remove fault");
    }
    let all_prefixes = rule.r#match.iter().all(|entry| matches!(&entry.uri, None | Some(StringMatch::Prefix(_))));
    if rule.redirect.as_ref().is_some_and(|redirect| !redirect.prefix_rewrite.is_empty()) && !all_prefixes {
        check.error(format!("{path}.redirect.prefixRewrite"), "prefixRewrite needs every uri match to be a prefix", "use redirect.uri, or prefix matches");
    }
    if let Some(redirect) = &rule.redirect {
        redirect::validate(redirect, &format!("{path}.redirect"), check);
    }
    if let Some(response) = &rule.direct_response {
        redirect::validate_direct(response, &format!("{path}.directResponse"), check);
    }
    if rule.delegate.is_some() && spec.hosts.is_empty() {
        check.error(format!("{path}.delegate"), "a VirtualService without hosts cannot delegate on", "add hosts, or route here");
    }
    for (i, route) in rule.route.iter().enumerate() {
        let path = format!("{path}.route[{i}]");
        match &route.destination {
            Some(destination) => destination::validate(destination, &format!("{path}.destination"), check),
            None => check.error(&path, "the route has no destination", "add destination.host"),
        }
        if let Some(headers) = &route.headers {
            headers::validate(headers, &format!("{path}.headers"), check);
        }
    }
    let weights: Vec<i32> = rule.route.iter().map(|route| route.weight).collect();
    destination::validate_weights(&weights, &format!("{path}.route"), check);
}

/// Whether a rule takes every request, so that no later rule is reached.
fn is_catch_all(rule: &HTTPRoute) -> bool {
    rule.r#match.is_empty()
        || rule.r#match.iter().any(|entry| {
            let uri = matches!(&entry.uri, None | Some(StringMatch::Present)) || matches!(&entry.uri, Some(StringMatch::Prefix(prefix)) if prefix == "/");
            let bare = lateen_istio_api::HTTPMatchRequest { uri: None, name: String::new(), ignore_uri_case: false, ..entry.clone() };
            uri && bare == lateen_istio_api::HTTPMatchRequest::default()
        })
}

fn unreachable_rules(spec: &VirtualService, check: &mut Check<'_>) {
    let Some(first) = spec.http.iter().position(is_catch_all) else { return };
    for i in first + 1..spec.http.len() {
        let message = format!("VirtualService rule #{i} not used (only the last rule can have no matches): rule #{first} takes every request");
        let remedy = "move the rule that takes everything to the end";
        check.add(Finding::new(Code::VirtualServiceUnreachableRule, message).with_path(format!("spec.http[{i}]")).with_remedy(remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn findings(spec: serde_json::Value) -> Findings {
        let object = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "a", "namespace": "default"}, "spec": spec});
        (crate::find("networking.istio.io/v1", "VirtualService").unwrap().check)(&object)
    }

    fn errors(spec: serde_json::Value) -> Vec<String> {
        findings(spec).into_iter().filter(Finding::is_error).map(|finding| finding.path).collect()
    }

    #[test]
    fn an_ordinary_canary_is_accepted() {
        let spec = json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a", "subset": "v1"}, "weight": 90}, {"destination": {"host": "a", "subset": "v2"}, "weight": 10}]}]});
        assert_eq!(findings(spec), []);
    }

    #[test]
    fn negative_retries_are_refused() {
        let spec = json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}], "retries": {"attempts": -1}}]});
        assert_eq!(errors(spec), ["spec.http[0].retries.attempts"]);
    }

    #[test]
    fn a_rule_does_one_thing() {
        assert_eq!(errors(json!({"hosts": ["a"], "http": [{}]})), ["spec.http[0]"]);
        let both = json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}], "redirect": {"uri": "/x"}}]});
        assert_eq!(errors(both), ["spec.http[0]"]);
    }

    #[test]
    fn an_invalid_regex_is_refused_where_it_stands() {
        let spec = json!({"hosts": ["a"], "http": [{"match": [{"headers": {"x": {"regex": "("}}}], "route": [{"destination": {"host": "a"}}]}]});
        assert_eq!(errors(spec), ["spec.http[0].match[0].headers.x.regex"]);
    }

    #[test]
    fn a_rule_after_a_catch_all_is_reported() {
        let rule = json!({"route": [{"destination": {"host": "a"}}]});
        let found = findings(json!({"hosts": ["a"], "http": [rule, rule]}));
        assert_eq!(found[0].code, Code::VirtualServiceUnreachableRule);
        assert_eq!(found[0].path, "spec.http[1]");
    }

    #[test]
    fn retries_without_conditions_get_a_hint() {
        let spec = json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}], "retries": {"attempts": 3, "perTryTimeout": "2s"}}]});
        assert_eq!(findings(spec)[0].code, Code::RetryDoesNotCover5xx);
    }
}
