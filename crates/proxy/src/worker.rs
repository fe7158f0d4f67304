//! A worker: one thread, one event loop, everything it needs of its own.
//!
//! - Rule: nothing here is shared with other threads but immutable configuration and atomics; so nothing is locked.
//! - Rule: configuration arrives as a message and is swapped whole; whoever holds the old one finishes with it.
//! - Limits: [`MESSAGES_MAX`] messages wait; the main thread then waits.
//! - Not here: accepting (`listener/accept.rs`), telling workers what to do (`lib.rs`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lateen_plan::Plan;
use lateen_plan::cluster::{ClusterEndpoints, Discovery};
use lateen_plan::names::{Name, NameMap};
use lateen_telemetry::istio::{Peer, Shard};
use lateen_telemetry::peer::PeerMetadata;
use tokio::sync::{Notify, mpsc, watch};

use crate::buffer::Buffers;
use crate::cluster::Cluster;
use crate::cluster::shared::Registry;
use crate::listener::{Addresses, Listening};
use crate::log_sink::LogSink;
use crate::network::Tracked;
use crate::transport::raw::DialOptions;
use crate::transport::sds::{Secrets, TlsCache};

/// Messages waiting for a worker.
pub const MESSAGES_MAX: usize = 64;
/// Between looks at idle connections, pending log lines and unused buffers.
pub const TICK: Duration = Duration::from_millis(250);
/// The same while no connection is open, so that an idle proxy stays asleep.
pub const IDLE_TICK: Duration = Duration::from_secs(1);

/// All configuration in force at one moment.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// From xDS and the bootstrap.
    pub plan: Arc<Plan>,
    /// Endpoints of DNS clusters, resolved, by cluster name.
    pub resolved: Arc<NameMap<Arc<ClusterEndpoints>>>,
    /// Keys and trust bundles.
    pub secrets: Arc<Secrets>,
    /// The plan's listeners by the address they stand for.
    pub addresses: Arc<Addresses>,
}

/// Settings of a worker that never change.
#[derive(Debug, Clone, Default)]
pub struct WorkerOptions {
    /// Source address, mark and keep-alive of upstream connections whose cluster says nothing else.
    pub upstream: DialOptions,
    /// Longest time connections may finish after a drain began.
    pub drain_time: Duration,
    /// What this proxy says of itself.
    pub own: Arc<OwnNode>,
}

/// What this proxy says of itself to its peers and in metrics.
#[derive(Debug, Default)]
pub struct OwnNode {
    /// The node's metadata.
    pub metadata: PeerMetadata,
    /// The same as the value of `x-envoy-peer-metadata`.
    pub encoded: String,
    /// Node id, the value of `x-envoy-peer-metadata-id`.
    pub id: String,
}

impl OwnNode {
    /// From a bootstrap's node.
    pub fn of(node: &lateen_envoy_api::envoy::config::core::v3::Node) -> Self {
        let metadata = node.metadata.as_ref().map(PeerMetadata::from_node).unwrap_or_default();
        OwnNode { encoded: metadata.encode(), metadata, id: node.id.clone() }
    }
}

/// Something to do on a worker's thread.
pub type Work = Box<dyn FnOnce(&Rc<Worker>) + Send>;

/// What the main thread tells a worker.
pub enum Message {
    /// Accept on this socket for the named listener.
    Listen(Name, std::net::TcpListener),
    /// Stop accepting for the named listener.
    Unlisten(Name),
    /// Stop accepting at all, ask connections to end.
    Drain,
    /// End now, whatever is open.
    Stop,
    /// Run this on the worker, for instance to collect statistics.
    Run(Work),
}

/// One worker.
pub struct Worker {
    /// Number of the worker, from 0.
    pub index: usize,
    /// Settings that never change.
    pub options: WorkerOptions,
    /// Keys, trust and the TLS configurations made of them.
    pub tls: TlsCache,
    /// Buffers to borrow.
    pub buffers: Buffers,
    /// Access log lines not yet written.
    pub log: LogSink,
    /// What all workers share of clusters.
    pub registry: Arc<Registry>,
    /// Istio's metrics as this worker saw them.
    pub metrics: RefCell<Shard>,
    /// This proxy's workload in [`Worker::metrics`].
    pub own: Peer,
    /// Open TCP connections that a policy change may have to close.
    pub tracked: Tracked,
    config: RefCell<Rc<Config>>,
    clusters: RefCell<NameMap<Rc<Cluster>>>,
    empty: Arc<ClusterEndpoints>,
    listening: Listening,
    rng: RefCell<fastrand::Rng>,
    origin: Instant,
    connection_ids: Cell<u64>,
    connections_open: Cell<usize>,
    draining: Cell<bool>,
    drain: Notify,
}

impl Worker {
    /// A worker with empty configuration. `origin` is the same for all workers, so that their clocks agree.
    pub fn new(index: usize, options: WorkerOptions, registry: Arc<Registry>, log: LogSink, origin: Instant) -> Rc<Self> {
        let mut metrics = Shard::default();
        let own = metrics.peer(&options.own.metadata);
        Rc::new(Worker {
            index,
            metrics: RefCell::new(metrics),
            own,
            options,
            tls: TlsCache::default(),
            buffers: Buffers::default(),
            log,
            registry,
            tracked: Tracked::default(),
            config: RefCell::default(),
            clusters: RefCell::default(),
            empty: Arc::default(),
            listening: Listening::default(),
            rng: RefCell::new(fastrand::Rng::new()),
            origin,
            connection_ids: Cell::new(0),
            connections_open: Cell::new(0),
            draining: Cell::new(false),
            drain: Notify::new(),
        })
    }

