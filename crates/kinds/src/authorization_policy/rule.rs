//! One rule of a policy: who (`from`), what (`to`) and under which conditions (`when`).
//!
//! - Reads: `AuthorizationPolicy.rules[]`.
//! - Writes: one `config.rbac.v3.Policy`.
//! - Twin: `plan/src/rbac/`, which decides.
//! - Rule: on a TCP port an allowing rule that asks for HTTP is dropped, so that it never allows more than was meant; a denying rule
//!   keeps what it can ask there, so that it never denies less.

use lateen_envoy_api::envoy::config::rbac::v3::{Permission, Policy, Principal, permission, principal};
use lateen_istio_api::{Action, Condition, Operation, Rule, Source};

use super::attribute::{Attribute, Layer, NoMatch, in_all_trust_domains};
use crate::check::{Check, is_dns_label, is_header_name};

/// What lowering a rule needs to know besides the rule.
#[derive(Debug, Clone, Copy)]
pub struct RuleContext<'a> {
    /// Namespace of the policy.
    pub namespace: &'a str,
    /// Trust domains of the mesh, its own first.
    pub trust_domains: &'a [String],
    /// Where the rule is enforced.
    pub layer: Layer,
    /// What the policy does.
    pub action: Action,
}

/// One attribute with the values it must and must not have.
#[derive(Clone)]
struct Term<'a> {
    attribute: Attribute<'a>,
    values: &'a [String],
    not_values: &'a [String],
}

/// Envoy's form of a rule; `None` when it cannot match there at all.
#[must_use]
pub fn lower(rule: &Rule, cx: RuleContext<'_>) -> Option<Policy> {
    let conditions: Vec<Term<'_>> = rule.when.iter().map(|condition| condition_term(condition, cx.namespace)).collect::<Option<_>>()?;
    let (permissions, principals): (Vec<_>, Vec<_>) = conditions.into_iter().partition(|term| term.attribute.is_permission());
    let operations: Vec<Vec<Term<'_>>> = match rule.to.as_slice() {
        [] => vec![permissions],
        to => to.iter().map(|to| [to.operation.as_ref().map(operation_terms).unwrap_or_default(), permissions.clone()].concat()).collect(),
    };
    let sources: Vec<Vec<Term<'_>>> = match rule.from.as_slice() {
        [] => vec![principals],
        from => from.iter().map(|from| [from.source.as_ref().map(|source| source_terms(source, cx)).unwrap_or_default(), principals.clone()].concat()).collect(),
    };
    Some(Policy {
        permissions: operations.iter().map(|terms| permission_and(terms, cx)).collect::<Option<_>>()?,
        principals: sources.iter().map(|terms| principal_and(terms, cx)).collect::<Option<_>>()?,
        ..Default::default()
    })
}

/// A policy that no request matches: what a policy without rules means.
#[must_use]
pub fn never() -> Policy {
    let anything = Permission { rule: Some(permission::Rule::Any(true)) };
    let anyone = Principal { identifier: Some(principal::Identifier::Any(true)) };
    Policy {
        permissions: vec![Permission { rule: Some(permission::Rule::NotRule(Box::new(anything))) }],
        principals: vec![Principal { identifier: Some(principal::Identifier::NotId(Box::new(anyone))) }],
        ..Default::default()
    }
}

fn condition_term<'a>(condition: &'a Condition, namespace: &'a str) -> Option<Term<'a>> {
    let attribute = Attribute::of_key(&condition.key, namespace)?;
    Some(Term { attribute, values: &condition.values, not_values: &condition.not_values })
}

fn operation_terms(operation: &Operation) -> Vec<Term<'_>> {
    let all = [
        (Attribute::Host, &operation.hosts, &operation.not_hosts),
        (Attribute::Method, &operation.methods, &operation.not_methods),
        (Attribute::Path, &operation.paths, &operation.not_paths),
        (Attribute::DestinationPort, &operation.ports, &operation.not_ports),
    ];
    written(all)
}

