//! What is told of connections: access logs and Istio's TCP metrics.
//!
//! - Reads: the access logs of listeners and TCP proxies, `stats.PluginConfig`.
//! - Twin: `proxy/src/filters/istio_stats.rs`, `proxy/src/http/log.rs`.
//! - Rule: one line when a connection ends; flags and details are Envoy's.
//! - Rule: bytes of an open connection are counted every `tcp_reporting_duration`, so that long transfers show while they last.
//! - Not here: formats (`telemetry`), requests (`http/log.rs`).

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use lateen_plan::access_log::{AccessLog, LogFacts};
use lateen_plan::listener::{Direction, FilterChain, IstioStats, Listener, NetworkFilter, TcpProxy};
use lateen_plan::names::Name;
use lateen_telemetry::istio::{Key, Peer, Protocol, Reporter, Security, Service, Text};
use lateen_telemetry::{AccessRecord, ResponseFlags};

use super::copy::Moved;
use super::tcp_proxy::OpenError;
use crate::cluster::{Cluster, Connection, ConnectError, Host};
use crate::connection::{ConnectionFacts, Downstream};
use crate::transport::TlsSession;
use crate::worker::Worker;

/// How a TCP connection ended.
#[derive(Debug)]
pub enum Ending {
    /// Both sides sent their end.
    Finished,
    /// The client's side broke.
    DownstreamBroke,
    /// The upstream's side broke.
    UpstreamBroke,
    /// Nothing moved for `idle_timeout`.
    Idle,
    /// `max_downstream_connection_duration`.
    DurationTimeout,
    /// The policy in force does not admit it any more.
    PolicyChanged,
    /// No upstream connection.
    NotConnected(OpenError),
}

impl Ending {
    fn flags(&self) -> ResponseFlags {
        match self {
            Ending::Finished | Ending::DownstreamBroke | Ending::UpstreamBroke | Ending::PolicyChanged => ResponseFlags::NONE,
            Ending::Idle => ResponseFlags::STREAM_IDLE_TIMEOUT,
            Ending::DurationTimeout => ResponseFlags::DURATION_TIMEOUT,
            Ending::NotConnected(OpenError::NoCluster(_)) => ResponseFlags::NO_CLUSTER_FOUND,
            Ending::NotConnected(OpenError::NoHealthyUpstream(_)) => ResponseFlags::NO_HEALTHY_UPSTREAM,
            Ending::NotConnected(OpenError::Overflow(_)) => ResponseFlags::UPSTREAM_OVERFLOW,
            Ending::NotConnected(OpenError::Failed { .. }) => ResponseFlags::UPSTREAM_CONNECTION_FAILURE | ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED,
        }
    }

    fn termination(&self) -> Option<&'static str> {
        match self {
            Ending::PolicyChanged => Some("policy_changed"),
            Ending::Idle => Some("tcp_session_idle_timeout"),
            Ending::DurationTimeout => Some("max_connection_duration"),
            Ending::Finished | Ending::DownstreamBroke | Ending::UpstreamBroke | Ending::NotConnected(_) => None,
        }
    }

    /// Cluster, endpoint and reason of a connection that never came about.
    fn failed(&self) -> (Option<&Name>, Option<SocketAddr>, Option<&str>) {
        let Ending::NotConnected(error) = self else { return (None, None, None) };
        match error {
            OpenError::NoCluster(name) | OpenError::NoHealthyUpstream(name) | OpenError::Overflow(name) => (Some(name), None, None),
            OpenError::Failed { cluster, host, error, .. } => {
                let reason = match error {
                    ConnectError::Timeout => "connection_timeout",
                    ConnectError::Overflow | ConnectError::Refused(_) | ConnectError::Tls(_) => error.transport_failure_reason(),
                };
                (Some(cluster), host.parse().ok(), Some(reason))
            }
        }
    }
}

/// Collects what a connection's line says.
pub struct TcpReport {
    facts: Rc<ConnectionFacts>,
    tls: Option<Rc<TlsSession>>,
    chain: Arc<FilterChain>,
    proxy: Arc<TcpProxy>,
    upstream: Option<Upstream>,
    direction: Direction,
    stats: Option<IstioStats>,
    /// Labels, once the upstream is known; and what was counted already.
    key: Option<Key>,
    counted: Cell<(u64, u64)>,
}

struct Upstream {
    cluster: Rc<Cluster>,
    host: Rc<Host>,
    local: Option<SocketAddr>,
    tls: Option<Rc<TlsSession>>,
}

