//! The main thread: takes configuration in, makes plans, tells the workers.
//!
//! - Reads: the bootstrap, xDS updates (`xds.rs`), DNS answers.
//! - Rule: a plan is put in force whole, and only when what it refers to has arrived or was waited for long enough ([`WARMING_MAX`]),
//!   so that a listener never answers for a route table that is still on its way.
//! - Rule: sockets are bound here, once for all workers; a listener whose address did not change keeps its socket.
//! - Limits: [`WARMING_MAX`].
//! - Not here: the workers (`worker.rs`), the admin interface (`admin`).

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lateen_plan::cluster::ClusterEndpoints;
use lateen_plan::listener::tls::SdsSource;
use lateen_plan::listener::{ListenAddress, Listener};
use lateen_plan::names::{Name, NameMap};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::bootstrap::Bootstrap;
use crate::builder::{Builder, Change};
use crate::cluster::dns;
use crate::cluster::shared::Registry;
use crate::listener;
use crate::log_sink::LogWriter;
use crate::resources::Resources;
use crate::transport::raw;
use crate::transport::sds::Secrets;
use crate::worker::{Config, Message};
use crate::xds::References;

/// Longest time a new plan waits for route tables, endpoints and secrets that it refers to.
pub const WARMING_MAX: Duration = Duration::from_secs(2);

/// How far the start has come, in Envoy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waiting for the first configuration.
    Initializing,
    /// Serving.
    Live,
    /// Asked to end; finishing connections.
    Draining,
}

impl State {
    /// As `/server_info` and `/ready` print it.
    pub fn text(self) -> &'static str {
        match self {
            State::Initializing => "INITIALIZING",
            State::Live => "LIVE",
            State::Draining => "DRAINING",
        }
    }
}

/// The main thread's state.
pub struct Server {
    /// The file it started from.
    pub bootstrap: Bootstrap,
    /// What all workers share of clusters.
    pub registry: Arc<Registry>,
    /// Resources as they arrived.
    pub resources: RefCell<Resources>,
    /// Log writer, for its count of dropped bytes.
    pub log: LogWriter,
    /// When the process started.
    pub started: Instant,
    /// Version text for `/server_info`.
    pub version: String,
    /// Asks the process to end.
    pub quit: watch::Sender<bool>,
    /// Longest time connections may finish.
    pub drain_time: Duration,
    workers: Vec<mpsc::Sender<Message>>,
    configs: watch::Sender<Arc<Config>>,
    builder: RefCell<Builder>,
    secrets: RefCell<Secrets>,
    resolved: RefCell<NameMap<Arc<ClusterEndpoints>>>,
    resolving: RefCell<HashMap<Name, Resolving>>,
    config: RefCell<Arc<Config>>,
    sockets: RefCell<HashMap<Name, SocketAddr>>,
    waited: RefCell<HashSet<Waited>>,
    publishing: RefCell<Option<JoinHandle<()>>>,
    /// Types whose first response is still awaited.
    awaited: RefCell<HashSet<String>>,
    state: Cell<State>,
    health_failed: Cell<bool>,
    references: RefCell<Option<Referring>>,
    /// Updates taken and refused, by type.
    updates: RefCell<std::collections::BTreeMap<String, (u64, u64)>>,
}

/// A cluster whose names are being looked up, and the task that does.
type Resolving = (Arc<lateen_plan::cluster::Cluster>, JoinHandle<()>);

/// Listeners and clusters, and what they refer to.
type Referring = (Arc<NameMap<Arc<Listener>>>, Arc<NameMap<Arc<lateen_plan::cluster::Cluster>>>, Rc<References>);

/// Something a plan refers to that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Waited {
    /// A route table.
    Routes(Name),
    /// A cluster's endpoints.
    Endpoints(Name),
    /// A secret.
    Secret(lateen_plan::listener::tls::SdsRef),
}

