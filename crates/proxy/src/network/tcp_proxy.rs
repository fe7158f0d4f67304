//! TCP proxy: picks a cluster and an endpoint, connects, and copies bytes both ways.
//!
//! - Reads: `extensions.filters.network.tcp_proxy.v3.TcpProxy` as `plan::listener::TcpProxy`.
//! - Twin: `kinds/src/virtual_service/tls_route.rs`; `compile/src/listener/tcp_route.rs`.
//! - Rule: a connection counts against the cluster's `max_connections` and as an active request of its endpoint while it is open.
//! - Limits: `max_connect_attempts`, `idle_timeout`, `max_downstream_connection_duration`.
//! - Not here: copying (`copy`), authorization (`rbac`).

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lateen_plan::listener::{FilterChain, NetworkFilter, TcpProxy};
use lateen_plan::names::Name;
use tokio::io::AsyncReadExt;

use super::copy::{self, Broken, Moved};
use super::report::{Ending, TcpReport};
use crate::cluster::circuit_breaker::Resource;
use crate::cluster::connect::{self, ConnectError, Connection};
use crate::cluster::shared::{SharedHost, inc};
use crate::cluster::{Cluster, Host, Outcome, Pick, PoolKey};
use crate::connection::{ConnectionFacts, Downstream};
use crate::transport::TlsSession;
use crate::worker::Worker;

/// An upstream connection ready for copying.
pub struct Opened {
    chain: Arc<FilterChain>,
    cluster: Rc<Cluster>,
    host: Rc<Host>,
    connection: Connection,
    /// Bytes the upstream sent before anybody knew whom for.
    said: Vec<u8>,
    _active: Active,
}

impl Opened {
    /// Whether it was opened for that chain.
    pub fn is_for(&self, chain: &Arc<FilterChain>) -> bool {
        Arc::ptr_eq(&self.chain, chain)
    }

    /// Waits until the upstream says something or ends. What it says is kept and passed on first. TLS records without data, such as
    /// session tickets, are not saying anything. Cancel-safe: bytes are taken only together with the answer.
    pub async fn speaks(&mut self) {
        self.said.reserve(FIRST_WORDS_BYTES);
        // An end or an error counts as well: serving the connection will meet it again.
        let _ = self.connection.stream.read_buf(&mut self.said).await;
    }
}

/// Room for a greeting.
const FIRST_WORDS_BYTES: usize = 1024;

/// Counts the connection as work of its endpoint until dropped.
struct Active(Arc<SharedHost>);

