//! Connection pools: one per worker and endpoint.
//!
//! - Reads: `connectionPool` limits as `plan::cluster::{Thresholds, HttpOptions}`.
//! - Twin: `kinds/src/destination_rule/connection_pool.rs`.
//! - Rule: a connection is used only by what could have opened it: same endpoint, ALPN list and server name ([`PoolKey`]).
//! - Rule: as in Envoy, a request without a ready connection is «pending» until it has one, and the first connection of a pool is always allowed.
//! - Limits: `max_connections`, `max_pending_requests`; idle connections close after `idle_timeout`.
//! - Not here: opening (`connect`), choosing the endpoint (`mod.rs`), HTTP itself (`http`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::circuit_breaker::{Guard, Resource};
use super::connect::{self, ConnectError, Connection};
use super::{Cluster, Host};
use crate::transport::TlsSession;
use crate::worker::Worker;

/// What connections of one endpoint are told apart by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolKey {
    /// ALPN list that replaces the cluster's (Istio's ALPN filter).
    pub alpn: Option<Rc<[Vec<u8>]>>,
    /// Server name that replaces the cluster's (`auto_sni`).
    pub sni: Option<Rc<str>>,
}

/// A worker's connections to one endpoint.
#[derive(Default)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    /// HTTP/2 connections that take more streams.
    pub h2: RefCell<Vec<Rc<H2Connection>>>,
    /// Held while an HTTP/2 connection is being opened, so that a burst opens one and shares it.
    pub h2_turn: tokio::sync::Mutex<()>,
    /// Open connections, busy and idle, that HTTP made.
    open: Cell<u32>,
    /// Told when a connection comes back or closes.
    freed: Notify,
}

struct Idle {
    key: PoolKey,
    connection: Connection,
    since: Instant,
}

/// An HTTP/2 connection shared by streams. `http` opens it, drives it, and takes it out of the pool when it ends.
pub struct H2Connection {
    /// What it may be used for.
    pub key: PoolKey,
    /// Opens streams.
    pub sender: h2::client::SendRequest<Bytes>,
    /// Streams open now.
    pub streams: Cell<u32>,
    /// Streams opened ever, against `max_requests_per_connection`.
    pub streams_total: Cell<u32>,
    /// No new streams: GOAWAY, error, or its share of requests is used up.
    pub closing: Cell<bool>,
    /// The handshake's facts.
    pub tls: Option<Rc<TlsSession>>,
    /// This side's address, for the access log.
    pub local_addr: Option<std::net::SocketAddr>,
    /// Connection limit and counters; given back when the last stream is gone.
    pub counted: connect::Counted,
}

impl Pool {
    /// A ready HTTP/1 connection for `key`, the most recently used first; closed ones are thrown away.
    pub fn take_idle(&self, key: &PoolKey) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(at) = idle.iter().rposition(|i| i.key == *key) {
            let found = idle.remove(at);
            if !found.connection.stream.is_stale() {
                return Some(found.connection);
            }
            drop(found);
            self.open.set(self.open.get().saturating_sub(1));
        }
        None
    }

    /// Closes idle connections that are dead or older than `idle_timeout`.
    pub fn sweep(&self, now: Instant, idle_timeout: Option<Duration>) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|i| !i.connection.stream.is_stale() && idle_timeout.is_none_or(|limit| now.duration_since(i.since) < limit));
        let closed = before - idle.len();
        drop(idle);
        self.closed(u32::try_from(closed).unwrap_or(u32::MAX));
        self.h2.borrow_mut().retain(|c| !c.closing.get());
    }

    /// Closes all idle connections; busy ones close when they come back to a retired pool.
    pub fn close_idle(&self) {
        let closed = std::mem::take(&mut *self.idle.borrow_mut()).len();
        self.closed(u32::try_from(closed).unwrap_or(u32::MAX));
        for connection in self.h2.borrow_mut().drain(..) {
            connection.closing.set(true);
        }
    }

    /// Idle connections now.
    pub fn idle_len(&self) -> usize {
        self.idle.borrow().len()
    }

    fn closed(&self, count: u32) {
        if count > 0 {
            self.open.set(self.open.get().saturating_sub(count));
            self.freed.notify_one();
        }
    }
}

