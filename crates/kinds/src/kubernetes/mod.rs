//! Kubernetes' own kinds: what the mesh checks about them.
//!
//! - Reads: the kinds of `kube-api`.
//! - Rule: Kubernetes validates its objects itself where there is one; here only what would otherwise fail late or silently.

pub mod namespace;
pub mod pod;
pub mod service;
pub mod workload;

use lateen_base::{Findings, names};
use lateen_kube_api as kube;
use lateen_mesh::{Object, Snapshot};

use crate::check::Check;
use crate::kind::{Body, Gvk, Kind, Scope};

/// ConfigMap of the root namespace whose key `mesh` holds MeshConfig.
pub const MESH_CONFIG_MAP: &str = "istio";

/// Kind Node.
pub enum NodeKind {}
/// Kind ServiceAccount.
pub enum ServiceAccountKind {}
/// Kind ConfigMap.
pub enum ConfigMapKind {}
/// Kind Secret.
pub enum SecretKind {}
/// Kind EndpointSlice.
pub enum EndpointSliceKind {}

const fn core(kind: &'static str, plural: &'static str) -> Gvk {
    Gvk { group: "", version: "v1", also: &[], kind, plural }
}

impl Kind for NodeKind {
    const GVK: Gvk = core("Node", "nodes");
    const SCOPE: Scope = Scope::Cluster;
    const BODY: Body = Body::Whole;
    type Spec = kube::Node;

    fn objects(mesh: &Snapshot) -> &[Object<kube::Node>] {
        &mesh.nodes
    }
    fn validate(_: &Object<kube::Node>, _: &mut Findings) {}
    fn analyze(_: &Object<kube::Node>, _: &Snapshot, _: &mut Findings) {}
}

impl Kind for ServiceAccountKind {
    const GVK: Gvk = core("ServiceAccount", "serviceaccounts");
    const BODY: Body = Body::Whole;
    type Spec = kube::ServiceAccount;

    fn objects(mesh: &Snapshot) -> &[Object<kube::ServiceAccount>] {
        &mesh.service_accounts
    }
    fn validate(_: &Object<kube::ServiceAccount>, _: &mut Findings) {}
    fn analyze(_: &Object<kube::ServiceAccount>, _: &Snapshot, _: &mut Findings) {}
}

impl Kind for ConfigMapKind {
    const GVK: Gvk = core("ConfigMap", "configmaps");
    const BODY: Body = Body::Whole;
    type Spec = kube::ConfigMap;

    fn objects(mesh: &Snapshot) -> &[Object<kube::ConfigMap>] {
        &mesh.config_maps
    }
    fn validate(_: &Object<kube::ConfigMap>, _: &mut Findings) {}
    fn analyze(object: &Object<kube::ConfigMap>, mesh: &Snapshot, findings: &mut Findings) {
        if object.meta.namespace == names::ROOT_NAMESPACE && object.meta.name == MESH_CONFIG_MAP {
            let mut check = Check::new(&object.meta, findings);
            mesh.mesh_config.unused.keys().for_each(|field| check.not_enforced(format!("data.mesh.{field}")));
        }
    }
}

impl Kind for SecretKind {
    const GVK: Gvk = core("Secret", "secrets");
    const BODY: Body = Body::Whole;
    type Spec = kube::Secret;

    fn objects(mesh: &Snapshot) -> &[Object<kube::Secret>] {
        &mesh.secrets
    }
    fn validate(object: &Object<kube::Secret>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        for (key, value) in &object.spec.data {
            let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\n' | b'\r');
            if !value.bytes().all(base64) {
                check.error(format!("data.{key}"), "the value is not base64", "encode it, or move it to stringData as plain text");
            }
        }
    }
    fn analyze(_: &Object<kube::Secret>, _: &Snapshot, _: &mut Findings) {}
}

impl Kind for EndpointSliceKind {
    const GVK: Gvk = Gvk { group: "discovery.k8s.io", version: "v1", also: &[], kind: "EndpointSlice", plural: "endpointslices" };
    const BODY: Body = Body::Whole;
    type Spec = kube::EndpointSlice;

    fn objects(mesh: &Snapshot) -> &[Object<kube::EndpointSlice>] {
        &mesh.endpoint_slices
    }
    fn validate(object: &Object<kube::EndpointSlice>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        for (i, endpoint) in object.spec.endpoints.iter().enumerate() {
            if endpoint.addresses.is_empty() {
                check.error(format!("endpoints[{i}].addresses"), "the endpoint has no address", "add one");
            }
        }
    }
    fn analyze(_: &Object<kube::EndpointSlice>, _: &Snapshot, _: &mut Findings) {}
}
