//! What is told of connections: access logs and Istio's TCP metrics.
//!
//! - Reads: the access logs of listeners and TCP proxies, `stats.PluginConfig`.
//! - Rule: one line when a connection ends; flags and details are Envoy's.
//! - Not here: formats (`telemetry`), requests (`http/log.rs`).

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use lateen_plan::access_log::{AccessLog, LogFacts};
use lateen_plan::listener::{FilterChain, Listener, TcpProxy};
use lateen_plan::names::Name;
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
}

struct Upstream {
    cluster: Rc<Cluster>,
    host: Rc<Host>,
    local: Option<SocketAddr>,
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
        }
    }

    /// Its upstream is known.
    pub fn connected(&mut self, cluster: &Rc<Cluster>, host: &Rc<Host>, connection: &Connection) {
        let local = connection.stream.local_addr();
        self.upstream = Some(Upstream { cluster: Rc::clone(cluster), host: Rc::clone(host), local });
    }

    /// It ended.
    pub fn end(&mut self, worker: &Worker, moved: &Moved, ending: &Ending) {
        let mut record = record(&self.facts, self.tls.as_deref());
        let (cluster, host, reason) = ending.failed();
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