fn source_terms<'a>(source: &'a Source, cx: RuleContext<'a>) -> Vec<Term<'a>> {
    let all = [
        (Attribute::SourcePrincipal, &source.principals, &source.not_principals),
        (Attribute::RequestPrincipal, &source.request_principals, &source.not_request_principals),
        (Attribute::SourceNamespace, &source.namespaces, &source.not_namespaces),
        (Attribute::SourceServiceAccount { namespace: cx.namespace }, &source.service_accounts, &source.not_service_accounts),
        (Attribute::SourceTrustDomain, &source.trust_domains, &source.not_trust_domains),
        (Attribute::RemoteIp, &source.remote_ip_blocks, &source.not_remote_ip_blocks),
        (Attribute::SourceIp, &source.ip_blocks, &source.not_ip_blocks),
    ];
    written(all)
}

fn written<'a, const N: usize>(all: [(Attribute<'a>, &'a Vec<String>, &'a Vec<String>); N]) -> Vec<Term<'a>> {
    let terms = all.into_iter().map(|(attribute, values, not_values)| Term { attribute, values, not_values });
    terms.filter(|term| !term.values.is_empty() || !term.not_values.is_empty()).collect()
}

/// The matchers of one list of values. Allowing policies fail as a whole where one value has no matcher; denying ones go on without it.
fn gather<T>(results: Vec<Result<T, NoMatch>>, action: Action) -> Option<Vec<T>> {
    match action {
        Action::Allow | Action::Custom => results.into_iter().collect::<Result<_, _>>().ok(),
        Action::Deny | Action::Audit => Some(results.into_iter().filter_map(Result::ok).collect()),
    }
}