/// What a new [`Server`] is made of.
pub struct Parts {
    /// The file it starts from.
    pub bootstrap: Bootstrap,
    /// The workers' mailboxes.
    pub workers: Vec<mpsc::Sender<Message>>,
    /// What the workers watch for new configuration.
    pub configs: watch::Sender<Arc<Config>>,
    /// What all workers share of clusters.
    pub registry: Arc<Registry>,
    /// Log writer.
    pub log: LogWriter,
    /// Version text for `/server_info`.
    pub version: String,
    /// Longest time connections may finish.
    pub drain_time: Duration,
    /// When the process started.
    pub started: Instant,
    /// Asks the process to end.
    pub quit: watch::Sender<bool>,
}

impl Server {
    /// A server with nothing in force.
    pub fn new(parts: Parts) -> Rc<Self> {
        let mut awaited = HashSet::new();
        if let Some(ads) = &parts.bootstrap.ads {
            let types = [(ads.cds, lateen_xds::types::CLUSTER), (ads.lds, lateen_xds::types::LISTENER)];
            awaited.extend(types.iter().filter(|(on, _)| *on).map(|(_, t)| (*t).to_owned()));
        }
        Rc::new(Server {
            bootstrap: parts.bootstrap,
            registry: parts.registry,
            resources: RefCell::default(),
            log: parts.log,
            started: parts.started,
            version: parts.version,
            quit: parts.quit,
            drain_time: parts.drain_time,
            workers: parts.workers,
            configs: parts.configs,
            builder: RefCell::default(),
            secrets: RefCell::default(),
            resolved: RefCell::default(),
            resolving: RefCell::default(),
            config: RefCell::default(),
            sockets: RefCell::default(),
            waited: RefCell::default(),
            publishing: RefCell::default(),
            awaited: RefCell::new(awaited),
            state: Cell::new(State::Initializing),
            health_failed: Cell::new(false),
            references: RefCell::default(),
            updates: RefCell::default(),
        })
    }

    /// How far the start has come.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Whether somebody asked `/ready` to fail.
    pub fn health_failed(&self) -> bool {
        self.health_failed.get()
    }

