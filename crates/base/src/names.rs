//! Well-known names: clusters, listeners, files, services.
//!
//! - Rule: a name both halves must agree on is built and taken apart here.
//! - Source: istiod's generated configuration; scripts and dashboards depend on these forms.

/// Trust domain where nothing else is configured.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// DNS domain of the cluster.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// The root namespace: mesh-wide policies live here, and so does the control plane.
pub const ROOT_NAMESPACE: &str = "istio-system";
/// Namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// Service account of pods that name none.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";
/// The control plane's Deployment and Service.
pub const ISTIOD: &str = "istiod";
/// Full DNS name of the control plane.
pub const ISTIOD_HOST: &str = "istiod.istio-system.svc";
/// The ingress gateway's Deployment and Service.
pub const INGRESS_GATEWAY: &str = "istio-ingressgateway";
/// The sidecar's container name.
pub const PROXY_CONTAINER: &str = "istio-proxy";
/// The interception container's name.
pub const INIT_CONTAINER: &str = "istio-init";
/// Audience of tokens that the certificate service accepts.
pub const TOKEN_AUDIENCE: &str = "istio-ca";
/// Name of the host's loopback inside a pod.
pub const HOST_ALIAS: &str = "host.lateen.internal";
/// Stands for the sidecars in `VirtualService.gateways`.
pub const MESH_GATEWAY: &str = "mesh";

/// Cluster for outbound traffic to unknown destinations.
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// Cluster that drops traffic.
pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
/// Cluster for inbound traffic to undeclared ports.
pub const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";
/// Static cluster that reaches the agent's SDS socket.
pub const SDS_CLUSTER: &str = "sds-grpc";
/// Static cluster that reaches the control plane.
pub const XDS_CLUSTER: &str = "xds-grpc";
/// Static cluster that reaches the agent's status port.
pub const AGENT_CLUSTER: &str = "agent";
/// Static cluster that reaches the proxy's admin interface.
pub const PROMETHEUS_CLUSTER: &str = "prometheus_stats";
/// Listener that receives redirected outbound connections.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// Listener that receives redirected inbound connections.
pub const VIRTUAL_INBOUND: &str = "virtualInbound";
/// SDS name of the workload's key and certificate.
pub const SECRET_DEFAULT: &str = "default";
/// SDS name of the mesh's trust bundle.
pub const SECRET_ROOT: &str = "ROOTCA";
/// Prefix of gateway credentials fetched over ADS.
pub const SECRET_KUBERNETES_PREFIX: &str = "kubernetes://";
/// Suffix of the CA half of a gateway credential.
pub const SECRET_CA_SUFFIX: &str = "-cacert";

/// Virtual host that lets undeclared hosts through.
pub const VHOST_ALLOW_ANY: &str = "allow_any";
/// Virtual host that refuses undeclared hosts.
pub const VHOST_BLOCK_ALL: &str = "block_all";

/// ALPN protocols between sidecars: TCP, then the HTTP versions.
pub const ALPN_PEER_EXCHANGE: &str = "istio-peer-exchange";
/// ALPN that marks a connection as in-mesh.
pub const ALPN_ISTIO: &str = "istio";
/// ALPN of in-mesh HTTP/1.0.
pub const ALPN_ISTIO_HTTP10: &str = "istio-http/1.0";
/// ALPN of in-mesh HTTP/1.1.
pub const ALPN_ISTIO_HTTP11: &str = "istio-http/1.1";
/// ALPN of in-mesh HTTP/2.
pub const ALPN_ISTIO_H2: &str = "istio-h2";

/// `user_agent_name` of our own nodes.
pub const USER_AGENT: &str = "lateen";
/// Node metadata key listing the features a node of ours understands.
pub const NODE_FEATURES: &str = "LATEEN_FEATURES";
/// Feature: HTTP peer metadata, Istio's statistics and ALPN filters.
pub const FEATURE_PEER_METADATA: &str = "peer_metadata";

/// Where a pod finds its token for the certificate service.
pub const TOKEN_PATH: &str = "/var/run/secrets/tokens/istio-token";
/// Where a pod finds the mesh's root certificate.
pub const ROOT_CERT_PATH: &str = "/var/run/secrets/istio/root-cert.pem";
/// Folder of the sidecar's sockets and bootstrap inside its pod.
pub const PROXY_DIR: &str = "/run/lateen-proxy";
/// File name of the SDS socket in [`PROXY_DIR`].
pub const SDS_SOCKET: &str = "SDS";
/// File name of the xDS relay socket in [`PROXY_DIR`].
pub const XDS_SOCKET: &str = "XDS";
/// File name of the bootstrap in [`PROXY_DIR`].
pub const BOOTSTRAP_FILE: &str = "envoy-rev.json";

/// `outbound|PORT|SUBSET|HOST`.
#[must_use]
pub fn outbound_cluster(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// `inbound|PORT||`.
#[must_use]
pub fn inbound_cluster(port: u16) -> String {
    format!("inbound|{port}||")
}

/// `outbound_.PORT_.SUBSET_.HOST`: the server name inside mesh TLS.
#[must_use]
pub fn sni(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// `NAME.NAMESPACE.svc.DOMAIN`.
#[must_use]
pub fn service_host(name: &str, namespace: &str, domain: &str) -> String {
    format!("{name}.{namespace}.svc.{domain}")
}

/// The parts of `direction|port|subset|host`, or `None` for any other cluster name.
#[must_use]
pub fn split_cluster(name: &str) -> Option<ClusterName<'_>> {
    let mut parts = name.split('|');
    let direction = match parts.next()? {
        "outbound" => Direction::Outbound,
        "inbound" => Direction::Inbound,
        _ => return None,
    };
    let port = parts.next()?.parse().ok()?;
    let subset = parts.next()?;
    let host = parts.next()?;
    parts.next().is_none().then_some(ClusterName { direction, port, subset, host })
}

/// Which way traffic flows, seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

/// A cluster name taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterName<'a> {
    /// Inbound or outbound.
    pub direction: Direction,
    /// Service port.
    pub port: u16,
    /// Subset, empty for none.
    pub subset: &'a str,
    /// Fully qualified host, empty for inbound clusters.
    pub host: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_name_comes_apart_as_it_was_built() {
        let name = outbound_cluster(80, "v1", "backend.default.svc.cluster.local");
        let parts = split_cluster(&name).unwrap();
        assert_eq!((parts.direction, parts.port, parts.subset), (Direction::Outbound, 80, "v1"));
        assert_eq!(parts.host, "backend.default.svc.cluster.local");
    }

    #[test]
    fn other_names_are_not_taken_apart() {
        assert_eq!(split_cluster(PASSTHROUGH_CLUSTER), None);
        assert_eq!(split_cluster("outbound|x||h"), None);
    }
}
