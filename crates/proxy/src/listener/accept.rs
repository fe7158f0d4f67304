//! Accepting: a socket's connections, each brought to the chain that serves it.
//!
//! - Reads: `plan::listener::{Listener, FilterChain}`.
//! - Rule: one connection is one task; it ends when its terminal filter returns.
//! - Rule: a connection that no chain matches is reset and logged with `NR filter_chain_not_found`.
//! - Limits: out of file descriptors (`EMFILE`): the loop waits [`EXHAUSTED_PAUSE`] and tries again; open connections go on.
//! - Not here: binding (`lib.rs`), serving (`network`, `http`).

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lateen_plan::listener::{DownstreamTransport, FilterChain, Listener, Terminal};
use lateen_plan::names::Name;
use tokio::net::{TcpListener, TcpStream};

use super::inspect::{self, Found, QUIET, Wanted};
use super::{r#match, original_dst, proxy_protocol};
use crate::connection::{ConnectionFacts, Downstream};
use crate::network::{self, tcp_proxy};
use crate::transport::{Stream, raw, tls};
use crate::worker::Worker;

/// Wait after the process ran out of file descriptors or memory for sockets.
pub const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the task is aborted.
pub async fn accept_all(worker: Rc<Worker>, name: Name, socket: std::net::TcpListener) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(listener = %name, %error, "listener cannot be watched; it accepts nothing");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((tcp, remote)) => {
                let (worker, name) = (Rc::clone(&worker), Name::clone(&name));
                tokio::task::spawn_local(async move { serve(worker, name, tcp, remote).await });
            }
            Err(error) if is_exhausted(&error) => {
                tracing::warn!(listener = %name, %error, "no more connections can be accepted; raise the limit of open files");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            // The client left before it was accepted.
            Err(_) => {}
        }
    }
}

/// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM` (Linux numbers).
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

async fn serve(worker: Rc<Worker>, name: Name, mut tcp: TcpStream, mut remote: SocketAddr) {
    let (id, _open) = worker.connection_opened();
    let direct_remote = remote;
    let config = worker.config();
    let (Some(listener), Ok(accepted_on)) = (config.plan.listeners.get(&name), tcp.local_addr()) else { return };
    let _ = tcp.set_nodelay(true);
    let mut local = if r#match::wants_original_dst(listener) { original_dst::of(&tcp, accepted_on) } else { accepted_on };
    let listener = if listener.use_original_dst { original_dst::hand_over(&config.addresses, local).unwrap_or(listener) } else { listener };
    if let Some(required) = r#match::wants_proxy_header(listener) {
        match proxy_protocol::take(&mut tcp, required).await {
            Ok(Some((from, to))) => (remote, local) = (from, to),
            Ok(None) => {}
            Err(_) => return,
        }
    }
    let mut arrival = Arrival {
        facts: ConnectionFacts {
            id,
            direct_remote,
            remote,
            local,
            accepted_on,
            is_tls: false,
            server_name: "".into(),
            application_protocols: Vec::new(),
            opened: Instant::now(),
            opened_at: SystemTime::now(),
        },
        listener: Arc::clone(listener),
        worker,
    };
    drop(config);
    let Ok(early) = arrival.inspect(&tcp).await else { return };
    arrival.dispatch(tcp, early).await;
}

/// A connection on its way to a chain.
struct Arrival {
    facts: ConnectionFacts,
    listener: Arc<Listener>,
    worker: Rc<Worker>,
}

impl Arrival {
    /// Runs the listener's inspectors; see [`inspect`] for what happens when the client is silent.
    async fn inspect(&mut self, tcp: &TcpStream) -> io::Result<Option<tcp_proxy::Opened>> {
        let wanted = Wanted::of(&self.listener, self.facts.local.port());
        if wanted.nothing() {
            return Ok(None);
        }
        let waiting = self.first_bytes(tcp, wanted);
        let (found, early) = match self.listener.listener_filters_timeout {
            None => waiting.await?,
            Some(limit) => match tokio::time::timeout(limit, waiting).await {
                Ok(outcome) => outcome?,
                Err(_) if self.listener.continue_on_listener_filters_timeout => (Found::default(), None),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            },
        };
        self.facts.is_tls = found.is_tls;
        self.facts.server_name = found.server_name;
        self.facts.application_protocols = found.application_protocols;
        Ok(early)
    }

