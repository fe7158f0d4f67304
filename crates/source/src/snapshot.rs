//! From raw objects to a typed [`Snapshot`], one change at a time.
//!
//! - Reads: watch events of the store, as JSON.
//! - Rule: an object that does not parse or validate keeps its last good version, and a finding says so.
//! - Rule: pure: nothing here reads files, sockets or the clock.
//! - Not here: getting the events (`watch.rs`), services and endpoints (`mesh`).

use std::collections::{BTreeMap, BTreeSet};

use lateen_base::{Code, Finding, Findings, names};
use lateen_kinds::decode::{decode, explain, object_name};
use lateen_kinds::{self as kinds, Kind};
use lateen_mesh::{MeshConfig, Object, Parts, Snapshot};
use serde_json::Value;

/// What a change did.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// The next snapshot differs.
    Changed,
    /// Nothing the mesh looks at changed.
    Unchanged,
    /// The object was refused; its last good version, if any, stays.
    Refused(Findings),
}

/// One change of the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The object is new or different.
    Upsert(Value),
    /// The object is gone.
    Delete(Value),
}

type Key = (String, String);
type Table<T> = BTreeMap<Key, Object<T>>;

macro_rules! tables {
    ($($field:ident: $kind:ty;)*) => {
        /// The last good version of every object.
        #[derive(Debug, Clone, Default)]
        struct Tables {
            mesh_config: MeshConfig,
            $($field: Table<<$kind as Kind>::Spec>,)*
        }

        impl Tables {
            fn upsert(&mut self, kind: &str, object: &Value) -> Result<bool, Box<Finding>> {
                $(if kind == <$kind>::GVK.kind {
                    return Ok(put(&mut self.$field, decode::<$kind>(object)?));
                })*
                Ok(false)
            }

            fn delete(&mut self, kind: &str, key: &Key) -> bool {
                $(if kind == <$kind>::GVK.kind {
                    return self.$field.remove(key).is_some();
                })*
                false
            }

            fn keys(&self) -> impl Iterator<Item = (&'static str, &Key)> {
                std::iter::empty()$(.chain(self.$field.keys().map(|key| (<$kind>::GVK.kind, key))))*
            }

            fn parts(&self) -> Parts {
                Parts {
                    mesh_config: self.mesh_config.clone(),
                    $($field: self.$field.values().cloned().collect(),)*
                }
            }
        }
    };
}

tables! {
    namespaces: kinds::kubernetes::namespace::NamespaceKind;
    nodes: kinds::kubernetes::NodeKind;
    service_accounts: kinds::kubernetes::ServiceAccountKind;
    kube_services: kinds::kubernetes::service::ServiceKind;
    pods: kinds::kubernetes::pod::PodKind;
    deployments: kinds::kubernetes::workload::DeploymentKind;
    endpoint_slices: kinds::kubernetes::EndpointSliceKind;
    secrets: kinds::kubernetes::SecretKind;
    config_maps: kinds::kubernetes::ConfigMapKind;
    virtual_services: kinds::virtual_service::VirtualServiceKind;
    destination_rules: kinds::destination_rule::DestinationRuleKind;
    gateways: kinds::gateway::GatewayKind;
    service_entries: kinds::service_entry::ServiceEntryKind;
    workload_entries: kinds::workload_entry::WorkloadEntryKind;
    sidecars: kinds::sidecar::SidecarKind;
    peer_authentications: kinds::peer_authentication::PeerAuthenticationKind;
    authorization_policies: kinds::authorization_policy::AuthorizationPolicyKind;
    request_authentications: kinds::request_authentication::RequestAuthenticationKind;
    telemetries: kinds::telemetry::TelemetryKind;
}

/// Whether the object differs in anything but its version numbers.
fn put<T: PartialEq>(table: &mut Table<T>, object: Object<T>) -> bool {
    let key = (object.meta.namespace.clone(), object.meta.name.clone());
    let same = table.get(&key).is_some_and(|old| *old == object);
    table.insert(key, object);
    !same
}

/// Gathers changes and builds snapshots of them.
#[derive(Debug, Clone, Default)]
pub struct SnapshotBuilder {
    tables: Tables,
    /// Findings about objects that were refused, by kind and key.
    refused: BTreeMap<(String, Key), Findings>,
}

impl SnapshotBuilder {
    /// Starts with no objects and these mesh-wide options.
    #[must_use]
    pub fn new(mesh_config: MeshConfig) -> Self {
        Self { tables: Tables { mesh_config, ..Tables::default() }, refused: BTreeMap::new() }
    }

    /// Takes one change.
    pub fn apply(&mut self, event: &Event) -> Applied {
        match event {
            Event::Upsert(object) => self.upsert(object),
            Event::Delete(object) => {
                let (kind, key) = identity(object);
                self.refused.remove(&(kind.clone(), key.clone()));
                if self.tables.delete(&kind, &key) { Applied::Changed } else { Applied::Unchanged }
            }
        }
    }

    fn upsert(&mut self, object: &Value) -> Applied {
        let (kind, key) = identity(object);
        let errors: Findings = kinds::validate(object).into_iter().filter(Finding::is_error).collect();
        let result = if errors.is_empty() { self.tables.upsert(&kind, object).map_err(|finding| vec![*finding]) } else { Err(errors) };
        let result = result.and_then(|changed| Ok(self.read_mesh_config(object)? | changed));
        match result {
            Ok(changed) => {
                self.refused.remove(&(kind, key));
                if changed { Applied::Changed } else { Applied::Unchanged }
            }
            Err(findings) => {
                self.refused.insert((kind, key), findings.clone());
                Applied::Refused(findings)
            }
        }
    }

