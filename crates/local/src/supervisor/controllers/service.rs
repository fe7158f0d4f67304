//! Services: which endpoints their addresses lead to, for pods without a sidecar and for connections that a sidecar passes through.
//!
//! - Reads: Services, ready Pods, EndpointSlices.
//! - Twin: `mesh/src/kubernetes.rs`, which finds the same endpoints for the proxies.
//! - Rule: [`addresses`] is pure.

use crate::supervisor::network::{Network, PROTOCOL_TCP, PROTOCOL_UDP, VirtualAddress};
use crate::supervisor::{Context, pod::status::is_ready};
use lateen_base::labels;
use lateen_kube_api::{EndpointSlice, IntOrString, Pod, Service, ServicePort};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// What is in force.
#[derive(Default)]
pub(crate) struct Services {
    current: Vec<VirtualAddress>,
}

impl Services {
    /// Puts the addresses of now into force.
    pub(crate) async fn reconcile(&mut self, context: &Context) {
        let store = &context.store;
        let wanted = addresses(&store.all("Service"), &store.all("Pod"), &store.all("EndpointSlice"));
        if wanted == self.current {
            return;
        }
        let table = wanted.clone();
        match tokio::task::spawn_blocking(move || Network::set_services(&table)).await {
            Ok(Ok(())) => self.current = wanted,
            Ok(Err(error)) => eprintln!("service addresses: {error}"),
            Err(error) => eprintln!("service addresses: {error}"),
        }
    }
}

/// The addresses of all Services with their ready endpoints.
pub(crate) fn addresses(services: &[Arc<Value>], pods: &[Arc<Value>], slices: &[Arc<Value>]) -> Vec<VirtualAddress> {
    let pods: Vec<(Pod, bool)> = pods.iter().filter_map(|pod| Some((serde_json::from_value((**pod).clone()).ok()?, is_ready(pod)))).collect();
    let slices: Vec<EndpointSlice> = slices.iter().filter_map(|slice| serde_json::from_value((**slice).clone()).ok()).collect();
    let mut all = Vec::new();
    for service in services {
        let Ok(service) = serde_json::from_value::<Service>((**service).clone()) else { continue };
        let Ok(address) = service.spec.cluster_ip.parse::<Ipv4Addr>() else { continue };
        for port in &service.spec.ports {
            let protocol = if port.protocol == "UDP" { PROTOCOL_UDP } else { PROTOCOL_TCP };
            let mut endpoints = if service.spec.selector.is_empty() { from_slices(&service, port, &slices) } else { from_pods(&service, port, &pods) };
            endpoints.sort_unstable();
            all.push(VirtualAddress { address: SocketAddrV4::new(address, port.port), protocol, endpoints });
        }
    }
    all
}

fn from_pods(service: &Service, port: &ServicePort, pods: &[(Pod, bool)]) -> Vec<SocketAddrV4> {
    let all = service.spec.publish_not_ready_addresses == Some(true);
    let namespace = &service.metadata.namespace;
    let selected = pods.iter().filter(|(pod, ready)| {
        let labels = &pod.metadata.labels;
        (*ready || all) && pod.metadata.namespace == *namespace && service.spec.selector.iter().all(|(label, value)| labels.get(label) == Some(value))
    });
    selected.filter_map(|(pod, _)| Some(SocketAddrV4::new(pod.status.as_ref()?.pod_ip.parse().ok()?, target_port(port, pod)?))).collect()
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::String(name)) => {
            let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
            ports.into_iter().find(|container| container.name == *name).map(|container| container.container_port)
        }
        Some(number) => number.port(),
    }
}

fn from_slices(service: &Service, port: &ServicePort, slices: &[EndpointSlice]) -> Vec<SocketAddrV4> {
    let own = slices.iter().filter(|slice| {
        slice.metadata.namespace == service.metadata.namespace && slice.metadata.labels.get(labels::SERVICE_NAME) == Some(&service.metadata.name)
    });
    let mut endpoints = Vec::new();
    for slice in own {
        let named = slice.ports.iter().find(|candidate| candidate.name.clone().unwrap_or_default() == port.name);
        let Some(number) = named.and_then(|found| found.port) else { continue };
        let ready = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false));
        endpoints.extend(ready.flat_map(|endpoint| &endpoint.addresses).filter_map(|address| Some(SocketAddrV4::new(address.parse().ok()?, number))));
    }
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, ip: &str, ready: &str) -> Arc<Value> {
        Arc::new(json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "ports": [{"name": "http", "containerPort": 5678}]}]},
            "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}}))
    }

    fn endpoints(service: Value) -> Vec<String> {
        let pods = [pod("a", "10.244.0.2", "True"), pod("b", "10.244.0.3", "False")];
        let slice = json!({"metadata": {"name": "s", "namespace": "default", "labels": {labels::SERVICE_NAME: "web"}}, "ports": [{"port": 99}],
            "endpoints": [{"addresses": ["192.0.2.1"]}, {"addresses": ["192.0.2.2"], "conditions": {"ready": false}}]});
        let mut service = service;
        service["metadata"] = json!({"name": "web", "namespace": "default"});
        service["spec"]["clusterIP"] = json!("10.96.1.1");
        let found = addresses(&[Arc::new(service)], &pods, &[Arc::new(slice)]);
        found.iter().flat_map(|address| &address.endpoints).map(ToString::to_string).collect()
    }

    #[test]
    fn only_ready_pods_are_endpoints() {
        assert_eq!(endpoints(json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 5678}]}})), ["10.244.0.2:5678"]);
    }

    #[test]
    fn a_port_without_target_goes_to_its_own_number() {
        assert_eq!(endpoints(json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})), ["10.244.0.2:80"]);
    }

    #[test]
    fn a_named_target_is_looked_up_in_the_pod() {
        assert_eq!(endpoints(json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}})), ["10.244.0.2:5678"]);
        assert!(endpoints(json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "grpc"}]}})).is_empty());
    }

    #[test]
    fn a_service_without_selector_takes_its_slices() {
        assert_eq!(endpoints(json!({"spec": {"ports": [{"port": 80}]}})), ["192.0.2.1:99"]);
    }
}
