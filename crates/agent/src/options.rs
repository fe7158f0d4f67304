//! What an agent is told when its pod starts.
//!
//! - Twin: `inject/src/sidecar.rs`.
//! - Rule: values only; `cli` reads flags and environment, nothing below it does.

use lateen_base::{names, ports};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Which role the proxy plays; the first part of its node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Beside an application.
    Sidecar,
    /// At the edge.
    Router,
}

/// Which program is the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyProgram {
    /// Ours, in this process.
    Embedded,
    /// A real Envoy at this path, as a child.
    Envoy(PathBuf),
}

/// Where the application's own metrics are, if it has any. Source: `prometheus.io` annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppMetrics {
    /// Port on loopback.
    pub port: u16,
    /// Path, starting with `/`.
    pub path: String,
}

/// Options of [`crate::run`].
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Sidecar or gateway.
    pub role: Role,
    /// Pod name.
    pub pod_name: String,
    /// Pod's namespace.
    pub namespace: String,
    /// Pod's service account.
    pub service_account: String,
    /// Pod's addresses, at least one.
    pub pod_ips: Vec<IpAddr>,
    /// Pod's labels.
    pub labels: BTreeMap<String, String>,
    /// Deployment or other owner.
    pub workload_name: String,
    /// Trust domain of the identity.
    pub trust_domain: String,
    /// Cluster id of the node.
    pub cluster_id: String,
    /// Mesh id of the node.
    pub mesh_id: String,
    /// Control plane's host, which is also the name its certificate must carry.
    pub discovery_host: String,
    /// Control plane's TLS port.
    pub discovery_port: u16,
    /// Token file.
    pub token_path: PathBuf,
    /// File with the mesh's root certificate.
    pub root_cert_path: PathBuf,
    /// Folder for sockets and the bootstrap file.
    pub proxy_dir: PathBuf,
    /// JSON of the application's probes by path. Source: `ISTIO_KUBE_APP_PROBERS`.
    pub app_probers: Option<String>,
    /// The application's own metrics, to be merged.
    pub app_metrics: Option<AppMetrics>,
    /// Worker threads of the proxy; 0: one per core.
    pub concurrency: usize,
    /// Which proxy.
    pub program: ProxyProgram,
    /// Lifetime to ask for.
    pub certificate_ttl: Duration,
    /// How long the proxy drains after SIGTERM. Source: `terminationDrainDuration`.
    pub drain: Duration,
    /// Port of the status server, on all addresses.
    pub status_port: u16,
    /// Port of the proxy's admin server, on loopback.
    pub admin_port: u16,
    /// Whether sockets carry the proxy's mark. Off only where nothing intercepts, such as tests.
    pub mark: bool,
}

impl AgentOptions {
    /// A sidecar with Istio's defaults.
    #[must_use]
    pub fn new(pod_name: String, namespace: String, service_account: String, pod_ip: IpAddr) -> Self {
        Self {
            role: Role::Sidecar,
            workload_name: pod_name.clone(),
            pod_name,
            namespace,
            service_account,
            pod_ips: vec![pod_ip],
            labels: BTreeMap::new(),
            trust_domain: names::TRUST_DOMAIN.to_owned(),
            cluster_id: "Kubernetes".to_owned(),
            mesh_id: names::TRUST_DOMAIN.to_owned(),
            discovery_host: names::ISTIOD_HOST.to_owned(),
            discovery_port: ports::XDS_TLS,
            token_path: names::TOKEN_PATH.into(),
            root_cert_path: names::ROOT_CERT_PATH.into(),
            proxy_dir: names::PROXY_DIR.into(),
            app_probers: None,
            app_metrics: None,
            concurrency: 2,
            program: ProxyProgram::Embedded,
            certificate_ttl: Duration::from_secs(24 * 3600),
            drain: Duration::from_secs(5),
            status_port: ports::STATUS,
            admin_port: ports::ADMIN,
            mark: true,
        }
    }
}
