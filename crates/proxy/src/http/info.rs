//! What happened to one request: everything that logs and metrics say about it.
//!
//! - Rule: each failure path adds its flag where it happens; nobody guesses afterwards.
//! - Not here: writing logs (`http/log.rs`), counting (`filters/istio_stats.rs`).

use super::request::Protocol;
use crate::cluster::{Cluster, Host};
use lateen_plan::names::Name;
use crate::transport::TlsSession;
use lateen_telemetry::ResponseFlags;
use lateen_telemetry::istio::Peer;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// What happened to one request.
pub struct Info {
    /// When its head was complete.
    pub started: Instant,
    /// The same, for logs.
    pub started_at: SystemTime,
    /// Flags.
    pub flags: ResponseFlags,
    /// Response code detail; empty: none.
    pub details: Cow<'static, str>,
    /// Connection termination detail; empty: none.
    pub termination: Cow<'static, str>,
    /// Status sent downstream; 0: none.
    pub status: u16,
    /// gRPC status, when the exchange is gRPC.
    pub grpc_status: Option<u32>,
    /// Answered by the proxy itself.
    pub local: bool,
    /// Body bytes received from downstream.
    pub bytes_received: u64,
    /// Body bytes sent downstream.
    pub bytes_sent: u64,
    /// Size of the request's fields.
    pub request_head_bytes: u64,
    /// Size of the answer's fields.
    pub response_head_bytes: u64,
    /// Attempts made upstream.
    pub attempts: u32,
    /// Name of the route; empty: none.
    pub route: Option<Name>,
    /// Name of the cluster.
    pub cluster: Option<Rc<Cluster>>,
    /// Name of the cluster, also when it does not exist.
    pub cluster_name: Option<Name>,
    /// Endpoint of the last attempt.
    pub host: Option<Rc<Host>>,
    /// HTTP version spoken to it.
    pub upstream_protocol: Protocol,
    /// This side's address towards it.
    pub upstream_local: Option<SocketAddr>,
    /// What its socket said when it failed; empty: nothing.
    pub transport_failure: Cow<'static, str>,
    /// The TLS handshake with it.
    pub upstream_tls: Option<Rc<TlsSession>>,
    /// The client as far as trusted hops tell.
    pub client: Option<SocketAddr>,
    /// Path as it was before normalisation and rewriting, if it changed.
    pub original_path: Option<Box<[u8]>>,
    /// From the end of the request to the answer's head.
    pub upstream_service_time: Option<Duration>,
    /// Whole duration; set at the end.
    pub duration: Duration,
    /// The peer downstream, as it introduced itself.
    pub downstream_peer: Option<Peer>,
    /// The peer upstream, as it introduced itself.
    pub upstream_peer: Option<Peer>,
    /// gRPC messages of the request.
    pub request_messages: u64,
    /// gRPC messages of the answer.
    pub response_messages: u64,
}

impl Default for Info {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed(""),
            termination: Cow::Borrowed(""),
            status: 0,
            grpc_status: None,
            local: false,
            bytes_received: 0,
            bytes_sent: 0,
            request_head_bytes: 0,
            response_head_bytes: 0,
            attempts: 0,
            route: None,
            cluster: None,
            cluster_name: None,
            host: None,
            upstream_protocol: Protocol::Http11,
            upstream_local: None,
            transport_failure: Cow::Borrowed(""),
            upstream_tls: None,
            client: None,
            original_path: None,
            upstream_service_time: None,
            duration: Duration::ZERO,
            downstream_peer: None,
            upstream_peer: None,
            request_messages: 0,
            response_messages: 0,
        }
    }
}
