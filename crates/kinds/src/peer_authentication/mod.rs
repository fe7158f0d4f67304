//! PeerAuthentication: whether a workload accepts plain text, mutual TLS, or both. STRICT lives here.
//!
//! - Reads: `security.istio.io` PeerAuthentication.
//! - Twin: `mesh/src/lookup.rs` for which one holds; `compile/src/listener/inbound.rs` for the filter chains.
//! - Rule: port before workload before namespace before mesh; at one level the oldest; PERMISSIVE where nothing is said.

use lateen_base::Findings;
use lateen_istio_api::PeerAuthentication;
use lateen_mesh::{Object, Snapshot};

use crate::check::Check;
use crate::kind::{Gvk, Kind};

/// The kind.
pub enum PeerAuthenticationKind {}

impl Kind for PeerAuthenticationKind {
    const GVK: Gvk = Gvk { group: "security.istio.io", version: "v1", also: &["v1beta1"], kind: "PeerAuthentication", plural: "peerauthentications" };
    type Spec = PeerAuthentication;

    fn objects(mesh: &Snapshot) -> &[Object<PeerAuthentication>] {
        &mesh.peer_authentications
    }

    fn validate(object: &Object<PeerAuthentication>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let spec = &object.spec;
        check.selector(spec.selector.as_ref());
        let selects = spec.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
        if !spec.port_level_mtls.is_empty() && !selects {
            check.error("spec.portLevelMtls", "portLevelMtls needs a selector", "add selector.matchLabels, since ports belong to workloads");
        }
        for port in spec.port_level_mtls.keys() {
            check.port(&format!("spec.portLevelMtls.{port}"), *port);
        }
    }

    fn analyze(_: &Object<PeerAuthentication>, _: &Snapshot, _: &mut Findings) {}
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn ports_need_a_selector() {
        let object = json!({"metadata": {"name": "a", "namespace": "default"}, "spec": {"portLevelMtls": {"8080": {"mode": "STRICT"}}}});
        let found = (crate::find("security.istio.io/v1beta1", "PeerAuthentication").unwrap().check)(&object);
        assert_eq!(found[0].path, "spec.portLevelMtls");
    }
}
