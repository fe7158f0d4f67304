//! Kubernetes objects → services, workloads and endpoints of the mesh.
//!
//! - Reads: Services, Pods, Nodes, EndpointSlices.
//! - Twin: `kube-api/src/service.rs`, the objects as users write them;
//!   `kinds/src/kubernetes/service.rs`, `local/src/supervisor/controllers/service.rs`.
//! - Rule: EndpointSlices win where a service has any; otherwise endpoints come from its selector and the pods.
//! - Rule: a pod that is terminating, finished or without an address is no endpoint.
//! - Limits: UDP and SCTP ports are left out; `ExternalName` becomes a DNS service.

use crate::service::{Registry, Resolution, Service, ServicePort, TargetPort};
use crate::workload::{Endpoint, Health, Locality, TlsMode, Workload, deployment_of_replica_set};
use crate::{ExportTo, MeshConfig, Object, Protocol, selects};
use lateen_base::{Host, annotations, labels, names};
use lateen_kube_api as kube;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a service's endpoints may come from.
pub struct EndpointSources<'a> {
    /// Workloads of the service's namespace.
    pub workloads: &'a [&'a Workload],
    /// Slices that name the service; `None` when there are none.
    pub slices: Option<&'a [&'a Object<kube::EndpointSlice>]>,
    /// Locality of each node.
    pub nodes: &'a BTreeMap<String, Locality>,
    /// First part of identities.
    pub trust_domain: &'a str,
}

/// Locality told by a node's topology labels.
pub fn locality(node_labels: &BTreeMap<String, String>) -> Locality {
    let label = |key: &str| node_labels.get(key).cloned().unwrap_or_default();
    Locality { region: label(labels::TOPOLOGY_REGION), zone: label(labels::TOPOLOGY_ZONE), sub_zone: label(labels::TOPOLOGY_SUBZONE) }
}

/// The workload a pod is; `None` while it has no address or has run to its end.
pub fn workload(object: &Object<kube::Pod>, nodes: &BTreeMap<String, Locality>) -> Option<Workload> {
    let (meta, pod) = (&object.meta, &object.spec);
    let status = pod.status.as_ref().filter(|s| !s.pod_ip.is_empty())?;
    let account = [&pod.spec.service_account_name, &pod.spec.service_account].into_iter().find(|a| !a.is_empty());
    let ports = pod.spec.containers.iter().flat_map(|c| &c.ports).filter(|p| !p.name.is_empty());
    Some(Workload {
        name: meta.name.clone(),
        workload_name: workload_name(object),
        namespace: meta.namespace.clone(),
        address: status.pod_ip.clone(),
        labels: meta.labels.clone(),
        service_account: account.map_or_else(|| names::DEFAULT_SERVICE_ACCOUNT.to_owned(), Clone::clone),
        ready: status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True"),
        terminating: meta.deletion_timestamp.is_some() || matches!(status.phase.as_str(), "Succeeded" | "Failed"),
        locality: nodes.get(&pod.spec.node_name).cloned().unwrap_or_default(),
        ports: ports.map(|p| (p.name.clone(), p.container_port)).collect(),
        tls_mode: TlsMode::of_labels(&meta.labels),
        weight: 0,
        network: meta.labels.get(labels::TOPOLOGY_NETWORK).cloned().unwrap_or_default(),
        external: false,
    })
}

fn workload_name(object: &Object<kube::Pod>) -> String {
    match &object.meta.owner {
        Some((kind, name)) if kind == "ReplicaSet" => deployment_of_replica_set(name, &object.meta.labels),
        Some((_, name)) => name.clone(),
        None => object.meta.name.clone(),
    }
}

/// The mesh service a Kubernetes Service declares, with its endpoints.
pub fn service(object: &Object<kube::Service>, config: &MeshConfig, sources: &EndpointSources<'_>) -> Service {
    let (meta, spec) = (&object.meta, &object.spec.spec);
    let headless = spec.cluster_ip == "None";
    let external_name = spec.r#type == "ExternalName";
    let export: Vec<String> = meta.annotations.get(annotations::EXPORT_TO).map(|a| a.split(',').map(|n| n.trim().to_owned()).collect()).unwrap_or_default();
    let mut service = Service {
        hostname: Host::new(&names::service_host(&meta.name, &meta.namespace, &config.cluster_domain)),
        meta: Arc::clone(meta),
        registry: Registry::Kubernetes,
        ports: spec.ports.iter().map(port).filter(|p| p.protocol != Protocol::Udp).collect(),
        addresses: addresses(spec),
        selector: spec.selector.clone(),
        resolution: match (headless, external_name) {
            (_, true) => Resolution::Dns,
            (true, false) => Resolution::Passthrough,
            (false, false) => Resolution::ClientSide,
        },
        headless,
        external: external_name,
        export_to: ExportTo::of(if export.is_empty() { &config.default_service_export_to } else { &export }),
        subject_alt_names: Vec::new(),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        endpoints: Vec::new(),
    };
    service.endpoints = if external_name {
        let ports = service.ports.iter().map(|p| (p.name.clone(), p.number)).collect();
        vec![Endpoint { address: spec.external_name.clone(), ports, namespace: meta.namespace.clone(), ..Endpoint::default() }]
    } else {
        endpoints(&service, sources)
    };
    service
}

fn port(port: &kube::ServicePort) -> ServicePort {
    let transport = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
    let transport = if transport == "SCTP" { "UDP" } else { transport };
    let target = match &port.target_port {
        Some(kube::IntOrString::String(name)) => TargetPort::Name(name.clone()),
        Some(number) => TargetPort::Number(number.port().unwrap_or(port.port)),
        None => TargetPort::Number(port.port),
    };
    ServicePort {
        name: port.name.clone(),
        number: port.port,
        protocol: Protocol::of_service_port(&port.name, port.app_protocol.as_deref(), transport, port.port),
        target,
    }
}

