//! DestinationRule: what happens to requests once their destination is chosen. One file for each feature.
//!
//! - Reads: `networking.istio.io` DestinationRule.
//! - Twin: `plan/src/cluster/mod.rs`, `proxy/src/cluster/mod.rs`.
//! - Not here: which rule wins for a host (`mesh/src/lookup.rs`), clusters (`compile/src/cluster/`).

pub mod analyze;
pub mod connection_pool;
pub mod load_balancer;
pub mod outlier_detection;
pub mod subset;
pub mod tls;

use lateen_base::Findings;
use lateen_istio_api::{DestinationRule, PortTrafficPolicy, TrafficPolicy};
use lateen_mesh::{Object, Snapshot};

use crate::check::Check;
use crate::kind::{Gvk, Kind};

/// The kind.
pub enum DestinationRuleKind {}

impl Kind for DestinationRuleKind {
    const GVK: Gvk = Gvk { group: "networking.istio.io", version: "v1", also: &["v1beta1", "v1alpha3"], kind: "DestinationRule", plural: "destinationrules" };
    type Spec = DestinationRule;

    fn objects(mesh: &Snapshot) -> &[Object<DestinationRule>] {
        &mesh.destination_rules
    }

    fn validate(object: &Object<DestinationRule>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let spec = &object.spec;
        check.wildcard_host("spec.host", &spec.host);
        if let Some(policy) = &spec.traffic_policy {
            validate_policy(policy, "spec.trafficPolicy", &mut check);
        }
        for (i, subset) in spec.subsets.iter().enumerate() {
            subset::validate(subset, &format!("spec.subsets[{i}]"), &mut check);
            if spec.subsets.iter().take(i).any(|other| other.name == subset.name) {
                check.error(format!("spec.subsets[{i}].name"), format!("subset \"{}\" is defined twice", subset.name), "rename one of them");
            }
        }
        if let Some(selector) = &spec.workload_selector {
            check.labels("spec.workloadSelector.matchLabels", &selector.match_labels);
        }
        check.export_to(&spec.export_to);
    }

    fn analyze(object: &Object<DestinationRule>, mesh: &Snapshot, findings: &mut Findings) {
        analyze::analyze(object, mesh, findings);
    }
}

/// Checks a traffic policy at `path`.
pub fn validate_policy(policy: &TrafficPolicy, path: &str, check: &mut Check<'_>) {
    if *policy == TrafficPolicy::default() {
        check.error(path, "the traffic policy sets nothing", "add loadBalancer, connectionPool, outlierDetection or tls, or remove it");
    }
    let parts = PortTrafficPolicy {
        port: None,
        load_balancer: policy.load_balancer.clone(),
        connection_pool: policy.connection_pool.clone(),
        outlier_detection: policy.outlier_detection.clone(),
        tls: policy.tls.clone(),
    };
    validate_parts(&parts, path, check);
    for (i, settings) in policy.port_level_settings.iter().enumerate() {
        let path = format!("{path}.portLevelSettings[{i}]");
        match &settings.port {
            Some(port) => check.port(&format!("{path}.port.number"), port.number),
            None => check.error(&path, "the settings name no port", "add port.number"),
        }
        validate_parts(settings, &path, check);
    }
    if let Some(budget) = &policy.retry_budget {
        connection_pool::validate_retry_budget(budget, &format!("{path}.retryBudget"), check);
    }
    check.not_enforced_if(path, &[("tunnel", policy.tunnel.is_some()), ("proxyProtocol", policy.proxy_protocol.is_some())]);
}

fn validate_parts(parts: &PortTrafficPolicy, path: &str, check: &mut Check<'_>) {
    if let Some(settings) = &parts.load_balancer {
        load_balancer::validate(settings, &format!("{path}.loadBalancer"), check);
    }
    if let Some(pool) = &parts.connection_pool {
        connection_pool::validate(pool, &format!("{path}.connectionPool"), check);
    }
    if let Some(outlier) = &parts.outlier_detection {
        outlier_detection::validate(outlier, &format!("{path}.outlierDetection"), check);
    }
    if let Some(tls) = &parts.tls {
        tls::validate(tls, &format!("{path}.tls"), check);
    }
}

#[cfg(test)]
mod tests {
    use lateen_base::Finding;
    use serde_json::json;

    fn errors(spec: serde_json::Value) -> Vec<String> {
        let object = json!({"metadata": {"name": "a", "namespace": "default"}, "spec": spec});
        let found = (crate::find("networking.istio.io/v1beta1", "DestinationRule").unwrap().check)(&object);
        found.into_iter().filter(Finding::is_error).map(|finding| finding.path).collect()
    }

    #[test]
    fn a_rule_without_host_is_refused() {
        assert_eq!(errors(json!({})), ["spec.host"]);
    }

    #[test]
    fn two_subsets_of_one_name_are_refused() {
        let subset = json!({"name": "v1", "labels": {"version": "v1"}});
        assert_eq!(errors(json!({"host": "a", "subsets": [subset, subset]})), ["spec.subsets[1].name"]);
    }

    #[test]
    fn mutual_needs_a_certificate() {
        let errors = errors(json!({"host": "a", "trafficPolicy": {"tls": {"mode": "MUTUAL"}}}));
        assert_eq!(errors, ["spec.trafficPolicy.tls.clientCertificate", "spec.trafficPolicy.tls.privateKey"]);
    }
}