fn permission_and(terms: &[Term<'_>], cx: RuleContext<'_>) -> Option<Permission> {
    let mut rules = Vec::new();
    for term in terms {
        let own = |values| gather(term.attribute.permissions(values, cx.layer), cx.action);
        if !term.values.is_empty() {
            rules.extend(permission_or(own(term.values)?, &term.attribute));
        }
        if !term.not_values.is_empty() {
            rules.extend(permission_or(own(term.not_values)?, &term.attribute).map(|rule| Permission { rule: Some(permission::Rule::NotRule(Box::new(rule))) }));
        }
    }
    if rules.is_empty() {
        rules.push(Permission { rule: Some(permission::Rule::Any(true)) });
    }
    Some(Permission { rule: Some(permission::Rule::AndRules(permission::Set { rules })) })
}

/// Metadata matchers hold all their values already and need no list around them.
fn permission_or(mut rules: Vec<Permission>, attribute: &Attribute<'_>) -> Option<Permission> {
    match (attribute, rules.len()) {
        (_, 0) => None,
        (Attribute::EnvoyFilter { .. }, 1) => rules.pop(),
        _ => Some(Permission { rule: Some(permission::Rule::OrRules(permission::Set { rules })) }),
    }
}

fn principal_and(terms: &[Term<'_>], cx: RuleContext<'_>) -> Option<Principal> {
    let mut ids = Vec::new();
    for term in terms {
        let own = |values: &[String]| {
            let aliased = if term.attribute == Attribute::SourcePrincipal { in_all_trust_domains(values, cx.trust_domains) } else { values.to_vec() };
            gather(term.attribute.principals(&aliased, cx.layer), cx.action)
        };
        if !term.values.is_empty() {
            ids.extend(principal_or(own(term.values)?, &term.attribute));
        }
        if !term.not_values.is_empty() {
            ids.extend(principal_or(own(term.not_values)?, &term.attribute).map(|id| Principal { identifier: Some(principal::Identifier::NotId(Box::new(id))) }));
        }
    }
    if ids.is_empty() {
        ids.push(Principal { identifier: Some(principal::Identifier::Any(true)) });
    }
    Some(Principal { identifier: Some(principal::Identifier::AndIds(principal::Set { ids })) })
}

fn principal_or(mut ids: Vec<Principal>, attribute: &Attribute<'_>) -> Option<Principal> {
    match (attribute, ids.len()) {
        (_, 0) => None,
        (Attribute::Claim(_), 1) => ids.pop(),
        _ => Some(Principal { identifier: Some(principal::Identifier::OrIds(principal::Set { ids })) }),
    }
}

/// Checks a rule at `path`.
pub fn validate(rule: &Rule, path: &str, check: &mut Check<'_>) {
    for (i, from) in rule.from.iter().enumerate() {
        let path = format!("{path}.from[{i}].source");
        match &from.source {
            None => check.error(&path, "the source is missing", "add source with principals, namespaces or ipBlocks, or remove the entry"),
            Some(source) if *source == Source::default() => check.error(&path, "the source is empty", "add principals, namespaces or ipBlocks, or remove the entry"),
            Some(source) => validate_source(source, &path, check),
        }
    }
    for (i, to) in rule.to.iter().enumerate() {
        let path = format!("{path}.to[{i}].operation");
        match &to.operation {
            None => check.error(&path, "the operation is missing", "add operation with paths, methods or ports, or remove the entry"),
            Some(operation) if *operation == Operation::default() => check.error(&path, "the operation is empty", "add paths, methods or ports, or remove the entry"),
            Some(operation) => validate_operation(operation, &path, check),
        }
    }
    for (i, condition) in rule.when.iter().enumerate() {
        validate_condition(condition, &format!("{path}.when[{i}]"), check);
    }
}

/// Checks that a rule of a CUSTOM policy asks only for what is known before authentication.
pub fn validate_custom(rule: &Rule, path: &str, check: &mut Check<'_>) {
    let remedy = "remove it; action CUSTOM is decided before callers are authenticated";
    for (i, source) in rule.from.iter().enumerate().filter_map(|(i, from)| Some((i, from.source.as_ref()?))) {
        let fields = [
            ("principals", &source.principals),
            ("notPrincipals", &source.not_principals),
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
            ("namespaces", &source.namespaces),
            ("notNamespaces", &source.not_namespaces),
            ("serviceAccounts", &source.service_accounts),
            ("notServiceAccounts", &source.not_service_accounts),
            ("trustDomains", &source.trust_domains),
            ("notTrustDomains", &source.not_trust_domains),
        ];
        for (field, _) in fields.iter().filter(|(_, values)| !values.is_empty()) {
            check.error(format!("{path}.from[{i}].source.{field}"), format!("{field} does not work with action CUSTOM"), remedy);
        }
    }
    for (i, condition) in rule.when.iter().enumerate() {
        let known = ["source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain"].contains(&condition.key.as_str());
        if known || condition.key.starts_with("request.auth.") {
            check.error(format!("{path}.when[{i}].key"), format!("{} does not work with action CUSTOM", condition.key), remedy);
        }
    }
}

fn validate_source(source: &Source, path: &str, check: &mut Check<'_>) {
    let addresses = [
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ];
    for (field, values) in addresses {
        validate_values(values, &format!("{path}.{field}"), crate::check::is_ip_or_cidr, "use a form such as 10.1.0.0/16", check);
    }
    let accounts = [("serviceAccounts", &source.service_accounts), ("notServiceAccounts", &source.not_service_accounts)];
    for (field, values) in accounts {
        validate_values(values, &format!("{path}.{field}"), is_service_account, "use NAME or NAMESPACE/NAME, without wildcards", check);
    }
    let both = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    if both && (!source.principals.is_empty() || !source.not_principals.is_empty() || !source.namespaces.is_empty() || !source.not_namespaces.is_empty()) {
        check.error(format!("{path}.serviceAccounts"), "serviceAccounts cannot stand beside principals or namespaces", "keep one of them");
    }
    let texts = [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
    ];
    for (field, values) in texts {
        validate_values(values, &format!("{path}.{field}"), |value| !value.is_empty(), "write a value, or remove it", check);
    }
}

fn is_service_account(value: &str) -> bool {
    value.len() <= 320 && value.split('/').count() <= 2 && value.split('/').all(|part| !part.is_empty() && part.split('.').all(is_dns_label))
}

fn validate_operation(operation: &Operation, path: &str, check: &mut Check<'_>) {
    for (field, values) in [("ports", &operation.ports), ("notPorts", &operation.not_ports)] {
        validate_values(values, &format!("{path}.{field}"), is_port, "use a port from 1 to 65535", check);
    }
    for (field, values) in [("paths", &operation.paths), ("notPaths", &operation.not_paths)] {
        validate_values(values, &format!("{path}.{field}"), is_path, "use /exact, /prefix*, *suffix or /a/{*}/b", check);
    }
    let texts = [("hosts", &operation.hosts), ("notHosts", &operation.not_hosts), ("methods", &operation.methods), ("notMethods", &operation.not_methods)];
    for (field, values) in texts {
        validate_values(values, &format!("{path}.{field}"), |value| !value.is_empty(), "write a value, or remove it", check);
    }
}

fn is_port(value: &str) -> bool {
    value.parse::<u16>().is_ok_and(|port| port != 0)
}

/// `{*}` and `{**}` stand for whole segments, `{**}` only once, and nothing else may stand in braces or beside them.
fn is_path(value: &str) -> bool {
    if !value.contains(['{', '}']) {
        return !value.is_empty();
    }
    let segments: Vec<&str> = value.split('/').collect();
    let fits = |segment: &&str| matches!(*segment, "{*}" | "{**}") || !segment.contains(['{', '}', '*']);
    let after_double = segments.iter().skip_while(|segment| **segment != "{**}").skip(1);
    value.starts_with('/') && segments.iter().all(fits) && after_double.clone().all(|segment| !matches!(*segment, "{*}" | "{**}"))
}

fn validate_condition(condition: &Condition, path: &str, check: &mut Check<'_>) {
    let Some(attribute) = Attribute::of_key(&condition.key, "") else {
        let message = format!("\"{}\" is no attribute", condition.key);
        return check.error(format!("{path}.key"), message, "use one such as source.ip, request.headers[name] or request.auth.claims[name]");
    };
    if condition.values.is_empty() && condition.not_values.is_empty() {
        check.error(path, "the condition has no values", "add values or notValues");
    }
    match &attribute {
        Attribute::Header(name) if !is_header_name(name) && !name.starts_with(':') => {
            check.error(format!("{path}.key"), format!("\"{name}\" is not a header name"), "use the name alone, such as request.headers[end-user]");
        }
        _ => {}
    }
    for (field, values) in [("values", &condition.values), ("notValues", &condition.not_values)] {
        let path = format!("{path}.{field}");
        match attribute {
            Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => {
                validate_values(values, &path, crate::check::is_ip_or_cidr, "use a form such as 10.1.0.0/16", check);
            }
            Attribute::DestinationPort => validate_values(values, &path, is_port, "use a port from 1 to 65535", check),
            Attribute::SourceServiceAccount { .. } => validate_values(values, &path, is_service_account, "use NAME or NAMESPACE/NAME", check),
            _ => validate_values(values, &path, |value| !value.is_empty(), "write a value, or remove it", check),
        }
    }
}

fn validate_values(values: &[String], path: &str, valid: impl Fn(&str) -> bool, remedy: &str, check: &mut Check<'_>) {
    for (i, value) in values.iter().enumerate().filter(|(_, value)| !valid(value)) {
        check.error(format!("{path}[{i}]"), format!("\"{value}\" is not valid here"), remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(action: Action, layer: Layer, json: serde_json::Value) -> Option<Policy> {
        let rule: Rule = serde_json::from_value(json).unwrap();
        lower(&rule, RuleContext { namespace: "foo", trust_domains: &[], layer, action })
    }

    #[test]
    fn an_allowing_rule_that_asks_for_http_is_dropped_on_tcp() {
        let rule = serde_json::json!({"to": [{"operation": {"methods": ["GET"]}}]});
        assert!(lowered(Action::Allow, Layer::Tcp, rule.clone()).is_none());
        assert!(lowered(Action::Allow, Layer::Http, rule).is_some());
    }

    #[test]
    fn a_denying_rule_keeps_what_tcp_can_tell() {
        let rule = serde_json::json!({"to": [{"operation": {"methods": ["GET"], "ports": ["80"]}}]});
        let policy = lowered(Action::Deny, Layer::Tcp, rule).unwrap();
        let Some(permission::Rule::AndRules(set)) = &policy.permissions[0].rule else { unreachable!() };
        assert_eq!(set.rules.len(), 1);
    }

    #[test]
    fn path_templates_take_whole_segments() {
        assert!(is_path("/a/{*}/b") && is_path("/{**}") && is_path("/x*") && is_path("*"));
        assert!(!is_path("/a/{x}") && !is_path("/a{*}") && !is_path("/{**}/{*}") && !is_path(""));
    }
}
