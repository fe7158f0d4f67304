//! What happens to an object on its way into the store: namespaces are made, addresses given, pods injected, images checked.
//!
//! - Reads: objects that passed their schema.
//! - Rule: a watcher never sees a Service without its address, or a pod without its sidecar.
//! - Rule: an object that names a namespace which is not there makes it, with its default service account and the mesh's root certificate.
//! - Source: Kubernetes' admission plug-ins `ServiceAccount`, `NamespaceAutoProvision`; Istio's injection webhook.

use super::builtin::with_inject_options;
use super::pod::environment;
use super::{Context, pod};
use lateen_base::{Code, Finding, labels, names};
use lateen_inject::sidecar::ROOT_CERT_CONFIG_MAP;
use lateen_inject::{Decision, NamespaceOrigin};
use lateen_kube_api::{Namespace, Pod, PodSpec};
use lateen_store::{Key, Outcome, StoreError};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::Arc;

impl Context {
    /// Applies what a user wrote.
    ///
    /// # Errors
    /// A finding that says why the object cannot be taken.
    pub(crate) fn apply(&self, object: Value) -> Result<(Outcome, Arc<Value>), Finding> {
        let key = Key::of(&object).ok_or_else(|| nameless(&object))?;
        let admitted = self.admit(&key, object)?;
        let applied = self.store.apply(admitted).map_err(|error| refused(&key, &error))?;
        if key.kind == "Namespace" {
            self.furnish_namespace(&key.name);
        }
        Ok(applied)
    }

    /// Creates an object of a controller, admitted like a user's.
    ///
    /// # Errors
    /// Likewise.
    pub(crate) fn create(&self, object: Value) -> Result<Arc<Value>, Finding> {
        let key = Key::of(&object).ok_or_else(|| nameless(&object))?;
        let admitted = self.admit(&key, object)?;
        let created = self.store.create(admitted).map_err(|error| refused(&key, &error))?;
        if key.kind == "Namespace" {
            self.furnish_namespace(&key.name);
        }
        Ok(created)
    }

