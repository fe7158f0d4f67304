//! Reading test inputs: YAML documents → snapshot and proxy.
//!
//! - Rule: a document that does not decode fails the test that uses it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use lateen_envoy_api::Any;
use lateen_kinds::kind::Kind;
use lateen_kinds::{authorization_policy, decode, destination_rule, gateway, kubernetes, peer_authentication, request_authentication, service_entry, sidecar, telemetry, virtual_service, workload_entry};
use lateen_mesh::{MeshConfig, Object, Parts, Proxy, Snapshot};
use serde_json::Value;
use std::collections::BTreeMap;

/// The objects of several YAML texts, in order.
pub fn documents(texts: &[&str]) -> Vec<Value> {
    let mut all = Vec::new();
    for text in texts {
        let found: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        all.extend(found.into_iter().filter(|v| !v.is_null()));
    }
    all
}

fn object<K: Kind>(value: &Value) -> Object<K::Spec> {
    decode::decode::<K>(value).unwrap_or_else(|finding| panic!("{finding:?}"))
}

/// A snapshot of typed objects.
pub fn snapshot(objects: &[Value], mesh_config: MeshConfig) -> Snapshot {
    let mut parts = Parts { mesh_config, ..Parts::default() };
    for value in objects {
        let kind = value["kind"].as_str().unwrap_or_default();
        match kind {
            "Namespace" => parts.namespaces.push(object::<kubernetes::namespace::NamespaceKind>(value)),
            "Node" => parts.nodes.push(object::<kubernetes::NodeKind>(value)),
            "Service" => parts.kube_services.push(object::<kubernetes::service::ServiceKind>(value)),
            "Pod" => parts.pods.push(object::<kubernetes::pod::PodKind>(value)),
            "EndpointSlice" => parts.endpoint_slices.push(object::<kubernetes::EndpointSliceKind>(value)),
            "Secret" => parts.secrets.push(object::<kubernetes::SecretKind>(value)),
            "VirtualService" => parts.virtual_services.push(object::<virtual_service::VirtualServiceKind>(value)),
            "DestinationRule" => parts.destination_rules.push(object::<destination_rule::DestinationRuleKind>(value)),
            "Gateway" => parts.gateways.push(object::<gateway::GatewayKind>(value)),
            "ServiceEntry" => parts.service_entries.push(object::<service_entry::ServiceEntryKind>(value)),
            "WorkloadEntry" => parts.workload_entries.push(object::<workload_entry::WorkloadEntryKind>(value)),
            "Sidecar" => parts.sidecars.push(object::<sidecar::SidecarKind>(value)),
            "PeerAuthentication" => parts.peer_authentications.push(object::<peer_authentication::PeerAuthenticationKind>(value)),
            "AuthorizationPolicy" => parts.authorization_policies.push(object::<authorization_policy::AuthorizationPolicyKind>(value)),
            "RequestAuthentication" => parts.request_authentications.push(object::<request_authentication::RequestAuthenticationKind>(value)),
            "Telemetry" => parts.telemetries.push(object::<telemetry::TelemetryKind>(value)),
            other => panic!("{other} is not read by these tests"),
        }
    }
    Snapshot::new(parts)
}

/// A node as the agent announces it.
pub fn proxy(role: &str, address: &str, pod: (&str, &str), account: &str, labels: &[(&str, &str)], istio: bool) -> Proxy {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    let features: &[&str] = if istio { &["peer_metadata"] } else { &[] };
    let metadata = serde_json::json!({
        "NAMESPACE": pod.1, "LABELS": labels, "SERVICE_ACCOUNT": account, "INSTANCE_IPS": address, "CLUSTER_ID": "Kubernetes", "LATEEN_FEATURES": features,
    });
    let id = format!("{role}~{address}~{}.{}~{}.svc.cluster.local", pod.0, pod.1, pod.1);
    Proxy::parse(&id, if istio { "lateen" } else { "envoy" }, &metadata).unwrap()
}

/// Resources as JSON by name.
pub fn json(named: &lateen_compile::Named) -> BTreeMap<String, Value> {
    named.iter().map(|(name, resource)| (name.clone(), any_json(&resource.body))).collect()
}

/// One packed message as protobuf-JSON.
pub fn any_json(any: &Any) -> Value {
    serde_json::to_value(any).unwrap()
}
