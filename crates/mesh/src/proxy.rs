//! `Proxy`: the node that asks for configuration, as read from its first xDS request.
//!
//! - Reads: `envoy.config.core.v3.Node`: id `sidecar~IP~pod.ns~domain`, `metadata`, `user_agent_name`.
//! - Rule: what a node does not say is never guessed from its address; a node id that does not parse is refused.
//! - Not here: whether the caller may claim this identity (`control`).

use lateen_base::names;
use std::collections::{BTreeMap, BTreeSet};

/// What role the node plays. Source: first part of the node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeType {
    /// Beside an application.
    Sidecar,
    /// At the edge: an ingress or egress gateway.
    Router,
}

/// Who asks for configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Whole node id.
    pub id: String,
    /// Role.
    pub node_type: NodeType,
    /// Addresses of the workload, the first being its own id's.
    pub ip_addresses: Vec<String>,
    /// Pod name.
    pub name: String,
    /// Namespace of the workload.
    pub namespace: String,
    /// DNS domain such as `default.svc.cluster.local`.
    pub dns_domain: String,
    /// Service account; empty when the node does not say.
    pub service_account: String,
    /// Labels of the workload.
    pub labels: BTreeMap<String, String>,
    /// Kubernetes cluster the node runs in.
    pub cluster_id: String,
    /// Mesh the node belongs to.
    pub mesh_id: String,
    /// Deployment or other owner of the workload.
    pub workload_name: String,
    /// Network the node is in; empty for the only one.
    pub network: String,
    /// `envoy`, `lateen` or another implementation.
    pub user_agent_name: String,
    /// Istio extensions this node understands beyond stock Envoy. Source: metadata `LATEEN_FEATURES`.
    pub features: BTreeSet<String>,
    /// The node is reached without interception. Source: metadata `INTERCEPTION_MODE: NONE`.
    pub interception_none: bool,
    /// Region and zone.
    pub locality: crate::Locality,
}

/// Why a node's first request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadNode {
    /// The id as sent.
    pub id: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl std::fmt::Display for BadNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node id {:?}: {}; expected sidecar~IP~POD.NAMESPACE~DOMAIN or router~…", self.id, self.reason)
    }
}

impl std::error::Error for BadNode {}

impl Proxy {
    /// Reads a node from the parts of its xDS `Node` message; `metadata` is the struct as JSON.
    ///
    /// # Errors
    /// [`BadNode`] when the id does not have its four parts or an unknown role.
    pub fn parse(id: &str, user_agent_name: &str, metadata: &serde_json::Value) -> Result<Self, BadNode> {
        let bad = |reason| BadNode { id: id.to_owned(), reason };
        let mut parts = id.split('~');
        let (Some(role), Some(ip), Some(pod), Some(domain), None) = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(bad("it does not have four parts"));
        };
        let node_type = match role {
            "sidecar" => NodeType::Sidecar,
            "router" => NodeType::Router,
            _ => return Err(bad("its role is neither sidecar nor router")),
        };
        let (name, id_namespace) = pod.rsplit_once('.').unwrap_or((pod, ""));
        let text = |key: &str| metadata.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let namespace = Some(text("NAMESPACE")).filter(|n| !n.is_empty()).unwrap_or_else(|| id_namespace.to_owned());
        if namespace.is_empty() {
            return Err(bad("neither it nor metadata NAMESPACE names a namespace"));
        }
        let mut ip_addresses: Vec<String> = text("INSTANCE_IPS").split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
        if !ip.is_empty() {
            ip_addresses.retain(|a| a != ip);
            ip_addresses.insert(0, ip.to_owned());
        }
        Ok(Self {
            id: id.to_owned(),
            node_type,
            ip_addresses,
            name: name.to_owned(),
            namespace,
            dns_domain: domain.to_owned(),
            service_account: text("SERVICE_ACCOUNT"),
            labels: labels(metadata),
            cluster_id: Some(text("CLUSTER_ID")).filter(|c| !c.is_empty()).unwrap_or_else(|| DEFAULT_CLUSTER_ID.to_owned()),
            mesh_id: text("MESH_ID"),
            workload_name: text("WORKLOAD_NAME"),
            network: text("NETWORK"),
            user_agent_name: user_agent_name.to_owned(),
            features: features(metadata),
            interception_none: text("INTERCEPTION_MODE") == "NONE",
            locality: crate::Locality::default(),
        })
    }

    /// True when the node understands Istio's own filters. Stock Envoy does not say so, and is sent nothing it does not know.
    pub fn speaks_istio(&self) -> bool {
        self.features.contains(names::FEATURE_PEER_METADATA)
    }

    /// True for a gateway.
    pub fn is_router(&self) -> bool {
        self.node_type == NodeType::Router
    }
}

/// Cluster id of a node that names none, as Istio's.
pub const DEFAULT_CLUSTER_ID: &str = "Kubernetes";

fn labels(metadata: &serde_json::Value) -> BTreeMap<String, String> {
    let Some(object) = metadata.get("LABELS").and_then(serde_json::Value::as_object) else { return BTreeMap::new() };
    object.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

fn features(metadata: &serde_json::Value) -> BTreeSet<String> {
    let Some(list) = metadata.get(names::NODE_FEATURES).and_then(serde_json::Value::as_array) else { return BTreeSet::new() };
    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> serde_json::Value {
        serde_json::json!({"NAMESPACE": "default", "LABELS": {"app": "web"}, "INSTANCE_IPS": "10.1.0.1,fe80::1", "LATEEN_FEATURES": ["peer_metadata"]})
    }

    #[test]
    fn a_sidecar_node_parses() {
        let proxy = Proxy::parse("sidecar~10.1.0.1~web-1.default~default.svc.cluster.local", "lateen", &metadata()).unwrap();
        assert_eq!((proxy.name.as_str(), proxy.namespace.as_str()), ("web-1", "default"));
        assert_eq!(proxy.ip_addresses, ["10.1.0.1", "fe80::1"]);
        assert_eq!(proxy.labels["app"], "web");
        assert!(proxy.speaks_istio());
    }

    #[test]
    fn stock_envoy_has_no_features() {
        let proxy = Proxy::parse("router~10.1.0.1~gw.ns~ns.svc.cluster.local", "envoy", &serde_json::json!({})).unwrap();
        assert!(proxy.is_router() && !proxy.speaks_istio());
    }

    #[test]
    fn a_node_id_without_four_parts_is_refused() {
        assert!(Proxy::parse("sidecar~1.2.3.4", "envoy", &metadata()).is_err());
    }
}
