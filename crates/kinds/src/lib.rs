//! What each field of each kind means: one folder for each kind, one file for each feature, with validation and lowering side by side.
//!
//! - Reads: typed objects (`istio-api`, `kube-api`) and the snapshot they are part of (`mesh`).
//! - Writes: findings for users, and fragments of Envoy's messages that `compile` assembles.
//! - Rule: pure. No clock, files, environment or randomness.
//! - Not here: assembly of listeners, routes and clusters (`compile`), reading files (`source`).

#![forbid(unsafe_code)]

pub mod authorization_policy;
pub mod check;
pub mod decode;
pub mod destination_rule;
pub mod gateway;
pub mod kind;
pub mod kubernetes;
pub mod peer_authentication;
pub mod request_authentication;
pub mod service_entry;
pub mod sidecar;
pub mod telemetry;
pub mod virtual_service;
pub mod wire;
pub mod workload_entry;

pub use kind::{Body, Gvk, Kind, KindInfo, Scope};

use lateen_base::{Code, Finding, Findings};
use lateen_mesh::Snapshot;
use serde_json::Value;

/// Every kind that is read; CRDs, watchers and CLI names derive from this list.
pub static KINDS: &[KindInfo] = &[
    KindInfo::of::<kubernetes::namespace::NamespaceKind>(),
    KindInfo::of::<kubernetes::NodeKind>(),
    KindInfo::of::<kubernetes::ServiceAccountKind>(),
    KindInfo::of::<kubernetes::ConfigMapKind>(),
    KindInfo::of::<kubernetes::SecretKind>(),
    KindInfo::of::<kubernetes::service::ServiceKind>(),
    KindInfo::of::<kubernetes::EndpointSliceKind>(),
    KindInfo::of::<kubernetes::workload::DeploymentKind>(),
    KindInfo::of::<kubernetes::workload::ReplicaSetKind>(),
    KindInfo::of::<kubernetes::pod::PodKind>(),
    KindInfo::of::<virtual_service::VirtualServiceKind>(),
    KindInfo::of::<destination_rule::DestinationRuleKind>(),
    KindInfo::of::<gateway::GatewayKind>(),
    KindInfo::of::<service_entry::ServiceEntryKind>(),
    KindInfo::of::<workload_entry::WorkloadEntryKind>(),
    KindInfo::of::<sidecar::SidecarKind>(),
    KindInfo::of::<peer_authentication::PeerAuthenticationKind>(),
    KindInfo::of::<request_authentication::RequestAuthenticationKind>(),
    KindInfo::of::<authorization_policy::AuthorizationPolicyKind>(),
    KindInfo::of::<telemetry::TelemetryKind>(),
];

/// The row for an object that says `api_version` and `kind`, in any version that is served.
///
/// # Errors
/// A finding that lists what is known, when the kind or its version is not.
pub fn find(api_version: &str, kind: &str) -> Result<&'static KindInfo, Box<Finding>> {
    let same_kind: Vec<&KindInfo> = KINDS.iter().filter(|row| row.gvk.kind == kind).collect();
    if let Some(row) = same_kind.iter().find(|row| row.gvk.serves(api_version)) {
        return Ok(row);
    }
    let known = |rows: &[&KindInfo]| rows.iter().flat_map(|row| row.gvk.api_versions()).collect::<Vec<_>>().join(", ");
    if !same_kind.is_empty() {
        let message = format!("apiVersion \"{api_version}\" of kind {kind} is not known");
        return Err(Box::new(Finding::new(Code::UnknownKind, message).with_path("apiVersion").with_remedy(format!("use one of: {}", known(&same_kind)))));
    }
    let near = KINDS.iter().map(|row| row.gvk.kind).min_by_key(|known| strsim::damerau_levenshtein(known, kind));
    let near = near.filter(|near| strsim::damerau_levenshtein(near, kind) <= 2).map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default();
    let kinds: Vec<&str> = KINDS.iter().map(|row| row.gvk.kind).collect();
    let message = format!("kind \"{kind}\" ({api_version}) is not known");
    Err(Box::new(Finding::new(Code::UnknownKind, message).with_path("kind").with_remedy(format!("{near}known kinds: {}", kinds.join(", ")))))
}

/// Reads and validates one JSON object of any kind.
#[must_use]
pub fn validate(object: &Value) -> Findings {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    match find(text("apiVersion"), text("kind")) {
        Ok(row) => (row.check)(object),
        Err(finding) => vec![finding.with_object(decode::object_name(object))],
    }
}

/// Analyses every object of a snapshot, worst findings first.
#[must_use]
pub fn analyze(mesh: &Snapshot) -> Findings {
    let mut findings = Findings::new();
    for row in KINDS {
        (row.analyze)(mesh, &mut findings);
    }
    findings.sort_by(|a, b| (b.severity, &a.object, &a.path, &a.message).cmp(&(a.severity, &b.object, &b.path, &b.message)));
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_istio_version_is_read() {
        for version in ["v1", "v1beta1", "v1alpha3"] {
            assert!(find(&format!("networking.istio.io/{version}"), "VirtualService").is_ok());
        }
    }

    #[test]
    fn an_unknown_kind_lists_those_known() {
        let finding = find("networking.istio.io/v1", "VirtualServices").map(|row| row.gvk).unwrap_err();
        assert!(finding.remedy.starts_with("did you mean \"VirtualService\"?"), "{finding}");
    }

    #[test]
    fn an_unknown_version_lists_those_known() {
        let finding = find("networking.istio.io/v2", "Gateway").map(|row| row.gvk).unwrap_err();
        assert!(finding.remedy.contains("networking.istio.io/v1beta1"), "{finding}");
    }
}
