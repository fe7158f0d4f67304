//! `Kind`: one Kubernetes or Istio kind and all the mesh knows about it.
//!
//! - Rule: `validate` sees the object alone, `analyze` sees it among all others. Lowering is not in the trait: each kind lowers to different things, as plain functions in its folder.
//! - Not here: the list of kinds (`lib.rs`), reading JSON (`decode.rs`).

use lateen_base::Findings;
use lateen_mesh::{Object, Snapshot};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Group, storage version and kind, and the other versions that are read as the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gvk {
    /// API group; empty for Kubernetes' core group.
    pub group: &'static str,
    /// Version in which objects are stored.
    pub version: &'static str,
    /// Versions with the same fields, accepted and stored as `version`.
    pub also: &'static [&'static str],
    /// Kind, such as `VirtualService`.
    pub kind: &'static str,
    /// Resource name, such as `virtualservices`.
    pub plural: &'static str,
}

impl Gvk {
    /// `group/version` of storage, or `version` alone in the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.with_version(self.version)
    }

    fn with_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// Whether objects that say `api_version` are of this kind's group, in a version that is served.
    #[must_use]
    pub fn serves(&self, api_version: &str) -> bool {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        group == self.group && (version == self.version || self.also.contains(&version))
    }

    /// Every `apiVersion` that is served, storage first.
    #[must_use]
    pub fn api_versions(&self) -> Vec<String> {
        std::iter::once(&self.version).chain(self.also).map(|version| self.with_version(version)).collect()
    }
}

/// Whether objects of a kind live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In the cluster as a whole.
    Cluster,
}

/// Which part of the JSON object [`Kind::Spec`] is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// The `spec` field: Istio's kinds.
    Spec,
    /// The whole object: Kubernetes' kinds.
    Whole,
}

/// One Kubernetes or Istio kind.
pub trait Kind {
    /// Its name in the API.
    const GVK: Gvk;
    /// Whether it lives in namespaces.
    const SCOPE: Scope = Scope::Namespaced;
    /// Where the typed part is.
    const BODY: Body = Body::Spec;
    /// The typed part.
    type Spec: DeserializeOwned;
    /// Its objects in a snapshot.
    fn objects(mesh: &Snapshot) -> &[Object<Self::Spec>];
    /// Looks at the object alone; `apply`, `lateen validate` and the admission webhook call this.
    fn validate(object: &Object<Self::Spec>, findings: &mut Findings);
    /// Looks at the object among all others; `lateen analyze` and the status writer call this.
    fn analyze(object: &Object<Self::Spec>, mesh: &Snapshot, findings: &mut Findings);
}

/// A [`Kind`] as a row of the one list of kinds.
#[derive(Clone, Copy)]
pub struct KindInfo {
    /// Its name in the API.
    pub gvk: Gvk,
    /// Whether it lives in namespaces.
    pub scope: Scope,
    /// Reads and validates one JSON object.
    pub check: fn(&Value) -> Findings,
    /// Analyses every object of the kind in a snapshot.
    pub analyze: fn(&Snapshot, &mut Findings),
}

impl KindInfo {
    pub(crate) const fn of<K: Kind>() -> Self {
        Self { gvk: K::GVK, scope: K::SCOPE, check: check::<K>, analyze: analyze::<K> }
    }
}

fn check<K: Kind>(object: &Value) -> Findings {
    match crate::decode::decode::<K>(object) {
        Ok(object) => {
            let mut findings = Findings::new();
            K::validate(&object, &mut findings);
            findings
        }
        Err(finding) => vec![*finding],
    }
}

fn analyze<K: Kind>(mesh: &Snapshot, findings: &mut Findings) {
    for object in K::objects(mesh) {
        K::analyze(object, mesh, findings);
    }
}