impl TcpReport {
    /// A connection began.
    pub fn begin(downstream: &Downstream, proxy: &Arc<TcpProxy>) -> Self {
        TcpReport {
            facts: Rc::clone(&downstream.facts),
            tls: downstream.tls().map(Rc::clone),
            chain: Arc::clone(&downstream.chain),
            proxy: Arc::clone(proxy),
            upstream: None,
            direction: downstream.listener.direction,
            stats: downstream.chain.network_filters.iter().find_map(|filter| match filter {
                NetworkFilter::IstioStats(stats) => Some(*stats),
                NetworkFilter::Rbac(_) | NetworkFilter::MetadataExchange { .. } | NetworkFilter::SniCluster => None,
            }),
            key: None,
            counted: Cell::default(),
        }
    }

    /// Its upstream is known.
    pub fn connected(&mut self, worker: &Worker, cluster: &Rc<Cluster>, host: &Rc<Host>, connection: &Connection) {
        let (local, tls) = (connection.stream.local_addr(), connection.stream.tls().map(Rc::clone));
        self.upstream = Some(Upstream { cluster: Rc::clone(cluster), host: Rc::clone(host), local, tls });
        self.open(worker, Some(cluster));
    }

    /// Counts the connection's begin.
    fn open(&mut self, worker: &Worker, cluster: Option<&Rc<Cluster>>) {
        if self.stats.is_some() && self.key.is_none() {
            let key = self.labels(worker, cluster);
            worker.metrics.borrow_mut().tcp_opened(&key);
            self.key = Some(key);
        }
    }

    /// Istio's labels: the listener's side tells, the endpoint's metadata and the handshakes say who the others are.
    fn labels(&self, worker: &Worker, cluster: Option<&Rc<Cluster>>) -> Key {
        let mut metrics = worker.metrics.borrow_mut();
        let service = cluster.and_then(|c| c.plan.services.first());
        let service = service.map_or(Service::UNKNOWN, |s| metrics.service(&s.host, &s.name, &s.namespace));
        let identity = |tls: Option<&TlsSession>| tls.and_then(|t| t.peer.as_ref()).and_then(|p| p.uri_sans.first()).cloned().unwrap_or_default();
        let own_identity = |tls: Option<&TlsSession>| tls.and_then(|t| t.local_uri.as_deref()).unwrap_or_default().to_owned();
        let mut key = Key {
            reporter: Reporter::Source,
            source: worker.own,
            destination: Peer::UNKNOWN,
            source_principal: Text::UNKNOWN,
            destination_principal: Text::UNKNOWN,
            service,
            protocol: Protocol::Tcp,
            response_code: 0,
            grpc_status: None,
            flags: ResponseFlags::NONE,
            security: Security::Unknown,
        };
        if self.direction == Direction::Inbound {
            let tls = self.tls.as_deref();
            key.reporter = Reporter::Destination;
            (key.source, key.destination) = (Peer::UNKNOWN, worker.own);
            key.source_principal = metrics.text(&identity(tls));
            key.destination_principal = metrics.text(&own_identity(tls));
            key.security = if tls.is_some_and(|t| t.peer.is_some()) { Security::MutualTls } else { Security::None };
        } else if let Some(upstream) = &self.upstream {
            let tls = upstream.tls.as_deref();
            key.destination = metrics.peer_of_endpoint(&upstream.host.endpoint.workload);
            key.source_principal = metrics.text(&own_identity(tls));
            key.destination_principal = metrics.text(&identity(tls));
        }
        key
    }

    /// Counts bytes moved since the last time.
    fn count(&self, worker: &Worker, moved: &Moved, flags: ResponseFlags) {
        let Some(key) = &self.key else { return };
        let (now, before) = ((moved.down.get(), moved.up.get()), self.counted.replace((moved.down.get(), moved.up.get())));
        worker.metrics.borrow_mut().tcp_bytes(&Key { flags, ..*key }, now.0 - before.0, now.1 - before.1);
    }

    /// Counts bytes again and again while the connection lasts; never ends.
    pub async fn keep_counting(&self, worker: &Worker, moved: &Moved) {
        let Some(stats) = &self.stats else { return std::future::pending().await };
        let period = stats.tcp_reporting_duration.unwrap_or(REPORTING).max(REPORTING_MIN);
        loop {
            tokio::time::sleep(period).await;
            self.count(worker, moved, ResponseFlags::NONE);
        }
    }

