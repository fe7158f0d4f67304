//! Subsets: named groups of a destination's endpoints, by labels, each with a policy of its own.
//!
//! - Reads: `DestinationRule.subsets[]`, `trafficPolicy.portLevelSettings[]`.
//! - Twin: `compile/src/cluster/`, which makes one cluster of each subset.
//! - Rule: a subset's policy replaces the host's part by part; a port's settings replace all parts at once, with defaults where they are silent.

use lateen_istio_api::{
    ClientTLSSettings, ConnectionPoolSettings, DestinationRule, LoadBalancerSettings, OutlierDetection, PortTrafficPolicy, RetryBudget, Subset,
    TrafficPolicy,
};
use std::collections::BTreeMap;

use crate::check::{Check, is_dns_label};

/// The parts of a policy that hold for one host, subset and port.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Effective<'a> {
    /// Balancing.
    pub load_balancer: Option<&'a LoadBalancerSettings>,
    /// Connection pool.
    pub connection_pool: Option<&'a ConnectionPoolSettings>,
    /// Ejection.
    pub outlier_detection: Option<&'a OutlierDetection>,
    /// TLS towards the destination.
    pub tls: Option<&'a ClientTLSSettings>,
    /// Retry budget.
    pub retry_budget: Option<&'a RetryBudget>,
}

/// Checks subset `subset` at `path`.
pub fn validate(subset: &Subset, path: &str, check: &mut Check<'_>) {
    if subset.name.is_empty() {
        check.error(format!("{path}.name"), "the subset has no name", "name it, such as v1");
    } else if !is_dns_label(&subset.name) {
        check.error(format!("{path}.name"), format!("\"{}\" is no subset name", subset.name), "use letters, digits and \"-\"");
    }
    check.labels(&format!("{path}.labels"), &subset.labels);
    if let Some(policy) = &subset.traffic_policy {
        super::validate_policy(policy, &format!("{path}.trafficPolicy"), check);
    }
}

/// The subset called `name`.
#[must_use]
pub fn find<'a>(rule: &'a DestinationRule, name: &str) -> Option<&'a Subset> {
    rule.subsets.iter().find(|subset| subset.name == name)
}

/// Whether an endpoint with these labels is in the subset.
#[must_use]
pub fn takes(subset: &Subset, labels: &BTreeMap<String, String>) -> bool {
    lateen_mesh::selects(&subset.labels, labels)
}

/// What holds for `port` of the host, or of one of its subsets.
#[must_use]
pub fn effective<'a>(rule: Option<&'a DestinationRule>, subset: Option<&'a Subset>, port: u32) -> Effective<'a> {
    let host = rule.and_then(|rule| rule.traffic_policy.as_ref());
    let own = subset.and_then(|subset| subset.traffic_policy.as_ref());
    [host, own].into_iter().flatten().fold(Effective::default(), |effective, policy| overlay(effective, policy, port))
}

fn overlay<'a>(below: Effective<'a>, policy: &'a TrafficPolicy, port: u32) -> Effective<'a> {
    if let Some(settings) = policy.port_level_settings.iter().find(|settings| is_for(settings, port)) {
        return Effective {
            load_balancer: settings.load_balancer.as_ref(),
            connection_pool: settings.connection_pool.as_ref(),
            outlier_detection: settings.outlier_detection.as_ref(),
            tls: settings.tls.as_ref(),
            retry_budget: policy.retry_budget.as_ref().or(below.retry_budget),
        };
    }
    Effective {
        load_balancer: policy.load_balancer.as_ref().or(below.load_balancer),
        connection_pool: policy.connection_pool.as_ref().or(below.connection_pool),
        outlier_detection: policy.outlier_detection.as_ref().or(below.outlier_detection),
        tls: policy.tls.as_ref().or(below.tls),
        retry_budget: policy.retry_budget.as_ref().or(below.retry_budget),
    }
}

fn is_for(settings: &PortTrafficPolicy, port: u32) -> bool {
    settings.port.as_ref().is_some_and(|selector| selector.number == port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_istio_api::SimpleLB;

    fn rule() -> DestinationRule {
        serde_json::from_value(serde_json::json!({
            "host": "a",
            "trafficPolicy": {
                "loadBalancer": {"simple": "RANDOM"},
                "connectionPool": {"tcp": {"maxConnections": 5}},
                "portLevelSettings": [{"port": {"number": 81}, "loadBalancer": {"simple": "ROUND_ROBIN"}}],
            },
            "subsets": [{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"}}}],
        }))
        .unwrap()
    }

    fn simple(effective: Effective<'_>) -> Option<SimpleLB> {
        effective.load_balancer.and_then(|settings| settings.simple)
    }

    #[test]
    fn a_subset_replaces_only_what_it_names() {
        let rule = rule();
        let found = effective(Some(&rule), find(&rule, "v1"), 80);
        assert_eq!(simple(found), Some(SimpleLB::LeastRequest));
        assert!(found.connection_pool.is_some());
    }

    #[test]
    fn a_port_starts_from_defaults() {
        let rule = rule();
        let found = effective(Some(&rule), None, 81);
        assert_eq!(simple(found), Some(SimpleLB::RoundRobin));
        assert!(found.connection_pool.is_none());
    }
}
