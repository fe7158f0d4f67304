//! The data plane: accepts connections, routes them by the plan, and carries their bytes.
//!
//! One request's way: `listener/accept.rs` → `listener/inspect.rs` → `listener/match.rs` → `transport/tls.rs` → `network/` →
//! `http/` and `filters/` → `cluster/` → `transport/`.
//!
//! - Reads: an Envoy bootstrap (`bootstrap.rs`), then xDS (`xds.rs`), both through crate `plan`.
//! - Rule: one worker thread per core; a worker shares nothing but atomics and immutable plans with the others.
//! - Not here: what configuration means (`plan`), the xDS protocol (`xds` crate), HTTP/1.1 parsing (`http1`).

#![forbid(unsafe_code)]

pub mod admin;
pub mod bootstrap;
pub mod buffer;
pub mod builder;
pub mod cluster;
pub mod connection;
pub mod filters;
pub mod http;
pub mod listener;
pub mod log_sink;
pub mod network;
pub mod resources;
pub mod server;
pub mod transport;
pub mod worker;
pub mod xds;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lateen_plan::listener::tls::SdsSource;
use tokio::sync::{mpsc, watch};

use bootstrap::Bootstrap;
use builder::{Change, Item};
use cluster::shared::Registry;
use log_sink::{LogSink, LogWriter};
use server::{Parts, Server};
use transport::raw::DialOptions;
use worker::{Config, MESSAGES_MAX, Message, OwnNode, Worker, WorkerOptions};

/// Worker threads when nothing else is said; as Istio's default for sidecars.
pub const CONCURRENCY_DEFAULT: usize = 2;
/// Longest time connections may finish after a termination signal; Istio's `terminationDrainDuration`.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(5);
/// Stack of a worker thread. Futures live on the heap; the deepest synchronous calls are TLS handshakes and regular expressions.
const WORKER_STACK_BYTES: usize = 1024 * 1024;

/// How to run a proxy.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// What it starts from.
    pub bootstrap: Bootstrap,
    /// Worker threads; 0 means [`CONCURRENCY_DEFAULT`].
    pub concurrency: usize,
    /// Longest time connections may finish after a termination signal.
    pub drain_time: Duration,
    /// End on `SIGTERM` and `SIGINT`. Off when the caller has its own handling and calls [`Running::shutdown`].
    pub handle_signals: bool,
    /// Version text for `/server_info`.
    pub version: String,
}

impl ProxyOptions {
    /// Defaults with a bootstrap.
    pub fn new(bootstrap: Bootstrap) -> Self {
        ProxyOptions { bootstrap, concurrency: 0, drain_time: DRAIN_DEFAULT, handle_signals: true, version: env!("CARGO_PKG_VERSION").into() }
    }
}

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A resource of the bootstrap was refused.
    #[error("bootstrap: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// The admin address is taken or invalid.
    #[error("admin interface: {0}")]
    Admin(std::io::Error),
    /// The system refused a thread or an event loop.
    #[error("cannot start threads: {0}")]
    System(#[from] std::io::Error),
    /// The main thread ended while starting.
    #[error("the proxy ended while starting; its log says why")]
    Ended,
}

/// A running proxy.
#[derive(Debug)]
pub struct Running {
    quit: watch::Sender<bool>,
    admin: Option<SocketAddr>,
    listening: Vec<(String, SocketAddr)>,
    main: Option<JoinHandle<()>>,
}

impl Running {
    /// Asks it to end: stop accepting, let connections finish for at most the drain time, stop.
    pub fn shutdown(&self) {
        self.quit.send_replace(true);
    }

    /// [`Running::shutdown`] to be kept by somebody else while this value is being waited on.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let quit = self.quit.clone();
        move || {
            quit.send_replace(true);
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) {
        if let Some(main) = self.main.take() {
            let _ = main.join();
        }
    }

    /// Address of the admin interface.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Addresses of the bootstrap's listeners, by name, as they were bound at the start.
    pub fn listening(&self) -> &[(String, SocketAddr)] {
        &self.listening
    }
}

/// Starts a proxy on threads of its own and returns once the bootstrap's listeners accept.
///
/// # Errors
/// [`StartError`].
pub fn run(options: ProxyOptions) -> Result<Running, StartError> {
    let (quit, quitting) = watch::channel(false);
    let (ready, started) = std::sync::mpsc::channel();
    let ender = quit.clone();
    let main = std::thread::Builder::new().name("lateen-main".into()).stack_size(2 * WORKER_STACK_BYTES).spawn(move || main_thread(options, ender, quitting, &ready))?;
    match started.recv() {
        Ok(Ok(started)) => Ok(Running { quit, admin: started.admin, listening: started.listening, main: Some(main) }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Ended),
    }
}

struct Started {
    admin: Option<SocketAddr>,
    listening: Vec<(String, SocketAddr)>,
}

type StartResult = Result<Started, StartError>;

fn main_thread(options: ProxyOptions, quit: watch::Sender<bool>, quitting: watch::Receiver<bool>, ready: &std::sync::mpsc::Sender<StartResult>) {
    // Few blocking threads: they only resolve names.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error.into()));
            return;
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, serve(options, quit, quitting, ready));
}

