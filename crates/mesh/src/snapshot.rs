//! `Snapshot`: every object at one moment, with the indexes that lookups need.
//!
//! - Reads: [`Parts`], which `source` fills from raw objects.
//! - Rule: immutable; lists of one kind are in Istio's order (oldest first, then name, then namespace).
//! - Rule: services carry their endpoints: from EndpointSlices where there are any, else from the selector and the pods.
//! - Not here: reading and checking raw objects (`source`), which rule wins (`lookup`).

use crate::{Locality, MeshConfig, Object, Service, Workload, kubernetes, service_entry};
use lateen_base::Host;
use lateen_istio_api as istio;
use lateen_kube_api as kube;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// All typed objects. For Istio kinds the object holds the `spec`; for Kubernetes kinds the whole object.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Mesh-wide options.
    pub mesh_config: MeshConfig,
    /// Namespaces.
    pub namespaces: Vec<Object<kube::Namespace>>,
    /// Nodes; only their topology labels matter.
    pub nodes: Vec<Object<kube::Node>>,
    /// Service accounts.
    pub service_accounts: Vec<Object<kube::ServiceAccount>>,
    /// Kubernetes Services.
    pub kube_services: Vec<Object<kube::Service>>,
    /// Pods.
    pub pods: Vec<Object<kube::Pod>>,
    /// Deployments; looked at by analysis only.
    pub deployments: Vec<Object<kube::Deployment>>,
    /// EndpointSlices.
    pub endpoint_slices: Vec<Object<kube::EndpointSlice>>,
    /// Secrets, for gateway credentials.
    pub secrets: Vec<Object<kube::Secret>>,
    /// ConfigMaps; looked at by analysis only.
    pub config_maps: Vec<Object<kube::ConfigMap>>,
    /// VirtualServices.
    pub virtual_services: Vec<Object<istio::VirtualService>>,
    /// DestinationRules.
    pub destination_rules: Vec<Object<istio::DestinationRule>>,
    /// Gateways.
    pub gateways: Vec<Object<istio::Gateway>>,
    /// ServiceEntries.
    pub service_entries: Vec<Object<istio::ServiceEntry>>,
    /// WorkloadEntries.
    pub workload_entries: Vec<Object<istio::WorkloadEntry>>,
    /// Sidecars.
    pub sidecars: Vec<Object<istio::Sidecar>>,
    /// PeerAuthentications.
    pub peer_authentications: Vec<Object<istio::PeerAuthentication>>,
    /// AuthorizationPolicies.
    pub authorization_policies: Vec<Object<istio::AuthorizationPolicy>>,
    /// RequestAuthentications.
    pub request_authentications: Vec<Object<istio::RequestAuthentication>>,
    /// Telemetries.
    pub telemetries: Vec<Object<istio::Telemetry>>,
}

#[derive(Debug, Default)]
struct Inner {
    parts: Parts,
    services: Vec<Service>,
    workloads: Vec<Workload>,
    services_by_host: BTreeMap<Host, Vec<usize>>,
    destination_rules_by_namespace: BTreeMap<String, Vec<(Host, usize)>>,
}

/// Every object at one moment. Clones are free; reading goes through to [`Parts`].
#[derive(Debug, Clone, Default)]
pub struct Snapshot(Arc<Inner>);

/// What [`Snapshot`] gives besides its [`Parts`]: computed once, when it is built.
impl Snapshot {
    /// Sorts the parts and computes services, workloads and indexes.
    pub fn new(mut parts: Parts) -> Self {
        sort(&mut parts);
        let nodes = parts.nodes.iter().map(|n| (n.meta.name.clone(), kubernetes::locality(&n.meta.labels))).collect();
        let workloads = workloads(&parts, &nodes);
        let services = services(&parts, &workloads, &nodes);
        let mut services_by_host: BTreeMap<Host, Vec<usize>> = BTreeMap::new();
        for (i, service) in services.iter().enumerate() {
            services_by_host.entry(service.hostname.clone()).or_default().push(i);
        }
        let mut destination_rules_by_namespace: BTreeMap<String, Vec<(Host, usize)>> = BTreeMap::new();
        for (i, rule) in parts.destination_rules.iter().enumerate() {
            let host = Host::resolve(&rule.spec.host, &rule.meta.namespace, &parts.mesh_config.cluster_domain);
            destination_rules_by_namespace.entry(rule.meta.namespace.clone()).or_default().push((host, i));
        }
        Self(Arc::new(Inner { parts, services, workloads, services_by_host, destination_rules_by_namespace }))
    }