/// A connection checked out of the pool. Dropping it closes the connection; [`Lease::give_back`] keeps it.
pub struct Lease {
    connection: Option<Connection>,
    key: PoolKey,
    host: Rc<Host>,
    /// True when the connection carried an earlier request: a failure before the first answer byte may be the other side's idle close.
    pub reused: bool,
}

impl Lease {
    /// The connection.
    pub fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a lease holds its connection until it is given back or taken")
    }

    /// The endpoint it leads to.
    pub fn host(&self) -> &Rc<Host> {
        &self.host
    }

    /// Keeps the connection for the next request, unless it is used up or the endpoint was retired.
    pub fn give_back(mut self, max_requests: u32, now: Instant) {
        let Some(mut connection) = self.connection.take() else { return };
        connection.requests += 1;
        let used_up = max_requests != 0 && connection.requests >= max_requests;
        if used_up || self.host.retired.get() {
            drop(connection);
            self.host.pool.closed(1);
            return;
        }
        let idle = Idle { key: std::mem::take(&mut self.key), connection, since: now };
        self.host.pool.idle.borrow_mut().push(idle);
        self.host.pool.freed.notify_one();
    }

    /// Takes the connection out of the pool's care (upgrades, HTTP/2 found by ALPN). Its limits stay taken until it is dropped.
    pub fn detach(mut self) -> Connection {
        let connection = self.connection.take().expect("a lease holds its connection until it is given back or taken");
        self.host.pool.closed(1);
        connection
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.connection.take().is_some() {
            self.host.pool.closed(1);
        }
    }
}

/// An HTTP/1 connection to `host`: a ready one, else a new one, else the next that is given back.
///
/// # Errors
/// [`ConnectError`]; `Overflow` when a limit refuses to wait.
pub async fn checkout(worker: &Rc<Worker>, cluster: &Rc<Cluster>, host: &Rc<Host>, key: &PoolKey, priority: usize) -> Result<Lease, ConnectError> {
    let lease = |connection, reused| Lease { connection: Some(connection), key: key.clone(), host: Rc::clone(host), reused };
    if let Some(connection) = host.pool.take_idle(key) {
        return Ok(lease(connection, true));
    }
    let thresholds = cluster.thresholds(priority);
    let breaker = cluster.breaker(priority);
    let _pending = breaker.take(Resource::PendingRequests, thresholds.max_pending_requests).ok_or(ConnectError::Overflow)?;
    loop {
        if let Some(guard) = room(cluster, host, priority) {
            host.pool.open.set(host.pool.open.get() + 1);
            let open = Opening(host);
            let connection = connect::connect(worker, cluster, host, key, guard).await?;
            std::mem::forget(open);
            return Ok(lease(connection, false));
        }
        host.pool.freed.notified().await;
        if let Some(connection) = host.pool.take_idle(key) {
            return Ok(lease(connection, true));
        }
        host.pool.close_one_idle_of_other_key(key);
    }
}

/// Permission to open a connection: within the limit, or the pool's first.
pub fn room(cluster: &Cluster, host: &Host, priority: usize) -> Option<Guard> {
    let breaker = cluster.breaker(priority);
    match breaker.take(Resource::Connections, cluster.thresholds(priority).max_connections) {
        Some(guard) => Some(guard),
        None if host.pool.open.get() == 0 && host.pool.h2.borrow().is_empty() => Some(breaker.take_anyway(Resource::Connections)),
        None => None,
    }
}

/// Gives the pool's count back when opening fails or is cancelled.
struct Opening<'a>(&'a Host);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.pool.closed(1);
    }
}

impl Pool {
    /// A connection of another kind must not block this one for ever when the limit is reached.
    fn close_one_idle_of_other_key(&self, key: &PoolKey) {
        let mut idle = self.idle.borrow_mut();
        if let Some(at) = idle.iter().position(|i| i.key != *key) {
            drop(idle.remove(at));
            drop(idle);
            self.closed(1);
        }
    }
}
