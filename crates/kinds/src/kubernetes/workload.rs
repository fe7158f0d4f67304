//! Deployments and ReplicaSets: pods in numbers.
//!
//! - Reads: `apps/v1` Deployment and ReplicaSet.
//! - Twin: `local/`, which makes the pods.
//! - Rule: the selector must select the template, or pods would be made for ever.

use lateen_base::Findings;
use lateen_kube_api as kube;
use lateen_mesh::{Object, Snapshot};

use super::pod;
use crate::check::Check;
use crate::kind::{Body, Gvk, Kind};

/// Kind Deployment.
pub enum DeploymentKind {}
/// Kind ReplicaSet.
pub enum ReplicaSetKind {}

impl Kind for DeploymentKind {
    const GVK: Gvk = Gvk { group: "apps", version: "v1", also: &[], kind: "Deployment", plural: "deployments" };
    const BODY: Body = Body::Whole;
    type Spec = kube::Deployment;

    fn objects(mesh: &Snapshot) -> &[Object<kube::Deployment>] {
        &mesh.deployments
    }

    fn validate(object: &Object<kube::Deployment>, findings: &mut Findings) {
        let spec = &object.spec.spec;
        validate(spec.replicas, &spec.selector, &spec.template, &mut Check::new(&object.meta, findings));
    }

    fn analyze(_: &Object<kube::Deployment>, _: &Snapshot, _: &mut Findings) {}
}

impl Kind for ReplicaSetKind {
    const GVK: Gvk = Gvk { group: "apps", version: "v1", also: &[], kind: "ReplicaSet", plural: "replicasets" };
    const BODY: Body = Body::Whole;
    type Spec = kube::ReplicaSet;

    /// Snapshots hold no ReplicaSets: pods name them as owners, which is all the mesh needs.
    fn objects(_: &Snapshot) -> &[Object<kube::ReplicaSet>] {
        &[]
    }

    fn validate(object: &Object<kube::ReplicaSet>, findings: &mut Findings) {
        let spec = &object.spec.spec;
        validate(spec.replicas, &spec.selector, &spec.template, &mut Check::new(&object.meta, findings));
    }

    fn analyze(_: &Object<kube::ReplicaSet>, _: &Snapshot, _: &mut Findings) {}
}

fn validate(replicas: Option<i32>, selector: &kube::LabelSelector, template: &kube::PodTemplateSpec, check: &mut Check<'_>) {
    if replicas.is_some_and(|replicas| replicas < 0) {
        check.error("spec.replicas", "the number of replicas is negative", "use 0 or more");
    }
    if *selector == kube::LabelSelector::default() {
        check.error("spec.selector", "the selector is empty", "add matchLabels with labels of the template");
    } else if !selector.matches(&template.metadata.labels) {
        check.error("spec.template.metadata.labels", "the selector does not select the template's labels", "make spec.selector.matchLabels and the template's labels agree");
    }
    check.labels("spec.template.metadata.labels", &template.metadata.labels);
    pod::validate_spec(&template.spec, "spec.template.spec", check);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_selector_must_select_the_template() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "b"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}}});
        let found = (crate::find("apps/v1", "Deployment").unwrap().check)(&object);
        assert_eq!(found[0].path, "spec.template.metadata.labels");
    }
}
