//! Policies as Envoy's RBAC filters, one for each action, in the order in which they decide.
//!
//! - Reads: the AuthorizationPolicies of one workload.
//! - Writes: `extensions.filters.http.rbac.v3.RBAC` and `extensions.filters.network.rbac.v3.RBAC`.
//! - Twin: `plan/src/rbac/`, which decides.
//! - Rule: CUSTOM, then AUDIT, then DENY, then ALLOW. Policies marked as dry run go to the shadow rules, which are counted and not enforced.
//! - Limits: CUSTOM has no external authorizer here: what such a policy would ask about is denied.

use std::collections::{BTreeMap, HashMap};

use lateen_base::annotations;
use lateen_envoy_api::envoy::config::rbac::v3::{Policy, Rbac, rbac};
use lateen_envoy_api::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use lateen_envoy_api::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use lateen_istio_api::{Action, AuthorizationPolicy};
use lateen_mesh::Object;

use super::attribute::Layer;
use super::rule::{self, RuleContext};

/// Name of the HTTP filter.
pub const HTTP_FILTER: &str = "envoy.filters.http.rbac";
/// Name of the network filter.
pub const NETWORK_FILTER: &str = "envoy.filters.network.rbac";
const STAT_PREFIX_ALLOW: &str = "istio_dry_run_allow_";
const STAT_PREFIX_DENY: &str = "istio_dry_run_deny_";
const STAT_PREFIX_TCP: &str = "tcp.";

/// Rules of one filter.
struct Filter {
    rules: Option<Rbac>,
    shadow_rules: Option<Rbac>,
    shadow_stat_prefix: &'static str,
}

/// HTTP filters for the policies of one workload, in order. `trust_domains` has the mesh's own first.
#[must_use]
pub fn http_filters(policies: &[&Object<AuthorizationPolicy>], trust_domains: &[String]) -> Vec<HttpRbac> {
    let filters = filters(policies, trust_domains, Layer::Http).into_iter();
    let http = |filter: Filter| HttpRbac {
        rules: filter.rules,
        shadow_rules: filter.shadow_rules,
        shadow_rules_stat_prefix: filter.shadow_stat_prefix.to_owned(),
        ..Default::default()
    };
    filters.map(http).collect()
}

/// Network filters for the policies of one workload, in order. `trust_domains` has the mesh's own first.
#[must_use]
pub fn network_filters(policies: &[&Object<AuthorizationPolicy>], trust_domains: &[String]) -> Vec<NetworkRbac> {
    let filters = filters(policies, trust_domains, Layer::Tcp).into_iter();
    let network = |filter: Filter| NetworkRbac {
        rules: filter.rules,
        shadow_rules: filter.shadow_rules,
        shadow_rules_stat_prefix: filter.shadow_stat_prefix.to_owned(),
        stat_prefix: STAT_PREFIX_TCP.to_owned(),
        ..Default::default()
    };
    filters.map(network).collect()
}

fn filters(policies: &[&Object<AuthorizationPolicy>], trust_domains: &[String], layer: Layer) -> Vec<Filter> {
    let mut filters = custom(policies, trust_domains, layer);
    for action in [Action::Audit, Action::Deny, Action::Allow] {
        let own: Vec<_> = policies.iter().filter(|policy| policy.spec.action == action).copied().collect();
        if !own.is_empty() {
            filters.push(filter(action, &own, trust_domains, layer));
        }
    }
    filters
}

fn filter(action: Action, policies: &[&Object<AuthorizationPolicy>], trust_domains: &[String], layer: Layer) -> Filter {
    let (dry, enforced): (Vec<_>, Vec<_>) = policies.iter().copied().partition(|policy| is_dry_run(policy));
    let rbac = |policies: Vec<&Object<AuthorizationPolicy>>| {
        let rules = policies.iter().flat_map(|policy| lowered_rules(policy, trust_domains, layer)).collect();
        (!policies.is_empty()).then(|| Rbac { action: rbac_action(action).into(), policies: rules, ..Default::default() })
    };
    let shadow_rules = rbac(dry);
    let shadow_stat_prefix = match (&shadow_rules, action) {
        (Some(_), Action::Deny) => STAT_PREFIX_DENY,
        (Some(_), Action::Audit | Action::Custom) => "",
        (Some(_), Action::Allow) | (None, _) => STAT_PREFIX_ALLOW,
    };
    Filter { rules: rbac(enforced), shadow_rules, shadow_stat_prefix }
}