fn addresses(spec: &kube::ServiceSpec) -> Vec<String> {
    let mut all: Vec<String> = std::iter::once(&spec.cluster_ip).chain(&spec.cluster_i_ps).filter(|a| !a.is_empty() && *a != "None").cloned().collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|a| seen.insert(a.clone()));
    all
}

fn endpoints(service: &Service, sources: &EndpointSources<'_>) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = match sources.slices {
        Some(slices) => slices.iter().flat_map(|slice| of_slice(slice, service, sources)).collect(),
        None if service.selector.is_empty() => Vec::new(),
        None => sources.workloads.iter().filter(|w| selects(&service.selector, &w.labels)).filter_map(|w| of_workload(w, service, sources.trust_domain)).collect(),
    };
    found.sort_by(|a, b| address_order(&a.address).cmp(&address_order(&b.address)));
    found
}

/// Orders addresses by value, then anything else by text.
fn address_order(address: &str) -> (Option<std::net::IpAddr>, &str) {
    (address.parse().ok(), address)
}

fn of_workload(workload: &Workload, service: &Service, trust_domain: &str) -> Option<Endpoint> {
    if workload.terminating || workload.address.is_empty() {
        return None;
    }
    let number = |p: &ServicePort| match &p.target {
        TargetPort::Number(n) => Some(*n),
        TargetPort::Name(name) => workload.ports.get(name).copied(),
    };
    let ports = service.ports.iter().filter_map(|p| Some((p.name.clone(), number(p)?))).collect();
    let mut endpoint = Endpoint { ports, ..workload.endpoint(trust_domain) };
    if service.publish_not_ready {
        endpoint.health = Health::Healthy;
    }
    Some(endpoint)
}

fn of_slice(slice: &Object<kube::EndpointSlice>, service: &Service, sources: &EndpointSources<'_>) -> Vec<Endpoint> {
    let ports: BTreeMap<String, u16> = slice.spec.ports.iter().filter_map(|p| Some((p.name.clone().unwrap_or_default(), p.port?))).collect();
    let each = |e: &kube::SliceEndpoint| {
        let conditions = &e.conditions;
        if conditions.terminating == Some(true) {
            return Vec::new();
        }
        let ready = conditions.ready.unwrap_or(true) || service.publish_not_ready;
        e.addresses
            .iter()
            .map(|address| {
                let workload = sources.workloads.iter().find(|w| w.address == *address && !w.terminating);
                let known = workload.map(|w| w.endpoint(sources.trust_domain)).unwrap_or_default();
                let node = e.node_name.as_ref().and_then(|n| sources.nodes.get(n)).cloned();
                Endpoint {
                    address: address.clone(),
                    ports: ports.clone(),
                    locality: node.unwrap_or_else(|| known.locality.clone()),
                    namespace: service.namespace().to_owned(),
                    health: if ready { Health::Healthy } else { Health::Unhealthy },
                    ..known
                }
            })
            .collect()
    };
    slice.spec.endpoints.iter().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Meta, Parts, Snapshot};

    fn object<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> Object<T> {
        let text = |key: &str| json["metadata"][key].as_str().unwrap_or_default().to_owned();
        let labels = serde_json::from_value(json["metadata"]["labels"].clone()).unwrap_or_default();
        let deletion_timestamp = json["metadata"]["deletionTimestamp"].as_str().map(str::to_owned);
        Object::new(Meta { name: text("name"), namespace: text("namespace"), labels, deletion_timestamp, ..Meta::default() }, serde_json::from_value(json).unwrap())
    }

    fn pod(name: &str, ip: &str, ready: &str) -> Object<kube::Pod> {
        object(serde_json::json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"serviceAccountName": "web", "containers": [{"name": "c", "ports": [{"name": "main", "containerPort": 5678}]}]},
            "status": {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}))
    }

    fn web(target: serde_json::Value) -> Object<kube::Service> {
        object(serde_json::json!({"metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": target}]}}))
    }

    #[test]
    fn endpoints_come_from_the_selector_without_slices() {
        let parts = Parts { kube_services: vec![web("main".into())], pods: vec![pod("b", "10.244.0.10", "True"), pod("a", "10.244.0.9", "False")], ..Parts::default() };
        let snapshot = Snapshot::new(parts);
        let endpoints = &snapshot.services()[0].endpoints;
        assert_eq!(endpoints.iter().map(|e| (e.address.as_str(), e.ports["http"], e.health)).collect::<Vec<_>>(), [("10.244.0.9", 5678, Health::Unhealthy), ("10.244.0.10", 5678, Health::Healthy)]);
        assert_eq!(endpoints[0].identity, "spiffe://cluster.local/ns/default/sa/web");
    }

    #[test]
    fn a_terminating_pod_is_no_endpoint() {
        let mut gone = pod("a", "10.244.0.9", "True");
        gone.meta = Arc::new(Meta { deletion_timestamp: Some("2026-01-01T00:00:00Z".into()), ..Meta::clone(&gone.meta) });
        let snapshot = Snapshot::new(Parts { kube_services: vec![web(80.into())], pods: vec![gone], ..Parts::default() });
        assert!(snapshot.services()[0].endpoints.is_empty());
    }

    #[test]
    fn a_missing_target_port_is_the_service_port() {
        let service: Object<kube::Service> = object(serde_json::json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}));
        let snapshot = Snapshot::new(Parts { kube_services: vec![service], ..Parts::default() });
        assert_eq!(snapshot.services()[0].ports[0].target, TargetPort::Number(80));
    }
}
