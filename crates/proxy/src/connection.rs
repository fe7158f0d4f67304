//! A downstream connection, from accept to close.
//!
//! - Rule: what is known before any filter runs is in [`ConnectionFacts`] and never changes.
//! - Not here: reading and writing (`transport`), who serves it (`network`, `http`).

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use lateen_plan::listener::{FilterChain, Listener};
use lateen_plan::request;

use crate::transport::{Stream, TlsSession};
use crate::worker::Worker;

/// What is known of a connection when its filter chain is chosen.
#[derive(Debug)]
pub struct ConnectionFacts {
    /// Number of the connection in this worker, from 1.
    pub id: u64,
    /// The other side of the socket.
    pub direct_remote: SocketAddr,
    /// The client: the same, unless a PROXY header said otherwise.
    pub remote: SocketAddr,
    /// The destination the client dialled (before redirection).
    pub local: SocketAddr,
    /// The address the socket was accepted on.
    pub accepted_on: SocketAddr,
    /// The first bytes were a TLS ClientHello.
    pub is_tls: bool,
    /// Server name of the ClientHello, lower case; empty: none.
    pub server_name: Box<str>,
    /// Application protocols offered (TLS) or recognised (`http/1.1`, `h2c`).
    pub application_protocols: Vec<Box<str>>,
    /// When it was accepted, for durations.
    pub opened: Instant,
    /// When it was accepted, for logs.
    pub opened_at: SystemTime,
}

/// A connection handed to a terminal filter.
pub struct Downstream {
    /// Its bytes.
    pub stream: Stream,
    /// The worker that owns it.
    pub worker: Rc<Worker>,
    /// What was known before the handshake.
    pub facts: Rc<ConnectionFacts>,
    /// The listener that took it (after hand-over by original destination).
    pub listener: Arc<Listener>,
    /// The chain it is served by.
    pub chain: Arc<FilterChain>,
    /// Generation of the plan by which it was let in.
    pub generation: u64,
}

impl Downstream {
    /// The handshake's facts; `None` in plaintext.
    pub fn tls(&self) -> Option<&Rc<TlsSession>> {
        self.stream.tls()
    }
}

/// The connection as authorization and hashing see it.
pub fn request_view<'a>(facts: &'a ConnectionFacts, tls: Option<&'a TlsSession>) -> request::Connection<'a> {
    request::Connection {
        direct_remote: facts.direct_remote,
        remote: facts.remote,
        local: facts.local,
        server_name: tls.and_then(|t| t.sni.as_deref()).unwrap_or(&facts.server_name),
        peer: tls.and_then(|t| t.peer.as_ref()).map(|peer| request::PeerCertificate {
            uri_sans: &peer.uri_sans,
            dns_sans: &peer.dns_sans,
            subject: &peer.subject,
        }),
        tls: tls.is_some(),
    }
}