    /// ConfigMap `istio` of the root namespace holds the mesh-wide options under the key `mesh`.
    fn read_mesh_config(&mut self, object: &Value) -> Result<bool, Findings> {
        let Some(text) = mesh_config_text(object) else { return Ok(false) };
        let fail = |finding: Box<Finding>| vec![finding.with_object(object_name(object))];
        let config = parse_mesh_config(text).map_err(fail)?;
        let changed = config != self.tables.mesh_config;
        self.tables.mesh_config = config;
        Ok(changed)
    }

    /// Takes the complete list of objects there are, as after a reconnect: what is not in it is deleted.
    pub fn replace<'a>(&mut self, objects: impl IntoIterator<Item = &'a Value>) -> Applied {
        let mut seen: BTreeSet<(String, Key)> = BTreeSet::new();
        let mut findings = Findings::new();
        let mut changed = false;
        for object in objects {
            let (kind, key) = identity(object);
            seen.insert((kind, key));
            match self.upsert(object) {
                Applied::Changed => changed = true,
                Applied::Unchanged => {}
                Applied::Refused(more) => findings.extend(more),
            }
        }
        let gone: Vec<(String, Key)> = self.tables.keys().map(|(kind, key)| (kind.to_owned(), key.clone())).filter(|id| !seen.contains(id)).collect();
        for (kind, key) in gone {
            changed |= self.tables.delete(&kind, &key);
        }
        self.refused.retain(|id, _| seen.contains(id));
        match (findings.is_empty(), changed) {
            (false, _) => Applied::Refused(findings),
            (true, true) => Applied::Changed,
            (true, false) => Applied::Unchanged,
        }
    }

    /// Everything as it is now.
    #[must_use]
    pub fn build(&self) -> Snapshot {
        Snapshot::new(self.tables.parts())
    }

    /// Findings about objects whose last change was refused.
    #[must_use]
    pub fn refused(&self) -> Findings {
        self.refused.values().flatten().cloned().collect()
    }
}

/// Reads `MeshConfig` from its YAML text.
///
/// # Errors
/// A finding with the path (below `data.mesh`) of the first field that does not fit.
pub fn parse_mesh_config(text: &str) -> Result<MeshConfig, Box<Finding>> {
    let documents = crate::yaml::parse(text, "mesh")?;
    match documents.first() {
        Some(document) => MeshConfig::from_json(document.to_json()).map_err(|error| Box::new(explain("data.mesh", &error.to_string()))),
        None => Ok(MeshConfig::default()),
    }
}

/// The text of the mesh-wide options, if `object` is the ConfigMap that holds them.
pub(crate) fn mesh_config_text(object: &Value) -> Option<&str> {
    let (kind, (namespace, name)) = identity(object);
    let is_mesh_config = kind == "ConfigMap" && namespace == names::ROOT_NAMESPACE && name == kinds::kubernetes::MESH_CONFIG_MAP;
    object.pointer("/data/mesh").and_then(Value::as_str).filter(|_| is_mesh_config)
}

fn identity(object: &Value) -> (String, Key) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/kind"), (text("/metadata/namespace"), text("/metadata/name")))
}

/// A finding about an event of an unknown shape.
#[must_use]
pub fn malformed(message: &str) -> Finding {
    Finding::new(Code::InvalidValue, message.to_owned()).with_remedy("the store and the control plane may be of different versions; restart both")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(attempts: i64) -> Value {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "a", "namespace": "default"},
            "spec": {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}], "retries": {"attempts": attempts}}]}})
    }

    #[test]
    fn a_bad_object_keeps_its_last_good_version() {
        let mut builder = SnapshotBuilder::default();
        assert_eq!(builder.apply(&Event::Upsert(rule(1))), Applied::Changed);
        assert!(matches!(builder.apply(&Event::Upsert(rule(-1))), Applied::Refused(_)));
        let snapshot = builder.build();
        assert_eq!(snapshot.virtual_services[0].spec.http[0].retries.as_ref().unwrap().attempts, 1);
        assert_eq!(builder.refused().len(), 1);
        builder.apply(&Event::Upsert(rule(2)));
        assert!(builder.refused().is_empty());
    }

    #[test]
    fn the_same_object_again_changes_nothing() {
        let mut builder = SnapshotBuilder::default();
        builder.apply(&Event::Upsert(rule(1)));
        assert_eq!(builder.apply(&Event::Upsert(rule(1))), Applied::Unchanged);
    }

    #[test]
    fn a_complete_list_removes_what_is_not_in_it() {
        let mut builder = SnapshotBuilder::default();
        builder.apply(&Event::Upsert(rule(1)));
        assert_eq!(builder.replace(&[]), Applied::Changed);
        assert!(builder.build().virtual_services.is_empty());
    }

    #[test]
    fn a_deleted_object_is_gone() {
        let mut builder = SnapshotBuilder::default();
        builder.apply(&Event::Upsert(rule(1)));
        assert_eq!(builder.apply(&Event::Delete(rule(1))), Applied::Changed);
        assert_eq!(builder.apply(&Event::Delete(rule(1))), Applied::Unchanged);
    }

    #[test]
    fn the_istio_config_map_sets_mesh_options() {
        let mut builder = SnapshotBuilder::default();
        let map = |text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": text}});
        assert_eq!(builder.apply(&Event::Upsert(map("trustDomain: example.org\n"))), Applied::Changed);
        assert_eq!(builder.build().mesh_config.trust_domain, "example.org");
        let Applied::Refused(findings) = builder.apply(&Event::Upsert(map("trustDomein: x\n"))) else { unreachable!() };
        assert_eq!(findings[0].path, "data.mesh.trustDomein");
        assert_eq!(builder.build().mesh_config.trust_domain, "example.org");
    }
}
