//! What is told of connections: access logs and Istio's TCP metrics.
//!
//! - Reads: the access logs of listeners and TCP proxies, `stats.PluginConfig`.
//! - Rule: one line when a connection ends; counters when it opens, moves bytes and ends.
//! - Not here: formats (`telemetry`), requests (`http/log.rs`).

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use lateen_plan::listener::{Listener, TcpProxy};

use super::copy::Moved;
use super::tcp_proxy::OpenError;
use crate::cluster::{Cluster, Connection, Host};
use crate::connection::{ConnectionFacts, Downstream};
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

/// Collects what a connection's line says.
pub struct TcpReport {}

impl TcpReport {
    /// A connection began.
    pub fn begin(_downstream: &Downstream, _proxy: &Arc<TcpProxy>) -> Self {
        TcpReport {}
    }
    /// Its upstream is known.
    pub fn connected(&mut self, _cluster: &Rc<Cluster>, _host: &Rc<Host>, _connection: &Connection) {}
    /// It ended.
    pub fn end(&mut self, _worker: &Worker, _moved: &Moved, _ending: &Ending) {}
}

/// No chain matched.
pub fn log_unmatched(_worker: &Worker, _listener: &Listener, _facts: &ConnectionFacts) {}

/// The TLS handshake failed.
pub fn log_handshake_failed(_worker: &Worker, listener: &Listener, facts: &ConnectionFacts, error: &io::Error) {
    tracing::debug!(listener = %listener.name, remote = %facts.remote, %error, "TLS handshake failed");
}

/// Authorization refused the connection.
pub fn log_denied(_downstream: &Downstream) {}