fn is_dry_run(policy: &Object<AuthorizationPolicy>) -> bool {
    policy.meta.annotations.get(annotations::DRY_RUN).is_some_and(|value| value == "true")
}

fn rbac_action(action: Action) -> rbac::Action {
    match action {
        Action::Allow => rbac::Action::Allow,
        Action::Deny | Action::Custom => rbac::Action::Deny,
        Action::Audit => rbac::Action::Log,
    }
}

fn lowered_rules(policy: &Object<AuthorizationPolicy>, trust_domains: &[String], layer: Layer) -> Vec<(String, Policy)> {
    let cx = RuleContext { namespace: &policy.meta.namespace, trust_domains, layer, action: policy.spec.action };
    let name = |i: usize| format!("ns[{}]-policy[{}]-rule[{i}]", policy.meta.namespace, policy.meta.name);
    if policy.spec.rules.is_empty() {
        return vec![(name(0), rule::never())];
    }
    policy.spec.rules.iter().enumerate().filter_map(|(i, rule)| Some((name(i), rule::lower(rule, cx)?))).collect()
}

/// CUSTOM policies, one filter for each provider: all of them deny, since nobody can be asked.
fn custom(policies: &[&Object<AuthorizationPolicy>], trust_domains: &[String], layer: Layer) -> Vec<Filter> {
    let mut by_provider: BTreeMap<&str, HashMap<String, Policy>> = BTreeMap::new();
    for policy in policies.iter().filter(|policy| policy.spec.action == Action::Custom && !is_dry_run(policy)) {
        let provider = policy.spec.provider.as_ref().map(|provider| provider.name.as_str()).unwrap_or_default();
        let rules = lowered_rules(policy, trust_domains, layer).into_iter();
        let named = rules.map(|(name, rule)| (format!("istio-ext-authz-{provider}-{name}-deny-due-to-bad-CUSTOM-action"), rule));
        by_provider.entry(provider).or_default().extend(named);
    }
    let deny = |policies| Filter {
        rules: Some(Rbac { action: rbac::Action::Deny.into(), policies, ..Default::default() }),
        shadow_rules: None,
        shadow_stat_prefix: "",
    };
    by_provider.into_values().filter(|policies| !policies.is_empty()).map(deny).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_mesh::Meta;

    fn policy(name: &str, json: serde_json::Value) -> Object<AuthorizationPolicy> {
        let meta = Meta { name: name.into(), namespace: "foo".into(), ..Meta::default() };
        Object::new(meta, serde_json::from_value(json).unwrap())
    }

    #[test]
    fn no_policy_means_no_filter() {
        assert!(http_filters(&[], &[]).is_empty());
    }

    #[test]
    fn an_allow_policy_without_rules_allows_nothing() {
        let none = policy("none", serde_json::json!({}));
        let filters = http_filters(&[&none], &[]);
        assert_eq!(filters[0].rules.as_ref().unwrap().policies["ns[foo]-policy[none]-rule[0]"], rule::never());
    }

    #[test]
    fn deny_comes_before_allow() {
        let allow = policy("a", serde_json::json!({"rules": [{}]}));
        let deny = policy("d", serde_json::json!({"action": "DENY", "rules": [{}]}));
        let actions: Vec<i32> = http_filters(&[&allow, &deny], &[]).iter().map(|filter| filter.rules.as_ref().unwrap().action).collect();
        assert_eq!(actions, [i32::from(rbac::Action::Deny), i32::from(rbac::Action::Allow)]);
    }
}