    async fn first_bytes(&self, tcp: &TcpStream, wanted: Wanted) -> io::Result<(Found, Option<tcp_proxy::Opened>)> {
        let mut buffer = self.worker.buffers.take();
        let looked = self.race(tcp, wanted, &mut buffer).await;
        self.worker.buffers.give(buffer);
        looked
    }

    /// Client's first bytes, or an upstream that speaks first.
    async fn race(&self, tcp: &TcpStream, wanted: Wanted, buffer: &mut Vec<u8>) -> io::Result<(Found, Option<tcp_proxy::Opened>)> {
        let quiet = if SPOKE_FIRST.with_borrow(|known| known.contains(&self.facts.local)) { Duration::ZERO } else { QUIET };
        // `readable` may wake early; a look at the first byte does not.
        if tokio::time::timeout(quiet, tcp.peek(&mut [0u8; 1])).await.is_ok() {
            return Ok((inspect::inspect(tcp, wanted, buffer).await?, None));
        }
        let Some(mut opened) = self.open_early().await else {
            return Ok((inspect::inspect(tcp, wanted, buffer).await?, None));
        };
        tokio::select! {
            biased;
            found = inspect::inspect(tcp, wanted, buffer) => Ok((found?, Some(opened))),
            () = opened.speaks() => {
                SPOKE_FIRST.with_borrow_mut(|known| {
                    if known.len() < SPOKE_FIRST_MAX {
                        known.insert(self.facts.local);
                    }
                });
                Ok((Found::default(), Some(opened)))
            }
        }
    }

    /// Opens the upstream of the plaintext TCP chain, if that is where a silent connection would go and authorization allows it.
    async fn open_early(&self) -> Option<tcp_proxy::Opened> {
        let chain = r#match::chain(&self.listener, &self.facts)?;
        match (&chain.transport, &chain.terminal) {
            (DownstreamTransport::Raw, Terminal::TcpProxy(proxy)) if network::admits(chain, &self.facts, None) => {
                tcp_proxy::open(&self.worker, chain, proxy, &self.facts, None).await.ok()
            }
            (DownstreamTransport::Raw | DownstreamTransport::Tls(_), Terminal::TcpProxy(_) | Terminal::Http(_)) => None,
        }
    }

    async fn dispatch(self, tcp: TcpStream, early: Option<tcp_proxy::Opened>) {
        let Arrival { facts, listener, worker } = self;
        let Some(chain) = r#match::chain(&listener, &facts).map(Arc::clone) else {
            network::log_unmatched(&worker, &listener, &facts);
            raw::reset_on_close(&tcp);
            return;
        };
        let generation = worker.generation();
        let stream = match handshake(&worker, &chain, tcp).await {
            Ok(stream) => stream,
            Err(error) => {
                network::log_handshake_failed(&worker, &listener, &facts, &error);
                return;
            }
        };
        let early = early.filter(|opened| opened.is_for(&chain));
        network::serve(Downstream { stream, worker, facts: Rc::new(facts), listener, chain, generation }, early).await;
    }
}

async fn handshake(worker: &Worker, chain: &FilterChain, tcp: TcpStream) -> io::Result<Stream> {
    match &chain.transport {
        DownstreamTransport::Raw => Ok(Stream::Plain(tcp)),
        DownstreamTransport::Tls(context) => {
            let ready = worker.tls.server(context).map_err(io::Error::other)?;
            let local = ready.local.as_deref().map(|pair| &pair.leaf);
            tls::accept(tcp, ready.config, local).await
        }
    }
}

thread_local! {
    /// Destinations whose server spoke first, in this worker.
    static SPOKE_FIRST: RefCell<HashSet<SocketAddr>> = RefCell::default();
}

/// Destinations remembered; beyond that, further ones wait [`QUIET`] each time.
const SPOKE_FIRST_MAX: usize = 1024;
