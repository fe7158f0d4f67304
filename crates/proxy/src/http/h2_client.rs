//! HTTP/2 connections to endpoints: opened once, shared by many streams.
//!
//! - Reads: `plan::cluster::HttpOptions` (streams, windows, requests per connection).
//! - Rule: requests share a connection until the endpoint's stream limit; only then another one is opened.
//! - Rule: a connection that said GOAWAY or failed takes no new streams; those it has finish.
//! - Limits: `max_concurrent_streams` of both sides, `max_requests_per_connection`, the cluster's connection limit.
//! - Not here: streams (`http/exchange.rs`), sockets and TLS (`cluster/connect.rs`).

use crate::cluster::circuit_breaker::Resource;
use crate::cluster::connect::{self, Connection};
use crate::cluster::pool::{self, H2Connection};
use crate::cluster::shared::inc;
use crate::cluster::{Cluster, ConnectError, Host, PoolKey};
use crate::worker::Worker;
use bytes::Bytes;
use lateen_plan::http::Http2Options;
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;

/// A place for one stream on a connection; given back on drop.
pub(crate) struct Slot {
    pub(crate) connection: Rc<H2Connection>,
    /// Ready to open the stream.
    pub(crate) sender: h2::client::SendRequest<Bytes>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let streams = &self.connection.streams;
        streams.set(streams.get().saturating_sub(1));
    }
}

/// Stream window: one large piece in flight. Envoy's default is 256 MiB, which buys nothing on local links and costs memory.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Connection window: several streams' worth.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Envoy's default for `max_concurrent_streams`.
const STREAMS_MAX: u32 = 1024;

/// Whether a connection to `host` for `key` is open.
pub(crate) fn has_connection(host: &Host, key: &PoolKey) -> bool {
    host.pool.h2.borrow().iter().any(|c| c.key == *key && !c.closing.get())
}

/// A place on an open connection, else on a new one, ready for a stream.
pub(crate) async fn checkout(worker: &Rc<Worker>, cluster: &Rc<Cluster>, host: &Rc<Host>, key: &PoolKey, priority: usize) -> Result<Slot, ConnectError> {
    for _ in 0..CHECKOUTS_MAX {
        let slot = place(worker, cluster, host, key, priority).await?;
        if let Some(slot) = slot.ready().await {
            return Ok(slot);
        }
        // The endpoint said GOAWAY while nobody looked: nothing was sent, so another connection is safe.
    }
    Err(ConnectError::Refused("http2_connection_ended".into()))
}

/// An endpoint that closes every connection at once is not tried for ever.
const CHECKOUTS_MAX: usize = 3;

impl Slot {
    /// Waits for the endpoint to allow a stream. `None`: the connection takes no more.
    async fn ready(mut self) -> Option<Self> {
        if poll_fn(|cx| self.sender.poll_ready(cx)).await.is_err() {
            self.connection.closing.set(true);
            return None;
        }
        Some(self)
    }
}

async fn place(worker: &Rc<Worker>, cluster: &Rc<Cluster>, host: &Rc<Host>, key: &PoolKey, priority: usize) -> Result<Slot, ConnectError> {
    let limit = cluster.plan.http.max_requests_per_connection;
    if let Some(slot) = on_open(host, key, limit, Full::Skip) {
        return Ok(slot);
    }
    let breaker = cluster.breaker(priority);
    let _pending = breaker.take(Resource::PendingRequests, cluster.thresholds(priority).max_pending_requests).ok_or(ConnectError::Overflow)?;
    let _turn = host.pool.h2_turn.lock().await;
    // Whoever had the turn before may have opened one.
    if let Some(slot) = on_open(host, key, limit, Full::Skip) {
        return Ok(slot);
    }
    match pool::room(cluster, host, priority) {
        Some(guard) => {
            let connection = connect::connect(worker, cluster, host, key, guard).await?;
            adopt_with(host, key, connection, &cluster.plan.http.http2, limit, Some(cluster)).await
        }
        None => on_open(host, key, limit, Full::Take).ok_or(ConnectError::Overflow),
    }
}

/// Speaks HTTP/2 on a connection that was opened for whatever ALPN would say.
pub(crate) async fn adopt(host: &Rc<Host>, key: &PoolKey, connection: Connection) -> Result<Slot, ConnectError> {
    adopt_with(host, key, connection, &Http2Options::default(), 0, None).await
}

/// What happens to connections whose peer allows no more streams now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Full {
    Skip,
    /// The stream waits inside `h2` until another ends.
    Take,
}

fn on_open(host: &Host, key: &PoolKey, limit: u32, full: Full) -> Option<Slot> {
    let open = host.pool.h2.borrow();
    let usable = |c: &&Rc<H2Connection>| c.key == *key && !c.closing.get();
    let has_room = |c: &&Rc<H2Connection>| full == Full::Take || (c.streams.get() as usize) < c.sender.current_max_send_streams();
    let connection = open.iter().filter(usable).filter(has_room).min_by_key(|c| c.streams.get())?;
    Some(take(connection, limit))
}

fn take(connection: &Rc<H2Connection>, limit: u32) -> Slot {
    connection.streams.set(connection.streams.get() + 1);
    connection.streams_total.set(connection.streams_total.get() + 1);
    if limit != 0 && connection.streams_total.get() >= limit {
        connection.closing.set(true);
    }
    Slot { connection: Rc::clone(connection), sender: connection.sender.clone() }
}

async fn adopt_with(host: &Rc<Host>, key: &PoolKey, connection: Connection, options: &Http2Options, limit: u32, cluster: Option<&Cluster>) -> Result<Slot, ConnectError> {
    let Connection { stream, counted, local_addr, .. } = connection;
    let tls = stream.tls().map(Rc::clone);
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(options.initial_stream_window_size.unwrap_or(STREAM_WINDOW))
        .initial_connection_window_size(options.initial_connection_window_size.unwrap_or(CONNECTION_WINDOW))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_max_send_streams(options.max_concurrent_streams.unwrap_or(STREAMS_MAX) as usize)
        .enable_push(false);
    let (sender, driver) = builder.handshake::<_, Bytes>(stream).await.map_err(|error| ConnectError::Refused(error.to_string().replace(' ', "_")))?;
    if let Some(cluster) = cluster {
        inc(&cluster.shared.stats.upstream_cx_http2_total);
    }
    let shared = Rc::new(H2Connection {
        key: key.clone(),
        sender,
        streams: Cell::new(0),
        streams_total: Cell::new(0),
        closing: Cell::new(false),
        tls,
        local_addr,
        counted,
    });
    host.pool.h2.borrow_mut().push(Rc::clone(&shared));
    let slot = take(&shared, limit);
    tokio::task::spawn_local(drive(driver, Rc::downgrade(&shared), Rc::downgrade(host)));
    drop(shared);
    Ok(slot)
}

/// Moves the connection's bytes until it ends, then takes it out of the pool.
async fn drive(driver: h2::client::Connection<crate::transport::Stream, Bytes>, shared: std::rc::Weak<H2Connection>, host: std::rc::Weak<Host>) {
    let mut driver = std::pin::pin!(driver);
    let _ = poll_fn(|cx| std::future::Future::poll(driver.as_mut(), cx)).await;
    if let (Some(shared), Some(host)) = (shared.upgrade(), host.upgrade()) {
        shared.closing.set(true);
        host.pool.h2.borrow_mut().retain(|c| !Rc::ptr_eq(c, &shared));
    }
}
