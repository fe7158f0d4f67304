//! What the control plane is told when it starts.
//!
//! - Rule: values only; `cli` reads flags and environment, nothing below it does.

use lateen_base::{names, ports};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Options of [`crate::run`].
#[derive(Clone, Debug)]
pub struct ControlOptions {
    /// Unix socket of the object store.
    pub store_socket: PathBuf,
    /// Folder that keeps the certificate authority's root across restarts.
    pub state_dir: PathBuf,
    /// PEM file with the public key that service-account tokens are signed for.
    pub token_public_key: PathBuf,
    /// xDS and certificates without TLS; callers without a token get no secrets there.
    pub xds_plaintext: SocketAddr,
    /// xDS and certificates with TLS; callers must prove who they are.
    pub xds_tls: SocketAddr,
    /// Metrics and debug pages.
    pub debug: SocketAddr,
    /// Readiness.
    pub ready: SocketAddr,
    /// Trust domain of the identities issued.
    pub trust_domain: String,
    /// Lifetime of workload certificates where the request names none.
    pub cert_ttl: Duration,
    /// DNS names of the control plane, in its server certificate.
    pub server_names: Vec<String>,
    /// A change is compiled after this long without another one.
    pub debounce_quiet: Duration,
    /// And never later than this after the first.
    pub debounce_max: Duration,
}

impl ControlOptions {
    /// Istio's ports on all addresses, Istio's names and lifetimes.
    #[must_use]
    pub fn new(store_socket: PathBuf, state_dir: PathBuf, token_public_key: PathBuf) -> Self {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let istiod = names::ISTIOD;
        let namespace = names::ROOT_NAMESPACE;
        Self {
            store_socket,
            state_dir,
            token_public_key,
            xds_plaintext: any(ports::XDS_PLAINTEXT),
            xds_tls: any(ports::XDS_TLS),
            debug: any(ports::CONTROL_DEBUG),
            ready: any(ports::CONTROL_READY),
            trust_domain: names::TRUST_DOMAIN.to_owned(),
            cert_ttl: lateen_ca::TTL_DEFAULT,
            server_names: vec![
                names::ISTIOD_HOST.to_owned(),
                format!("{istiod}.{namespace}.svc.{}", names::CLUSTER_DOMAIN),
                format!("{istiod}.{namespace}"),
                istiod.to_owned(),
                "localhost".to_owned(),
            ],
            debounce_quiet: Duration::from_millis(5),
            debounce_max: Duration::from_millis(100),
        }
    }
}