impl Active {
    fn new(host: &Arc<SharedHost>) -> Self {
        host.rq_active.fetch_add(1, Ordering::Relaxed);
        inc(&host.stats.rq_total);
        Active(Arc::clone(host))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.rq_active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why no upstream connection came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// The cluster does not exist (`NC`).
    NoCluster(Name),
    /// No endpoint is usable (`UH`).
    NoHealthyUpstream(Name),
    /// A limit refused (`UO`).
    Overflow(Name),
    /// Every attempt failed (`UF`, with `URX` after the last of several).
    Failed {
        /// The cluster.
        cluster: Name,
        /// Last endpoint tried.
        host: String,
        /// Why the last attempt failed.
        error: ConnectError,
        /// Attempts made.
        attempts: u32,
    },
}

/// Opens the upstream connection that `proxy` wants for a connection.
///
/// # Errors
/// [`OpenError`].
pub async fn open(
    worker: &Rc<Worker>,
    chain: &Arc<FilterChain>,
    proxy: &TcpProxy,
    facts: &ConnectionFacts,
    tls: Option<&TlsSession>,
) -> Result<Opened, OpenError> {
    let name = cluster_name(worker, chain, proxy, facts, tls);
    let cluster = worker.cluster(&name).ok_or_else(|| OpenError::NoCluster(Name::clone(&name)))?;
    let hash = proxy.hash_source_ip.then(|| source_hash(facts));
    let mut tried: Vec<Rc<Host>> = Vec::new();
    let mut last: Option<(Rc<Host>, ConnectError)> = None;
    for _ in 0..proxy.max_connect_attempts.max(1) {
        let pick = Pick { hash, tried: &tried, attempts_max: 3, original_dst: Some(facts.local), metadata: &[] };
        let Some(host) = cluster.pick(worker, &pick) else { break };
        let limit = cluster.thresholds(0).max_connections;
        let Some(guard) = cluster.breaker(0).take(Resource::Connections, limit) else {
            inc(&cluster.shared.stats.upstream_cx_overflow);
            return Err(OpenError::Overflow(name));
        };
        let active = Active::new(&host.shared);
        match connect::connect(worker, &cluster, &host, &PoolKey::default(), guard).await {
            Ok(connection) => {
                cluster.report(worker, &host, Outcome::Connected);
                return Ok(Opened { chain: Arc::clone(chain), cluster, host, connection, said: Vec::new(), _active: active });
            }
            Err(error) => {
                cluster.report(worker, &host, Outcome::LocalOriginFailure);
                tried.push(Rc::clone(&host));
                last = Some((host, error));
            }
        }
    }
    Err(match last {
        None => OpenError::NoHealthyUpstream(name),
        Some((host, error)) => {
            OpenError::Failed { cluster: name, host: host.address_text(), error, attempts: u32::try_from(tried.len()).unwrap_or(u32::MAX) }
        }
    })
}

/// The configured cluster, or the server name where the chain says so (`sni_cluster`).
fn cluster_name(worker: &Worker, chain: &FilterChain, proxy: &TcpProxy, facts: &ConnectionFacts, tls: Option<&TlsSession>) -> Name {
    let by_server_name = chain.network_filters.iter().any(|f| matches!(f, NetworkFilter::SniCluster));
    if by_server_name {
        let server_name = tls.and_then(|t| t.sni.as_deref()).unwrap_or(&facts.server_name);
        if !server_name.is_empty() {
            return server_name.into();
        }
    }
    Name::clone(proxy.pick(worker.draw()))
}

/// FNV-1a over the client's address; stable between workers and restarts.
fn source_hash(facts: &ConnectionFacts) -> u64 {
    let octets: Vec<u8> = match facts.remote.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Serves a connection to its end.
pub async fn serve(mut downstream: Downstream, proxy: Arc<TcpProxy>, early: Option<Opened>) {
    let worker = Rc::clone(&downstream.worker);
    let tls = downstream.tls().map(Rc::clone);
    let mut report = TcpReport::begin(&downstream, &proxy);
    let opened = match early {
        Some(opened) => Ok(opened),
        None => open(&worker, &downstream.chain, &proxy, &downstream.facts, tls.as_deref()).await,
    };
    let mut opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            report.end(&worker, &Moved::default(), &Ending::NotConnected(error));
            downstream.stream.reset();
            return;
        }
    };
    report.connected(&worker, &opened.cluster, &opened.host, &opened.connection);
    let moved = Moved::default();
    let watched = worker.tracked.watch(&downstream);
    let ending = tokio::select! {
        biased;
        () = watched.refused() => Ending::PolicyChanged,
        () = idle(&moved, proxy.idle_timeout) => Ending::Idle,
        () = expired(proxy.max_downstream_connection_duration) => Ending::DurationTimeout,
        () = report.keep_counting(&worker, &moved) => Ending::Finished,
        outcome = copy::both_ways(&mut downstream.stream, &mut opened.connection.stream, opened.said, &worker.buffers, &moved) => match outcome {
            Ok(()) => Ending::Finished,
            Err(Broken::Downstream(_)) => Ending::DownstreamBroke,
            Err(Broken::Upstream(_)) => Ending::UpstreamBroke,
        },
    };
    let stats = &opened.cluster.shared.stats;
    stats.upstream_cx_tx_bytes_total.fetch_add(moved.up.get(), Ordering::Relaxed);
    stats.upstream_cx_rx_bytes_total.fetch_add(moved.down.get(), Ordering::Relaxed);
    inc(&opened.host.shared.stats.rq_success);
    report.end(&worker, &moved, &ending);
    match ending {
        Ending::DownstreamBroke => opened.connection.stream.reset(),
        Ending::UpstreamBroke | Ending::PolicyChanged => downstream.stream.reset(),
        Ending::Finished | Ending::Idle | Ending::DurationTimeout | Ending::NotConnected(_) => {}
    }
}

/// Ends when nothing moved for the whole of `limit`.
async fn idle(moved: &Moved, limit: Option<Duration>) {
    let Some(limit) = limit.filter(|l| !l.is_zero()) else { return std::future::pending().await };
    let mut seen = (0, 0);
    let mut since = Instant::now();
    loop {
        let now = (moved.up.get(), moved.down.get());
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        let left = limit.saturating_sub(since.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.max(IDLE_LOOK)).await;
    }
}

/// Shortest time between two looks at a connection's idleness.
const IDLE_LOOK: Duration = Duration::from_millis(10);

async fn expired(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}