    /// Services of Kubernetes and of ServiceEntries, with endpoints; Kubernetes' first, each group oldest first.
    pub fn services(&self) -> &[Service] {
        &self.0.services
    }

    /// Pods and WorkloadEntries that have an address.
    pub fn workloads(&self) -> &[Workload] {
        &self.0.workloads
    }

    /// The namespace object called `name`.
    pub fn namespace(&self, name: &str) -> Option<&Object<kube::Namespace>> {
        self.namespaces.iter().find(|n| n.meta.name == name)
    }

    /// The secret `namespace/name`.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Object<kube::Secret>> {
        self.secrets.iter().find(|s| s.meta.name == name && s.meta.namespace == namespace)
    }

    /// The workload with this address.
    pub fn workload_at(&self, address: &str) -> Option<&Workload> {
        self.0.workloads.iter().find(|w| w.address == address && !w.terminating)
    }

    /// Positions in [`Snapshot::services`] of the services called `host`.
    pub(crate) fn services_named(&self, host: &Host) -> impl Iterator<Item = &Service> {
        self.0.services_by_host.get(host).into_iter().flatten().filter_map(|i| self.0.services.get(*i))
    }

    /// DestinationRules of a namespace, each with its resolved host.
    pub(crate) fn destination_rules_in(&self, namespace: &str) -> impl Iterator<Item = (&Host, &Object<istio::DestinationRule>)> {
        let rules = self.0.destination_rules_by_namespace.get(namespace);
        rules.into_iter().flatten().filter_map(|(host, i)| Some((host, self.destination_rules.get(*i)?)))
    }
}

impl Deref for Snapshot {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

fn sort(parts: &mut Parts) {
    fn by_age<T>(objects: &mut [Object<T>]) {
        objects.sort_by(|a, b| a.meta.age_order(&b.meta));
    }
    by_age(&mut parts.namespaces);
    by_age(&mut parts.nodes);
    by_age(&mut parts.service_accounts);
    by_age(&mut parts.kube_services);
    by_age(&mut parts.pods);
    by_age(&mut parts.deployments);
    by_age(&mut parts.endpoint_slices);
    by_age(&mut parts.secrets);
    by_age(&mut parts.config_maps);
    by_age(&mut parts.virtual_services);
    by_age(&mut parts.destination_rules);
    by_age(&mut parts.gateways);
    by_age(&mut parts.service_entries);
    by_age(&mut parts.workload_entries);
    by_age(&mut parts.sidecars);
    by_age(&mut parts.peer_authentications);
    by_age(&mut parts.authorization_policies);
    by_age(&mut parts.request_authentications);
    by_age(&mut parts.telemetries);
}

fn workloads(parts: &Parts, nodes: &BTreeMap<String, Locality>) -> Vec<Workload> {
    let pods = parts.pods.iter().filter_map(|pod| kubernetes::workload(pod, nodes));
    pods.chain(parts.workload_entries.iter().map(service_entry::workload)).collect()
}

fn services(parts: &Parts, workloads: &[Workload], nodes: &BTreeMap<String, Locality>) -> Vec<Service> {
    let config = &parts.mesh_config;
    let mut by_namespace: BTreeMap<&str, Vec<&Workload>> = BTreeMap::new();
    for workload in workloads {
        by_namespace.entry(&workload.namespace).or_default().push(workload);
    }
    let mut slices: BTreeMap<(&str, &str), Vec<&Object<kube::EndpointSlice>>> = BTreeMap::new();
    for slice in &parts.endpoint_slices {
        if let Some(service) = slice.meta.labels.get(lateen_base::labels::SERVICE_NAME) {
            slices.entry((&slice.meta.namespace, service)).or_default().push(slice);
        }
    }
    let none = Vec::new();
    let mut all: Vec<Service> = parts
        .kube_services
        .iter()
        .map(|object| {
            let sources = kubernetes::EndpointSources {
                workloads: by_namespace.get(object.meta.namespace.as_str()).unwrap_or(&none),
                slices: slices.get(&(object.meta.namespace.as_str(), object.meta.name.as_str())).map(Vec::as_slice),
                nodes,
                trust_domain: &config.trust_domain,
            };
            kubernetes::service(object, config, &sources)
        })
        .collect();
    for entry in &parts.service_entries {
        all.extend(service_entry::services(entry, workloads, &config.default_service_export_to, &config.trust_domain));
    }
    all
}
