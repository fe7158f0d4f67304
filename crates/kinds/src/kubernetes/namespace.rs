//! Namespaces: their label decides whether pods get a sidecar.
//!
//! - Reads: `v1` Namespace.
//! - Twin: `inject/`, which reads the same labels.

use lateen_base::{Code, Finding, Findings, labels, names};
use lateen_kube_api as kube;
use lateen_mesh::{Object, Snapshot};

use crate::check::{Check, is_dns_label};
use crate::kind::{Body, Gvk, Kind, Scope};

/// Kind Namespace.
pub enum NamespaceKind {}

impl Kind for NamespaceKind {
    const GVK: Gvk = super::core("Namespace", "namespaces");
    const SCOPE: Scope = Scope::Cluster;
    const BODY: Body = Body::Whole;
    type Spec = kube::Namespace;

    fn objects(mesh: &Snapshot) -> &[Object<kube::Namespace>] {
        &mesh.namespaces
    }

    fn validate(object: &Object<kube::Namespace>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let name = &object.meta.name;
        if !is_dns_label(name) || name.chars().any(|c| c.is_ascii_uppercase()) {
            check.error("metadata.name", format!("\"{name}\" is no namespace name"), "use lower-case letters, digits and \"-\"");
        }
        if let Some(value) = object.meta.labels.get(labels::INJECTION).filter(|value| !matches!(value.as_str(), "enabled" | "disabled")) {
            let path = format!("metadata.labels.{}", labels::INJECTION);
            check.warn(path, format!("\"{value}\" neither turns injection on nor off"), "use enabled or disabled");
        }
    }

    fn analyze(object: &Object<kube::Namespace>, mesh: &Snapshot, findings: &mut Findings) {
        let own = &object.meta.labels;
        let name = &object.meta.name;
        let system = name.starts_with("kube-") || *name == mesh.mesh_config.root_namespace || name == names::ROOT_NAMESPACE;
        let decided = own.contains_key(labels::INJECTION) || own.contains_key(labels::REVISION);
        let has_pods = mesh.pods.iter().any(|pod| pod.meta.namespace == *name) || mesh.deployments.iter().any(|object| object.meta.namespace == *name);
        // Namespaces that nobody wrote and nothing runs in are of no interest.
        if !system && !decided && (has_pods || object.meta.location.is_some()) {
            let message = format!(
                "The namespace is not enabled for Istio injection. Run 'kubectl label namespace {name} istio-injection=enabled' to enable it, or 'kubectl label namespace {name} istio-injection=disabled' to explicitly mark it as not needing injection."
            );
            let remedy = format!("add the label {}: enabled or disabled to the Namespace", labels::INJECTION);
            Check::new(&object.meta, findings).add(Finding::new(Code::NamespaceNotInjected, message).with_remedy(remedy));
        }
    }
}