async fn serve(options: ProxyOptions, quit: watch::Sender<bool>, mut quitting: watch::Receiver<bool>, ready: &std::sync::mpsc::Sender<StartResult>) {
    let handle_signals = options.handle_signals;
    let (server, threads) = match start(options, quit).await {
        Ok(started) => started,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let admin = match admin::start(&server) {
        Ok(admin) => admin,
        Err(error) => {
            let _ = ready.send(Err(StartError::Admin(error)));
            return;
        }
    };
    let dial = upstream_defaults(&server.bootstrap);
    let xds = tokio::task::spawn_local(xds::run(Rc::clone(&server), dial));
    if let Some(limit) = server.bootstrap.ads.as_ref().and_then(|ads| ads.initial_fetch_timeout) {
        let server = Rc::downgrade(&server);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(limit).await;
            if let Some(server) = server.upgrade() {
                server.stop_awaiting();
            }
        });
    }
    let upkeep = tokio::task::spawn_local(cluster::upkeep::run(Rc::clone(&server)));
    let listening = server.listening().into_iter().map(|(name, address)| (name.to_string(), address)).collect();
    let _ = ready.send(Ok(Started { admin, listening }));
    tokio::select! {
        _ = quitting.wait_for(|quit| *quit) => {}
        () = terminated(), if handle_signals => {}
    }
    tracing::info!("draining");
    server.drain();
    let deadline = Instant::now() + server.drain_time;
    while Instant::now() < deadline && server.ask(|worker| worker.connections_open()).await.into_iter().sum::<usize>() > 0 {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    xds.abort();
    upkeep.abort();
    server.stop_workers();
    drop(server);
    for thread in threads {
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

/// Between two looks at whether all connections have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals cannot be watched; end the proxy by its admin interface");
            std::future::pending().await
        }
    }
}

/// Starts the workers and puts the bootstrap's resources in force.
async fn start(options: ProxyOptions, quit: watch::Sender<bool>) -> Result<(Rc<Server>, Vec<JoinHandle<()>>), StartError> {
    let origin = Instant::now();
    let registry = Arc::<Registry>::default();
    let log = LogWriter::start()?;
    let (configs, _) = watch::channel(Arc::new(Config::default()));
    let worker_options = WorkerOptions { upstream: upstream_defaults(&options.bootstrap), drain_time: options.drain_time, own: Arc::new(OwnNode::of(&options.bootstrap.node())) };
    let count = if options.concurrency == 0 { CONCURRENCY_DEFAULT } else { options.concurrency };
    let (mut workers, mut threads) = (Vec::new(), Vec::new());
    for index in 0..count {
        let (mailbox, messages) = mpsc::channel(MESSAGES_MAX);
        let seed = Seed { index, options: worker_options.clone(), registry: Arc::clone(&registry), log: log.clone(), origin, configs: configs.subscribe(), messages };
        threads.push(std::thread::Builder::new().name(format!("lateen-wrk-{index}")).stack_size(WORKER_STACK_BYTES).spawn(move || worker_thread(seed))?);
        workers.push(mailbox);
    }
    let server = Server::new(Parts {
        bootstrap: options.bootstrap,
        workers,
        configs,
        registry,
        log,
        version: options.version,
        drain_time: options.drain_time,
        started: origin,
        quit,
    });
    apply_static(&server)?;
    Ok((server, threads))
}

struct Seed {
    index: usize,
    options: WorkerOptions,
    registry: Arc<Registry>,
    log: LogWriter,
    origin: Instant,
    configs: watch::Receiver<Arc<Config>>,
    messages: mpsc::Receiver<Message>,
}

fn worker_thread(seed: Seed) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(worker = seed.index, %error, "worker has no event loop");
            return;
        }
    };
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async move {
        let worker = Worker::new(seed.index, seed.options, seed.registry, LogSink::new(seed.log), seed.origin);
        worker.run(seed.messages, seed.configs).await;
    });
}

/// Source address, mark and keep-alive of upstream connections, from `cluster_manager.upstream_bind_config`.
fn upstream_defaults(bootstrap: &Bootstrap) -> DialOptions {
    bootstrap.upstream_bind().map(|bind| cluster::connect::from_bind(&bind)).unwrap_or_default()
}

/// The bootstrap's own resources, in xDS's order.
fn apply_static(server: &Rc<Server>) -> Result<(), StartError> {
    use lateen_envoy_api::pack;
    let Some(resources) = server.bootstrap.message.static_resources.clone() else {
        server.publish();
        return Ok(());
    };
    let mut refused = Vec::new();
    let mut take = |type_url: &str, added: Vec<Item>| {
        if !added.is_empty() {
            let change = Change { type_url: type_url.to_owned(), added, removed: Vec::new(), source: SdsSource::Static, is_static: true };
            refused.extend(server.apply(&change).into_iter().map(|r| r.why));
        }
    };
    let item = |name: &str, body| Item { name: name.to_owned(), version: String::new(), body };
    take(lateen_xds::types::SECRET, resources.secrets.iter().map(|s| item(&s.name, pack(s))).collect());
    take(lateen_xds::types::CLUSTER, resources.clusters.iter().map(|c| item(&c.name, pack(c))).collect());
    take(lateen_xds::types::LISTENER, resources.listeners.iter().enumerate().map(|(i, l)| item(&bootstrap::listener_name(l, i), pack(l))).collect());
    if refused.is_empty() { Ok(()) } else { Err(StartError::Refused(refused)) }
}