    /// Serves messages until the main thread is gone. Of configurations only the newest matters, hence a `watch`.
    pub async fn run(self: Rc<Self>, mut messages: mpsc::Receiver<Message>, mut configs: watch::Receiver<Arc<Config>>) {
        let mut due = tokio::time::Instant::now() + TICK;
        loop {
            tokio::select! {
                biased;
                Ok(()) = configs.changed() => {
                    let config = Arc::clone(&configs.borrow_and_update());
                    self.install(&config);
                }
                message = messages.recv() => match message {
                    Some(Message::Stop) | None => break,
                    Some(message) => self.handle(message),
                },
                () = tokio::time::sleep_until(due) => {
                    self.tick();
                    due = tokio::time::Instant::now() + if self.connections_open.get() == 0 { IDLE_TICK } else { TICK };
                }
            }
        }
        self.log.flush();
    }

    fn handle(self: &Rc<Self>, message: Message) {
        match message {
            Message::Listen(name, socket) => self.listening.start(self, name, socket),
            Message::Unlisten(name) => self.listening.stop(&name),
            Message::Drain => {
                self.draining.set(true);
                self.listening.stop_all();
                self.drain.notify_waiters();
            }
            Message::Run(work) => work(self),
            Message::Stop => {}
        }
    }

    /// Puts new configuration in force.
    pub fn install(self: &Rc<Self>, config: &Config) {
        self.tls.swap(Arc::clone(&config.secrets));
        let config = Rc::new(config.clone());
        let former = self.config.replace(Rc::clone(&config));
        self.renew_clusters(&config);
        self.tls.forget_unused();
        if !Arc::ptr_eq(&former.plan.listeners, &config.plan.listeners) {
            self.tracked.judge_again(self);
        }
    }

    /// Clusters that were used under the old plan go over to the new one, or end.
    fn renew_clusters(&self, config: &Config) {
        let mut clusters = self.clusters.borrow_mut();
        clusters.retain(|name, cluster| match config.plan.clusters.get(name) {
            None => {
                cluster.retire();
                false
            }
            Some(plan) => {
                let endpoints = self.endpoints(config, plan);
                if !Arc::ptr_eq(plan, &cluster.plan) || !cluster.has_endpoints(&endpoints) {
                    *cluster = Rc::new(Cluster::renewed(cluster, Arc::clone(plan), &endpoints));
                }
                true
            }
        });
    }

    fn endpoints(&self, config: &Config, cluster: &lateen_plan::cluster::Cluster) -> Arc<ClusterEndpoints> {
        let found = match &cluster.discovery {
            Discovery::StrictDns(_) | Discovery::LogicalDns(_) => config.resolved.get(&cluster.name),
            Discovery::Static(_) | Discovery::Eds { .. } | Discovery::OriginalDst(_) => config.plan.endpoints_of(cluster),
        };
        Arc::clone(found.unwrap_or(&self.empty))
    }

    /// The configuration in force. A request keeps the one it started with.
    pub fn config(&self) -> Rc<Config> {
        Rc::clone(&self.config.borrow())
    }

    /// Number of the plan in force; a cheap way to see that nothing changed.
    pub fn generation(&self) -> u64 {
        self.config.borrow().plan.generation
    }

    /// The cluster in force by that name; `None`: there is none (`NC`).
    pub fn cluster(&self, name: &Name) -> Option<Rc<Cluster>> {
        if let Some(cluster) = self.clusters.borrow().get(name) {
            return Some(Rc::clone(cluster));
        }
        let config = self.config();
        let plan = config.plan.clusters.get(name)?;
        let cluster = Rc::new(Cluster::new(Arc::clone(plan), self.registry.cluster(name), &self.endpoints(&config, plan)));
        self.clusters.borrow_mut().insert(Name::clone(name), Rc::clone(&cluster));
        Some(cluster)
    }

    /// A random number, for decisions that take a draw.
    pub fn draw(&self) -> u64 {
        self.rng.borrow_mut().u64(..)
    }

    /// Milliseconds since the proxy started; agrees between workers.
    pub fn clock_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// True once connections are asked to end: HTTP answers with `connection: close` or GOAWAY.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Waits until a drain begins.
    pub async fn drain_begun(&self) {
        loop {
            let begun = self.drain.notified();
            if self.draining.get() {
                return;
            }
            begun.await;
        }
    }

    /// Connections open now.
    pub fn connections_open(&self) -> usize {
        self.connections_open.get()
    }

    /// Number for a new connection, and the promise to count it until it is dropped.
    pub fn connection_opened(self: &Rc<Self>) -> (u64, OpenConnection) {
        self.connection_ids.set(self.connection_ids.get() + 1);
        self.connections_open.set(self.connections_open.get() + 1);
        (self.connection_ids.get(), OpenConnection(Rc::clone(self)))
    }

    fn tick(&self) {
        self.log.flush();
        let now = Instant::now();
        let clusters: Vec<Rc<Cluster>> = self.clusters.borrow().values().map(Rc::clone).collect();
        for cluster in clusters {
            cluster.sweep(now);
        }
        self.tracked.sweep();
        if self.connections_open.get() == 0 {
            self.buffers.shrink();
        }
    }
}

/// Counts one open connection until dropped.
pub struct OpenConnection(Rc<Worker>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections_open.set(self.0.connections_open.get().saturating_sub(1));
    }
}
