//! `Meta` and `Object<T>`: what every Kubernetes object carries, and an object whose spec is typed.
//!
//! - Reads: Kubernetes `metadata`, already checked by `source`.
//! - Rule: an `Object` is cheap to clone: the spec is shared, never copied.
//! - Not here: parsing of YAML or JSON (`source`), meaning of a spec (`kinds`).

use lateen_base::Location;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The part of Kubernetes `metadata` the mesh looks at. Strings absent from the source are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// `group/version` as the object was written, such as `networking.istio.io/v1`.
    pub api_version: String,
    /// Kubernetes kind, such as `VirtualService`.
    pub kind: String,
    /// Object name.
    pub name: String,
    /// Namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Unique id given by the store.
    pub uid: String,
    /// Opaque version given by the store.
    pub resource_version: String,
    /// Counts changes of the spec.
    pub generation: i64,
    /// RFC 3339 time of creation: text order is time order.
    pub creation_timestamp: String,
    /// RFC 3339 time at which deletion was asked for; `None` while the object lives.
    pub deletion_timestamp: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `(kind, name)` of the controlling owner, as a Pod's ReplicaSet.
    pub owner: Option<(String, String)>,
    /// Where a user wrote the object, if it came from a file.
    pub location: Option<Location>,
}

impl Meta {
    /// `namespace/name`, or `name` alone for a cluster-wide object.
    pub fn full_name(&self) -> String {
        if self.namespace.is_empty() { self.name.clone() } else { format!("{}/{}", self.namespace, self.name) }
    }

    /// The order in which Istio applies configuration of one kind: oldest first, then by name and namespace.
    pub fn age_order(&self, other: &Self) -> std::cmp::Ordering {
        (&self.creation_timestamp, &self.name, &self.namespace).cmp(&(&other.creation_timestamp, &other.name, &other.namespace))
    }
}

/// One object whose spec is already typed. Clones share the spec.
#[derive(Debug)]
pub struct Object<T> {
    /// Name, labels and origin.
    pub meta: Arc<Meta>,
    /// The typed body.
    pub spec: Arc<T>,
}

impl<T> Clone for Object<T> {
    fn clone(&self) -> Self {
        Self { meta: Arc::clone(&self.meta), spec: Arc::clone(&self.spec) }
    }
}

impl<T: PartialEq> PartialEq for Object<T> {
    fn eq(&self, other: &Self) -> bool {
        self.meta == other.meta && self.spec == other.spec
    }
}

impl<T> Object<T> {
    /// An object out of its two halves.
    pub fn new(meta: Meta, spec: T) -> Self {
        Self { meta: Arc::new(meta), spec: Arc::new(spec) }
    }
}

/// True when every label of `selector` is in `labels` with the same value. An empty selector selects all.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(selects(&BTreeMap::new(), &BTreeMap::new()));
    }

    #[test]
    fn a_missing_label_is_not_selected() {
        let selector = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        assert!(!selects(&selector, &BTreeMap::new()));
        assert!(selects(&selector, &selector));
    }
}
