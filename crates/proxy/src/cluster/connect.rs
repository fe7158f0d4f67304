//! Opening a connection to an endpoint: socket, options, TLS, all within `connect_timeout`.
//!
//! - Reads: `plan::cluster::{Cluster, UpstreamTransport, BindConfig}`.
//! - Rule: every failure says what Envoy's access log says of it (`UF`, details, transport failure reason).
//! - Not here: keeping connections (`pool`), choosing the endpoint (`mod.rs`), secrets (`transport/sds.rs`).

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use lateen_plan::cluster::{BindConfig, EndpointAddress, Keepalive, UpstreamTransport};

use super::circuit_breaker::Guard;
use super::pool::PoolKey;
use super::shared::{SharedCluster, SharedHost, inc};
use super::{Cluster, Host};
use crate::transport::{Stream, raw, tls};
use crate::worker::Worker;

/// An open connection to an endpoint.
pub struct Connection {
    /// Its bytes.
    pub stream: Stream,
    /// Requests it has carried to the end.
    pub requests: u32,
    /// When it was opened, against `max_connection_duration`.
    pub opened: Instant,
    /// This side's address, asked once; `None` for a pipe.
    pub local_addr: Option<std::net::SocketAddr>,
    /// Limits and counters, given back on drop.
    pub counted: Counted,
}

/// Holds a connection's place in limits and counters.
pub struct Counted {
    _guard: Guard,
    cluster: Arc<SharedCluster>,
    host: Arc<SharedHost>,
}

impl Counted {
    fn new(guard: Guard, cluster: &Arc<SharedCluster>, host: &Arc<SharedHost>) -> Self {
        inc(&cluster.stats.upstream_cx_total);
        inc(&cluster.stats.upstream_cx_active);
        inc(&host.stats.cx_total);
        inc(&host.stats.cx_active);
        Counted { _guard: guard, cluster: Arc::clone(cluster), host: Arc::clone(host) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.cluster.stats.upstream_cx_active.fetch_sub(1, Ordering::Relaxed);
        self.host.stats.cx_active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// A circuit breaker refused (`UO`).
    Overflow,
    /// `connect_timeout` ran out (`UF`).
    Timeout,
    /// The socket or the other side refused (`UF`).
    Refused(String),
    /// TLS failed (`UF`); the text is Envoy's transport failure reason.
    Tls(String),
}

impl ConnectError {
    /// Envoy's `%UPSTREAM_TRANSPORT_FAILURE_REASON%`; empty when there is none.
    pub fn transport_failure_reason(&self) -> &str {
        match self {
            ConnectError::Overflow | ConnectError::Timeout => "",
            ConnectError::Refused(text) | ConnectError::Tls(text) => text,
        }
    }

    /// The reset reason inside `upstream_reset_before_response_started{…}` and in the answer's body.
    pub fn reset_reason(&self) -> &'static str {
        match self {
            ConnectError::Overflow => "overflow",
            ConnectError::Timeout => "connection timeout",
            ConnectError::Refused(_) | ConnectError::Tls(_) => "remote connection failure",
        }
    }
}

/// Opens a connection. `guard` holds its place among `max_connections`.
///
/// # Errors
/// [`ConnectError`] other than `Overflow`.
pub async fn connect(worker: &Rc<Worker>, cluster: &Rc<Cluster>, host: &Rc<Host>, key: &PoolKey, guard: Guard) -> Result<Connection, ConnectError> {
    let counted = Counted::new(guard, &cluster.shared, &host.shared);
    let opened = match tokio::time::timeout(cluster.plan.connect_timeout, open(worker, cluster, host, key)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            inc(&cluster.shared.stats.upstream_cx_connect_timeout);
            Err(ConnectError::Timeout)
        }
    };
    match opened {
        Ok(stream) => Ok(Connection { local_addr: stream.local_addr(), stream, requests: 0, opened: Instant::now(), counted }),
        Err(error) => {
            inc(&cluster.shared.stats.upstream_cx_connect_fail);
            inc(&host.shared.stats.cx_connect_fail);
            Err(error)
        }
    }
}

async fn open(worker: &Worker, cluster: &Cluster, host: &Host, key: &PoolKey) -> Result<Stream, ConnectError> {
    let refused = |e: io::Error| ConnectError::Refused(connect_reason(&e));
    let address = match &host.endpoint.address {
        EndpointAddress::Socket(address) => *address,
        EndpointAddress::Pipe(path) => {
            return tokio::net::UnixStream::connect(&**path).await.map(Stream::Unix).map_err(refused);
        }
        EndpointAddress::Dns(name, port) => {
            return Err(ConnectError::Refused(format!("delayed_connect_error:_{name}:{port}_is_not_resolved")));
        }
    };
    let options = dial_options(worker, cluster);
    let tcp = raw::dial(address, &options).await.map_err(refused)?;
    match cluster.plan.transport_for(&host.endpoint) {
        UpstreamTransport::Raw => Ok(Stream::Plain(tcp)),
        UpstreamTransport::Tls(context) => {
            let ready = worker.tls.client(context, key.alpn.as_ref()).map_err(|why| ConnectError::Tls(format!("TLS_error:|{}", tls::underscores(&why))))?;
            let sni = key.sni.as_deref().unwrap_or(&context.sni);
            let local = ready.local.as_deref().map(|pair| &pair.leaf);
            match tls::connect(tcp, ready.config, sni, local).await {
                Ok(stream) => {
                    inc(&cluster.shared.stats.ssl_handshake);
                    Ok(stream)
                }
                Err(error) => {
                    let reason = tls::failure_reason(&error);
                    let counter = if reason.contains("SAN_matcher") { &cluster.shared.stats.ssl_fail_verify_san } else { &cluster.shared.stats.ssl_fail_verify_error };
                    inc(counter);
                    Err(ConnectError::Tls(reason))
                }
            }
        }
    }
}

/// The bind settings of the cluster, or else those of the bootstrap.
fn dial_options(worker: &Worker, cluster: &Cluster) -> raw::DialOptions {
    let bind = cluster.plan.bind.as_ref();
    let mut options = match bind {
        Some(bind) => from_bind(bind),
        None => worker.options.upstream.clone(),
    };
    if let Some(keepalive) = cluster.plan.keepalive {
        options.keepalive = Some(from_keepalive(keepalive));
    }
    options
}

/// Dial options of a bind config.
pub fn from_bind(bind: &BindConfig) -> raw::DialOptions {
    raw::DialOptions { source: bind.source, options: bind.socket_options.as_slice().into(), keepalive: None }
}

fn from_keepalive(keepalive: Keepalive) -> raw::Keepalive {
    let seconds = |s: Option<u32>| s.map(|s| std::time::Duration::from_secs(s.into()));
    raw::Keepalive { time: seconds(keepalive.time), interval: seconds(keepalive.interval), probes: keepalive.probes }
}

/// Envoy's words for a failed `connect`.
fn connect_reason(error: &io::Error) -> String {
    let cause = match error.kind() {
        io::ErrorKind::ConnectionRefused => "Connection_refused".to_string(),
        io::ErrorKind::HostUnreachable => "No_route_to_host".to_string(),
        io::ErrorKind::NetworkUnreachable => "Network_is_unreachable".to_string(),
        io::ErrorKind::ConnectionReset => "Connection_reset_by_peer".to_string(),
        io::ErrorKind::TimedOut => "Connection_timed_out".to_string(),
        _ => tls::underscores(&error.to_string()),
    };
    format!("delayed_connect_error:_{cause}")
}
