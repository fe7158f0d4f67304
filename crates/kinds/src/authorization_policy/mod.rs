//! AuthorizationPolicy: who may call what.
//!
//! - Reads: `security.istio.io` AuthorizationPolicy.
//! - Twin: `plan/src/rbac.rs`, which decides; `compile/src/listener/`, which puts the filters in place.
//! - Rule: CUSTOM before DENY before ALLOW; where an ALLOW policy selects a workload, everything it does not allow is denied.

use lateen_base::Findings;
use lateen_istio_api::AuthorizationPolicy;
use lateen_mesh::{Object, Snapshot};

use crate::check::Check;
use crate::kind::{Gvk, Kind};

/// The kind.
pub enum AuthorizationPolicyKind {}

impl Kind for AuthorizationPolicyKind {
    const GVK: Gvk = Gvk { group: "security.istio.io", version: "v1", also: &["v1beta1"], kind: "AuthorizationPolicy", plural: "authorizationpolicies" };
    type Spec = AuthorizationPolicy;

    fn objects(mesh: &Snapshot) -> &[Object<AuthorizationPolicy>] {
        &mesh.authorization_policies
    }

    fn validate(object: &Object<AuthorizationPolicy>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        check.selector(object.spec.selector.as_ref());
    }

    fn analyze(_: &Object<AuthorizationPolicy>, _: &Snapshot, _: &mut Findings) {}
}