    /// Deletes an object and what belongs to it. Pods end in order first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub(crate) fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match key.kind.as_str() {
            "Pod" => {
                let object = self.store.get(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
                let grace = serde_json::from_value::<Pod>((*object).clone()).map_or(0, |pod| pod::grace_of(&pod));
                self.store.mark_deleted(key, i64::try_from(grace).unwrap_or(i64::MAX))?;
            }
            "Service" => {
                let service = self.store.delete(key)?;
                if let Some(address) = cluster_ip(&service) {
                    self.network.release_service_address(address);
                }
            }
            "Namespace" => {
                self.store.delete(key)?;
                let filter = lateen_store::Filter { namespace: key.name.clone(), ..Default::default() };
                for object in self.store.list(&filter) {
                    // Whatever is gone meanwhile is gone.
                    let _ = Key::of(&object).map(|inner| self.delete(&inner));
                }
            }
            _ => drop(self.store.delete(key)?),
        }
        Ok(())
    }

    fn admit(&self, key: &Key, mut object: Value) -> Result<Value, Finding> {
        if !key.namespace.is_empty() {
            self.ensure_namespace(&key.namespace);
        }
        match key.kind.as_str() {
            "Namespace" => object["metadata"]["labels"][labels::NAMESPACE_NAME] = json!(key.name),
            "Service" => self.give_address(key, &mut object)?,
            "Deployment" | "ReplicaSet" => {
                let spec = object.pointer("/spec/template/spec").cloned().unwrap_or_default();
                self.check_images(key, &spec, "spec.template.spec")?;
            }
            "Pod" => {
                self.check_images(key, &object["spec"], "spec")?;
                object = self.inject(object)?;
            }
            _ => {}
        }
        Ok(object)
    }

    fn ensure_namespace(&self, name: &str) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {labels::NAMESPACE_NAME: name}}});
        if self.store.create(namespace).is_ok() {
            self.furnish_namespace(name);
        }
    }

    /// What is in every namespace.
    fn furnish_namespace(&self, name: &str) {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": names::DEFAULT_SERVICE_ACCOUNT, "namespace": name}});
        let root = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ROOT_CERT_CONFIG_MAP, "namespace": name},
            "data": {ROOT_CERT_KEY: self.root_cert}});
        for object in [account, root] {
            // They may be there already.
            let _ = self.store.create(object);
        }
    }

    fn give_address(&self, key: &Key, service: &mut Value) -> Result<(), Finding> {
        let wanted = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let before = self.store.get(key).as_deref().and_then(cluster_ip);
        let release = || before.map(|address| self.network.release_service_address(address));
        if service["spec"]["type"] == "ExternalName" || wanted == "None" {
            release();
            return Ok(());
        }
        let address = match (wanted.parse::<Ipv4Addr>(), before) {
            (Err(_), Some(kept)) => kept,
            (Ok(same), Some(kept)) if same == kept => kept,
            (chosen, _) => {
                let chosen = chosen.ok();
                let taken = self.network.take_service_address(chosen).ok_or_else(|| address_taken(key, &wanted))?;
                release();
                taken
            }
        };
        service["spec"]["clusterIP"] = json!(address.to_string());
        Ok(())
    }

    fn check_images(&self, key: &Key, spec: &Value, path: &str) -> Result<(), Finding> {
        let Ok(spec) = serde_json::from_value::<PodSpec>(spec.clone()) else { return Ok(()) };
        for (list, containers) in [("containers", &spec.containers), ("initContainers", &spec.init_containers)] {
            for (index, container) in containers.iter().enumerate() {
                environment::program(container, &[], &self.hooks)
                    .map_err(|finding| finding.with_object(key.to_string()).with_path(format!("{path}.{list}[{index}].image")))?;
            }
        }
        Ok(())
    }

    /// Adds the sidecar where the pod and its namespace ask for it.
    fn inject(&self, object: Value) -> Result<Value, Finding> {
        let pod: Pod = serde_json::from_value(object.clone())
            .map_err(|error| Finding::new(Code::SchemaValidationError, error.to_string()).with_remedy("correct the pod's specification"))?;
        let key = Key::new("v1", "Namespace", "", &pod.metadata.namespace);
        let namespace = self.store.get(&key);
        let origin = if self.store.is_applied(&key) { NamespaceOrigin::Declared } else { NamespaceOrigin::Implicit };
        let typed: Namespace = namespace.and_then(|object| serde_json::from_value((*object).clone()).ok()).unwrap_or_default();
        let injects = lateen_inject::namespace_injects(&pod.metadata.namespace, &typed.metadata.labels, origin);
        if lateen_inject::decide(&pod, injects) != Decision::Inject {
            return Ok(object);
        }
        let injected = with_inject_options(&self.start.options, |options| lateen_inject::inject(&pod, options));
        serde_json::to_value(injected).map_err(|error| Finding::new(Code::SchemaValidationError, error.to_string()))
    }
}

/// Key of the root certificate in its ConfigMap.
const ROOT_CERT_KEY: &str = "root-cert.pem";

fn cluster_ip(service: &Value) -> Option<Ipv4Addr> {
    service.pointer("/spec/clusterIP")?.as_str()?.parse().ok()
}

fn nameless(object: &Value) -> Finding {
    let kind = object["kind"].as_str().unwrap_or("object");
    Finding::new(Code::SchemaValidationError, format!("{kind} without apiVersion, kind or metadata.name")).with_remedy("add the missing field")
}

fn refused(key: &Key, error: &StoreError) -> Finding {
    Finding::new(Code::SchemaValidationError, error.to_string()).with_object(key.to_string())
}

fn address_taken(key: &Key, wanted: &str) -> Finding {
    let message = if wanted.is_empty() { "all addresses for Services are in use".to_owned() } else { format!("address {wanted} is in use, or not in 10.96.0.0/16") };
    Finding::new(Code::InvalidValue, message).with_object(key.to_string()).with_path("spec.clusterIP").with_remedy("remove the field to get a free address")
}