    /// It ended.
    pub fn end(&mut self, worker: &Worker, moved: &Moved, ending: &Ending) {
        let (cluster, host, reason) = ending.failed();
        self.open(worker, cluster.and_then(|name| worker.cluster(name)).as_ref());
        self.count(worker, moved, ending.flags());
        if let Some(key) = &self.key {
            worker.metrics.borrow_mut().tcp_closed(&Key { flags: ending.flags(), ..*key });
        }
        let mut record = record(&self.facts, self.tls.as_deref());
        record.flags = ending.flags();
        record.connection_termination_details = ending.termination();
        record.upstream_transport_failure_reason = reason;
        record.upstream_cluster = self.upstream.as_ref().map(|u| &*u.cluster.plan.name).or(cluster.map(|c| &**c));
        record.upstream_host = self.upstream.as_ref().and_then(|u| u.host.socket_addr()).or(host);
        record.upstream_local_address = self.upstream.as_ref().and_then(|u| u.local);
        record.filter_chain_name = Some(&self.chain.name);
        record.bytes_received = moved.up.get();
        record.bytes_sent = moved.down.get();
        write(worker, &self.proxy.access_logs, &record);
    }
}

/// Istio's default between counts of an open connection's bytes.
const REPORTING: Duration = Duration::from_secs(5);
/// Shortest time between counts.
const REPORTING_MIN: Duration = Duration::from_millis(100);

/// What every line about a connection says.
fn record<'a>(facts: &'a ConnectionFacts, tls: Option<&'a TlsSession>) -> AccessRecord<'a> {
    let peer = tls.and_then(|t| t.peer.as_ref());
    let server_name = tls.and_then(|t| t.sni.as_deref()).unwrap_or(&facts.server_name);
    AccessRecord {
        start: facts.opened_at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
        duration: Some(facts.opened.elapsed()),
        downstream_local_address: Some(facts.local),
        downstream_remote_address: Some(facts.remote),
        downstream_direct_remote_address: Some(facts.remote),
        requested_server_name: Some(server_name).filter(|name| !name.is_empty()),
        downstream_peer_uri_san: peer.and_then(|p| p.uri_sans.first()).map(String::as_str),
        downstream_peer_subject: peer.map(|p| p.subject.as_str()),
        downstream_local_uri_san: tls.and_then(|t| t.local_uri.as_deref()),
        downstream_tls_version: tls.map(|t| t.version),
        downstream_tls_cipher: tls.map(|t| t.cipher.as_str()),
        connection_id: facts.id,
        ..AccessRecord::default()
    }
}

fn write(worker: &Worker, logs: &[Arc<AccessLog>], record: &AccessRecord<'_>) {
    for log in logs {
        let flags = record.flags.to_string();
        let facts = LogFacts {
            status: record.response_code,
            duration_millis: record.duration.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            flags: &flags,
            grpc_status: None,
            health_check: false,
            traced: false,
            draw: worker.draw(),
        };
        let passes = log.filter.as_ref().is_none_or(|filter| filter.passes(&facts, &|header| header.holds(None)));
        if passes {
            worker.log.append(&log.sink, |out| log.format.write(record, out));
        }
    }
}

/// No chain matched: `NR filter_chain_not_found`.
pub fn log_unmatched(worker: &Worker, listener: &Listener, facts: &ConnectionFacts) {
    let mut record = record(facts, None);
    record.flags = ResponseFlags::NO_ROUTE_FOUND;
    record.response_code_details = Some("filter_chain_not_found");
    write(worker, &listener.access_logs, &record);
}

/// The TLS handshake failed.
pub fn log_handshake_failed(worker: &Worker, listener: &Listener, facts: &ConnectionFacts, error: &io::Error) {
    tracing::debug!(listener = %listener.name, remote = %facts.remote, %error, "TLS handshake failed");
    let reason = crate::transport::tls::failure_reason(error);
    let mut record = record(facts, None);
    record.downstream_transport_failure_reason = Some(&reason);
    write(worker, &listener.access_logs, &record);
}

/// Authorization refused the connection.
pub fn log_denied(downstream: &Downstream, why: &str) {
    let tls = downstream.tls().map(|t| &**t);
    let mut record = record(&downstream.facts, tls);
    record.connection_termination_details = Some(why);
    let logs = match &downstream.chain.terminal {
        lateen_plan::listener::Terminal::TcpProxy(proxy) => &proxy.access_logs,
        lateen_plan::listener::Terminal::Http(hcm) => &hcm.access_logs,
    };
    write(&downstream.worker, logs, &record);
}
