//! What names an object: group, kind, namespace and name.
//!
//! - Reads: `apiVersion`, `kind`, `metadata.{namespace,name}`.
//! - Rule: versions of one group name the same object, as on an API server: `networking.istio.io/v1beta1` and `/v1` do not differ here.

use lateen_base::names::DEFAULT_NAMESPACE;
use serde_json::Value;
use std::fmt;

/// The name of an object. Ordered by kind, then namespace, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind, such as `Pod`.
    pub kind: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key of the group that an `apiVersion` such as `apps/v1` names. A namespaced kind without a namespace gets `default`.
    #[must_use]
    pub fn new(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let namespace = match (is_cluster_wide(kind), namespace) {
            (true, _) => "",
            (false, "") => DEFAULT_NAMESPACE,
            (false, given) => given,
        };
        Self { kind: kind.into(), group: group.into(), namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object; `None` where `apiVersion`, `kind` or the name are missing.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let namespace = text("/metadata/namespace").unwrap_or_default();
        Some(Self::new(text("/apiVersion")?, text("/kind")?, namespace, text("/metadata/name")?))
    }
}

/// `Kind namespace/name`, as findings name objects.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// Whether objects of this kind belong to no namespace.
#[must_use]
pub fn is_cluster_wide(kind: &str) -> bool {
    CLUSTER_WIDE.contains(&kind)
}

const CLUSTER_WIDE: &[&str] = &["Namespace", "Node", "PersistentVolume", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "GatewayClass", "IngressClass"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_of_a_group_name_one_object() {
        let key = |version: &str| Key::of(&json!({"apiVersion": version, "kind": "VirtualService", "metadata": {"name": "a"}}));
        assert_eq!(key("networking.istio.io/v1"), key("networking.istio.io/v1alpha3"));
        assert_eq!(key("networking.istio.io/v1").unwrap().to_string(), "VirtualService default/a");
    }

    #[test]
    fn a_cluster_wide_object_has_no_namespace() {
        let key = Key::of(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "namespace": "b"}})).unwrap();
        assert_eq!(key.namespace, "");
    }

    #[test]
    fn an_object_without_a_name_has_no_key() {
        assert_eq!(Key::of(&json!({"apiVersion": "v1", "kind": "Pod"})), None);
    }
}