    /// Makes `/ready` fail or pass.
    pub fn set_health_failed(&self, failed: bool) {
        self.health_failed.set(failed);
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// The plan as it will be, with what is accepted but still waits.
    pub fn next_plan(&self) -> Arc<lateen_plan::Plan> {
        self.builder.borrow().plan()
    }

    /// Secrets as they are.
    pub fn secrets(&self) -> Secrets {
        self.secrets.borrow().clone()
    }

    /// How many workers there are.
    pub fn workers_len(&self) -> usize {
        self.workers.len()
    }

    /// Takes a change; tells what of it was refused. What was not refused is in force as soon as it is complete.
    pub fn apply(self: &Rc<Self>, change: &Change) -> Vec<Refused> {
        let mut refused = self.builder.borrow_mut().apply(change, &mut self.secrets.borrow_mut());
        // The bootstrap's own clusters and listeners are not what the control plane is awaited for.
        if !change.is_static {
            self.awaited.borrow_mut().remove(change.type_url.as_str());
        }
        if change.type_url == lateen_xds::types::LISTENER {
            refused.extend(self.bind_new(change));
        }
        if matches!(change.type_url.as_str(), lateen_xds::types::LISTENER | lateen_xds::types::CLUSTER) {
            self.forget_unreferenced(&change.source);
        }
        self.note(change, &refused);
        self.publish();
        refused
    }

    /// Goes on without clusters or listeners that the control plane has not sent by now.
    pub fn stop_awaiting(self: &Rc<Self>) {
        let missing = std::mem::take(&mut *self.awaited.borrow_mut());
        if !missing.is_empty() {
            tracing::warn!(?missing, "the control plane sent none in time; going on without");
            self.publish();
        }
    }

    /// Route tables and endpoints that nothing refers to any more are no longer subscribed to, so they would only grow old.
    fn forget_unreferenced(&self, source: &SdsSource) {
        let plan = self.next_plan();
        let references = self.references(&plan);
        let routes: Vec<String> = plan.routes.keys().filter(|n| !references.routes.contains(*n)).map(|n| n.to_string()).collect();
        let endpoints: Vec<String> = plan.endpoints.keys().filter(|n| !references.endpoints.contains(*n)).map(|n| n.to_string()).collect();
        for (kind, removed) in [(lateen_xds::types::ROUTE, routes), (lateen_xds::types::ENDPOINT, endpoints)] {
            if removed.is_empty() {
                continue;
            }
            let mut resources = self.resources.borrow_mut();
            removed.iter().for_each(|name| resources.remove(kind, name));
            let change = Change { type_url: kind.to_owned(), added: Vec::new(), removed, source: source.clone(), is_static: false };
            self.builder.borrow_mut().apply(&change, &mut self.secrets.borrow_mut());
        }
    }

    /// What a plan's listeners and clusters refer to; worked out again only when one of them changed.
    pub fn references(&self, plan: &lateen_plan::Plan) -> Rc<References> {
        let mut known = self.references.borrow_mut();
        if let Some((listeners, clusters, references)) = &*known
            && Arc::ptr_eq(listeners, &plan.listeners)
            && Arc::ptr_eq(clusters, &plan.clusters)
        {
            return Rc::clone(references);
        }
        let references = Rc::new(References::of(plan));
        *known = Some((Arc::clone(&plan.listeners), Arc::clone(&plan.clusters), Rc::clone(&references)));
        references
    }

    /// Updates taken and refused so far, by short type name (`CDS`, `LDS`…).
    pub fn updates(&self) -> Vec<(String, (u64, u64))> {
        self.updates.borrow().iter().map(|(kind, counts)| (kind.clone(), *counts)).collect()
    }

    /// Keeps what arrived for the admin interface.
    fn note(&self, change: &Change, refused: &[Refused]) {
        let mut resources = self.resources.borrow_mut();
        let now = SystemTime::now();
        if !change.is_static {
            let mut updates = self.updates.borrow_mut();
            let (taken, failed) = updates.entry(lateen_xds::types::short(&change.type_url).to_owned()).or_default();
            *if refused.is_empty() { taken } else { failed } += 1;
        }
        for item in &change.added {
            match refused.iter().find(|r| r.name == item.name) {
                Some(refusal) => resources.refuse(
                    &change.type_url,
                    &item.name,
                    crate::resources::Refusal { body: item.body.clone(), version: item.version.clone(), at: now, why: refusal.why.clone() },
                ),
                None => resources.accept(
                    &change.type_url,
                    &item.name,
                    crate::resources::Raw { version: item.version.clone(), body: item.body.clone(), updated: now, is_static: change.is_static },
                ),
            }
        }
        for name in &change.removed {
            resources.remove(&change.type_url, name);
        }
    }

    /// Puts the newest plan in force if it is complete; else as soon as it is, or when the wait is over.
    pub fn publish(self: &Rc<Self>) {
        let plan = self.next_plan();
        self.keep_resolving(&plan);
        let missing = self.missing(&plan);
        let blocking = missing.iter().any(|m| !self.waited.borrow().contains(m));
        if !blocking && self.awaited.borrow().is_empty() {
            if let Some(task) = self.publishing.borrow_mut().take() {
                task.abort();
            }
            self.put_in_force(plan);
            return;
        }
        if !blocking || self.publishing.borrow().is_some() {
            // Before the first clusters and listeners there is nothing to serve; static listeners come in force all the same.
            if self.state.get() == State::Initializing {
                self.put_static_in_force(&plan);
            }
            return;
        }
        if self.state.get() == State::Initializing {
            self.put_static_in_force(&plan);
        }
        let server = Rc::clone(self);
        let task = tokio::task::spawn_local(async move {
            tokio::time::sleep(WARMING_MAX).await;
            server.publishing.borrow_mut().take();
            let missing = server.missing(&server.next_plan());
            for item in &missing {
                tracing::warn!(?item, "did not arrive in time; the configuration that refers to it is put in force without it");
            }
            server.waited.borrow_mut().extend(missing);
            server.publish();
        });
        *self.publishing.borrow_mut() = Some(task);
    }

    /// While the first xDS configuration is awaited, listeners of the bootstrap (health, metrics) already serve.
    fn put_static_in_force(&self, plan: &Arc<lateen_plan::Plan>) {
        self.send_config(plan);
        self.listen(plan, |name| {
            self.resources.borrow().of(lateen_xds::types::LISTENER).any(|(held, raw)| raw.is_static && held == &**name)
        });
    }

    fn put_in_force(&self, plan: Arc<lateen_plan::Plan>) {
        self.send_config(&plan);
        self.listen(&plan, |_| true);
        self.registry.sweep();
        if self.state.get() == State::Initializing {
            self.state.set(State::Live);
            tracing::info!(listeners = plan.listeners.len(), clusters = plan.clusters.len(), "proxy is ready");
        }
    }

    fn send_config(&self, plan: &Arc<lateen_plan::Plan>) {
        let former = self.config();
        let same_listeners = Arc::ptr_eq(&former.plan.listeners, &plan.listeners);
        let config = Arc::new(Config {
            addresses: if same_listeners { Arc::clone(&former.addresses) } else { Arc::new(listener::addresses(plan)) },
            plan: Arc::clone(plan),
            resolved: Arc::new(self.resolved.borrow().clone()),
            secrets: Arc::new(self.secrets.borrow().clone()),
        });
        *self.config.borrow_mut() = Arc::clone(&config);
        self.configs.send_replace(config);
    }

    /// Sends to every worker. A mailbox that is full belongs to a worker that hangs; the message is retried from a task.
    pub fn tell(&self, message: impl Fn() -> Message) {
        for worker in &self.workers {
            if let Err(mpsc::error::TrySendError::Full(message)) = worker.try_send(message()) {
                let worker = worker.clone();
                tokio::task::spawn_local(async move {
                    let _ = worker.send(message).await;
                });
            }
        }
    }

    /// What the plan refers to and does not have.
    fn missing(&self, plan: &lateen_plan::Plan) -> Vec<Waited> {
        let mut missing: Vec<Waited> = Vec::new();
        let references = self.references(plan);
        missing.extend(references.routes.iter().filter(|n| !plan.routes.contains_key(*n)).map(|n| Waited::Routes(Name::clone(n))));
        missing.extend(references.endpoints.iter().filter(|n| !plan.endpoints.contains_key(*n)).map(|n| Waited::Endpoints(Name::clone(n))));
        let secrets = self.secrets.borrow();
        missing.extend(references.secrets.iter().filter(|n| !secrets.contains(n)).cloned().map(Waited::Secret));
        let mut waited = self.waited.borrow_mut();
        waited.retain(|w| missing.contains(w));
        missing
    }

    /// Starts and ends the look-ups of DNS clusters.
    fn keep_resolving(self: &Rc<Self>, plan: &lateen_plan::Plan) {
        let mut resolving = self.resolving.borrow_mut();
        resolving.retain(|name, (cluster, task)| {
            let stays = plan.clusters.get(name).is_some_and(|c| Arc::ptr_eq(c, cluster));
            if !stays {
                task.abort();
            }
            stays
        });
        for (name, cluster) in plan.clusters.iter().filter(|(_, c)| dns::settings(c).is_some()) {
            if resolving.contains_key(name) {
                continue;
            }
            let (server, key) = (Rc::downgrade(self), Name::clone(name));
            let task = tokio::task::spawn_local(dns::keep_resolved(Arc::clone(cluster), move |endpoints| {
                if let Some(server) = server.upgrade() {
                    server.resolved.borrow_mut().insert(Name::clone(&key), endpoints);
                    let plan = Arc::clone(&server.config.borrow().plan);
                    if server.state.get() != State::Initializing {
                        server.send_config(&plan);
                    } else {
                        server.publish();
                    }
                }
            }));
            resolving.insert(Name::clone(name), (Arc::clone(cluster), task));
        }
        self.resolved.borrow_mut().retain(|name, _| resolving.contains_key(name));
    }

    /// Tries the addresses of listeners that have no socket yet, so that a taken port is refused with the update that asked for it.
    fn bind_new(&self, change: &Change) -> Vec<Refused> {
        let plan = self.next_plan();
        let sockets = self.sockets.borrow();
        let mut refused = Vec::new();
        let arrived = change.added.iter().filter_map(|item| plan.listeners.get(item.name.as_str()));
        for listener in arrived.filter(|l| l.bind_to_port) {
            let ListenAddress::Socket(address) = listener.address else {
                let why = format!("listener {}: address.pipe: listening on a unix socket is not supported by this proxy", listener.name);
                refused.push(Refused { name: listener.name.to_string(), why });
                continue;
            };
            if sockets.get(&listener.name) == Some(&address) || address.port() == 0 {
                continue;
            }
            if let Err(error) = raw::listen(address, &listen_options(listener)) {
                refused.push(Refused { name: listener.name.to_string(), why: format!("listener {}: {error}", listener.name) });
            }
        }
        refused
    }

    /// Gives workers sockets for new listeners and takes those of removed ones away.
    fn listen(&self, plan: &lateen_plan::Plan, wanted: impl Fn(&Name) -> bool) {
        let mut sockets = self.sockets.borrow_mut();
        sockets.retain(|name, address| {
            let stays = plan.listeners.get(name).is_some_and(|l| l.bind_to_port && (l.address == ListenAddress::Socket(*address) || ephemeral(l)));
            if !stays {
                self.tell(|| Message::Unlisten(Name::clone(name)));
            }
            stays
        });
        for listener in plan.listeners.values().filter(|l| l.bind_to_port && wanted(&l.name)) {
            let ListenAddress::Socket(address) = listener.address else { continue };
            if sockets.contains_key(&listener.name) {
                continue;
            }
            match self.open_sockets(listener, address) {
                Ok(bound) => {
                    sockets.insert(Name::clone(&listener.name), bound);
                }
                Err(error) => tracing::error!(listener = %listener.name, %error, "listener has no socket"),
            }
        }
    }

    /// One socket per worker on the same address. Port 0 takes one free port for all of them.
    fn open_sockets(&self, listener: &Listener, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let options = listen_options(listener);
        let mut bound = address;
        for worker in &self.workers {
            let socket = raw::listen(bound, &options)?;
            bound = socket.local_addr()?;
            let message = Message::Listen(Name::clone(&listener.name), socket);
            match worker.try_send(message) {
                Ok(()) => {}
                // More listeners at once than a mailbox holds: the rest follows as the worker takes them.
                Err(mpsc::error::TrySendError::Full(message)) => {
                    let worker = worker.clone();
                    tokio::task::spawn_local(async move {
                        let _ = worker.send(message).await;
                    });
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(std::io::Error::other("a worker has ended; restart the proxy")),
            }
        }
        Ok(bound)
    }

    /// Addresses listened on, by listener.
    pub fn listening(&self) -> Vec<(Name, SocketAddr)> {
        let mut all: Vec<_> = self.sockets.borrow().iter().map(|(n, a)| (Name::clone(n), *a)).collect();
        all.sort();
        all
    }

    /// Stops accepting and asks connections to end.
    pub fn drain(&self) {
        self.state.set(State::Draining);
        self.sockets.borrow_mut().clear();
        self.tell(|| Message::Drain);
    }

    /// Stops accepting without ending anything else (`/drain_listeners`).
    pub fn drain_listeners(&self) {
        let names: Vec<Name> = self.sockets.borrow_mut().drain().map(|(name, _)| name).collect();
        for name in names {
            self.tell(|| Message::Unlisten(Name::clone(&name)));
        }
    }

    /// Ends the workers, whatever they still serve.
    pub fn stop_workers(&self) {
        self.tell(|| Message::Stop);
    }

    /// Asks every worker something and waits for the answers.
    pub async fn ask<T: Send + 'static>(&self, question: impl Fn(&Rc<crate::worker::Worker>) -> T + Send + Sync + Clone + 'static) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let question = question.clone();
            let run = Message::Run(Box::new(move |worker| {
                let _ = sender.send(question(worker));
            }));
            if worker.send(run).await.is_ok() {
                answers.push(receiver);
            }
        }
        futures::future::join_all(answers).await.into_iter().filter_map(Result::ok).collect()
    }
}

/// One refusal, as it goes into a NACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The resource.
    pub name: String,
    /// Whole sentence: resource, field, value, remedy.
    pub why: String,
}

fn ephemeral(listener: &Listener) -> bool {
    matches!(listener.address, ListenAddress::Socket(address) if address.port() == 0)
}

fn listen_options(listener: &Listener) -> raw::ListenOptions {
    raw::ListenOptions { backlog: listener.tcp_backlog.unwrap_or(0), options: listener.socket_options.as_slice().into() }
}
