//! The hub: every connected proxy, what it was compiled, and how far it has come.
//!
//! - Reads: snapshots from [`world`](crate::world), a node's first request.
//! - Rule: nothing is pushed before the first complete snapshot; the last good snapshot stays in force whatever happens to the store.
//! - Rule: NAMESPACE and SERVICE_ACCOUNT of a node must be those of its authenticated identity; who is not authenticated gets no secrets.
//! - Rule: compilation runs on one thread of its own, so that a large push never delays acknowledgements.
//! - Limits: `PROXIES_MAX` connected proxies; `WAITING_MAX` proxies waiting for their first compilation.
//! - Locks: the table of proxies and each proxy's status, held for map operations only, never across an await.

use crate::auth::Authenticator;
use crate::metrics::Metrics;
use crate::tls::Caller;
use lateen_base::SpiffeId;
use lateen_envoy_api::envoy::config::core::v3::Node;
use lateen_mesh::{Proxy, Snapshot};
use lateen_xds::server::{Application, Connection, Observer, Peer, Push};
use lateen_xds::server_session::{Received, TypeStatus};
use lateen_xds::{Protocol, Response, Sets, types};
use prost::Message;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Instant, SystemTime};
use tokio::sync::{mpsc, watch};
use tonic::Status;

/// Proxies one control plane serves.
pub const PROXIES_MAX: usize = 20_000;
/// Proxies and changes that may wait for the compiling thread.
const WAITING_MAX: usize = 4096;

/// One complete state of the mesh.
#[derive(Clone)]
pub struct State {
    /// All objects.
    pub snapshot: Snapshot,
    /// Name of the state: time and counter.
    pub version: String,
    /// When the change that led to it was seen.
    pub changed_at: Instant,
}

/// One connected proxy.
pub struct Entry {
    /// Number of the stream.
    pub id: u64,
    /// Who asks.
    pub proxy: Proxy,
    /// Version the node reports of itself.
    pub version: String,
    /// Proven identity.
    pub identity: Option<SpiffeId>,
    /// Peer address.
    pub address: Option<SocketAddr>,
    /// Delta or state of the world.
    pub protocol: Protocol,
    /// When it connected.
    pub since: SystemTime,
    pushes: watch::Sender<Option<Arc<Push>>>,
    status: Mutex<BTreeMap<String, TypeStatus>>,
}

impl Entry {
    /// What the proxy is meant to have.
    #[must_use]
    pub fn push(&self) -> Option<Arc<Push>> {
        self.pushes.borrow().clone()
    }
    /// How each type stands.
    #[must_use]
    pub fn status(&self) -> BTreeMap<String, TypeStatus> {
        lock(&self.status).clone()
    }
}

enum Command {
    /// A proxy connected and has nothing yet.
    Connected(Weak<Entry>),
    /// A new state is in force.
    Changed,
}

/// See the module's head.
pub struct Hub {
    authenticator: Arc<Authenticator>,
    metrics: Arc<Metrics>,
    state: Mutex<Option<State>>,
    entries: Mutex<BTreeMap<u64, Arc<Entry>>>,
    next: AtomicU64,
    commands: mpsc::Sender<Command>,
}

impl Hub {
    /// A hub without a state, and its compiling thread, which ends with the last reference to the hub.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(authenticator: Arc<Authenticator>, metrics: Arc<Metrics>) -> std::io::Result<Arc<Self>> {
        let (commands, receiver) = mpsc::channel(WAITING_MAX);
        let hub = Arc::new(Self {
            authenticator,
            metrics,
            state: Mutex::new(None),
            entries: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(1),
            commands,
        });
        let weak = Arc::downgrade(&hub);
        std::thread::Builder::new().name("push".to_owned()).spawn(move || push_loop(&weak, receiver))?;
        Ok(hub)
    }

    /// Puts a state in force. Only complete states may be given.
    pub async fn publish(&self, state: State) {
        *lock(&self.state) = Some(state);
        self.metrics.add("pilot_push_triggers", "", 1);
        // An error means the compiling thread has ended, which happens only when the process does.
        let _ = self.commands.send(Command::Changed).await;
    }

    /// The state in force.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        lock(&self.state).clone()
    }

    /// All connected proxies.
    #[must_use]
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        lock(&self.entries).values().cloned().collect()
    }

    fn compile(&self, entry: &Entry, state: &State) {
        let started = Instant::now();
        let mut sets = sets(lateen_compile::compile(&state.snapshot, &entry.proxy));
        if entry.identity.is_none() {
            sets.insert(types::SECRET.to_owned(), BTreeMap::new());
        }
        self.metrics.observe("pilot_xds_push_time", started.elapsed());
        entry.pushes.send_replace(Some(Arc::new(Push { version: state.version.clone(), sets })));
        self.metrics.observe("pilot_proxy_convergence_time", state.changed_at.elapsed());
    }

    fn remove(&self, id: u64) {
        let mut entries = lock(&self.entries);
        entries.remove(&id);
        #[expect(clippy::cast_precision_loss, reason = "at most PROXIES_MAX")]
        self.metrics.set("pilot_xds", "", entries.len() as f64);
    }

    fn register(&self, entry: Entry) -> Result<Arc<Entry>, Status> {
        let entry = Arc::new(entry);
        let mut entries = lock(&self.entries);
        if entries.len() >= PROXIES_MAX {
            return Err(Status::resource_exhausted(format!("{PROXIES_MAX} proxies are connected; run another control plane")));
        }
        entries.insert(entry.id, Arc::clone(&entry));
        #[expect(clippy::cast_precision_loss, reason = "at most PROXIES_MAX")]
        self.metrics.set("pilot_xds", "", entries.len() as f64);
        Ok(entry)
    }
}

fn push_loop(hub: &Weak<Hub>, mut commands: mpsc::Receiver<Command>) {
    while let Some(first) = commands.blocking_recv() {
        let mut all = false;
        let mut some = Vec::new();
        let mut next = Some(first);
        // Everything that waits is one push.
        while let Some(command) = next {
            match command {
                Command::Connected(entry) => some.push(entry),
                Command::Changed => all = true,
            }
            next = commands.try_recv().ok();
        }
        let Some(hub) = hub.upgrade() else { return };
        let Some(state) = hub.state() else { continue };
        if all {
            hub.entries().iter().for_each(|e| hub.compile(e, &state));
        } else {
            some.iter().filter_map(Weak::upgrade).for_each(|e| hub.compile(&e, &state));
        }
    }
}

/// The compiler's output by type URL. Every type is present: an empty one is served as "nothing".
fn sets(resources: lateen_compile::Resources) -> Sets {
    let convert = |set: BTreeMap<String, lateen_compile::Resource>| {
        set.into_iter().map(|(n, r)| (n, lateen_xds::Resource { version: r.version, body: r.body })).collect()
    };
    Sets::from([
        (types::CLUSTER.to_owned(), convert(resources.clusters)),
        (types::ENDPOINT.to_owned(), convert(resources.endpoints)),
        (types::LISTENER.to_owned(), convert(resources.listeners)),
        (types::ROUTE.to_owned(), convert(resources.routes)),
        (types::SECRET.to_owned(), convert(resources.secrets)),
        (types::NAME_TABLE.to_owned(), convert(resources.name_table)),
    ])
}

/// The hub as the xDS server sees it.
pub struct HubApplication(pub Arc<Hub>);

impl Application for HubApplication {
    fn connect(&self, peer: &Peer, node: &Node, protocol: Protocol) -> Result<Connection, Status> {
        let hub = &self.0;
        let identity = hub.authenticator.identify(&peer.metadata, &peer.extensions, SystemTime::now())?;
        let metadata = serde_json::to_value(node.metadata.clone().unwrap_or_default())
            .map_err(|e| Status::invalid_argument(format!("node metadata: {e}")))?;
        let mut proxy = Proxy::parse(&node.id, &node.user_agent_name, &metadata).map_err(|e| Status::invalid_argument(e.to_string()))?;
        if let Some(identity) = &identity {
            admit(&mut proxy, identity)?;
        }
        let version = metadata.get("ISTIO_VERSION").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let (pushes, receiver) = watch::channel(None);
        let entry = hub.register(Entry {
            id: hub.next.fetch_add(1, Ordering::Relaxed),
            proxy,
            version,
            identity,
            address: peer.extensions.get::<Caller>().and_then(|c| c.address),
            protocol,
            since: SystemTime::now(),
            pushes,
            status: Mutex::new(BTreeMap::new()),
        })?;
        tracing::info!(proxy = entry.proxy.id, authenticated = entry.identity.is_some(), "proxy connected");
        let observer = Watcher { hub: Arc::clone(hub), entry: Arc::clone(&entry) };
        hub.commands.try_send(Command::Connected(Arc::downgrade(&entry))).map_err(|_| Status::resource_exhausted("too many proxies are connecting; try again"))?;
        Ok(Connection { pushes: receiver, observer: Box::new(observer) })
    }
}

/// A node may only speak for the identity it proved.
fn admit(proxy: &mut Proxy, identity: &SpiffeId) -> Result<(), Status> {
    if proxy.namespace != identity.namespace {
        return Err(Status::permission_denied(format!("node says namespace {:?}, its identity is {identity}", proxy.namespace)));
    }
    if proxy.service_account.is_empty() {
        proxy.service_account.clone_from(&identity.service_account);
    }
    if proxy.service_account != identity.service_account {
        return Err(Status::permission_denied(format!("node says service account {:?}, its identity is {identity}", proxy.service_account)));
    }
    Ok(())
}

/// Follows one stream; removes its entry when the stream ends.
struct Watcher {
    hub: Arc<Hub>,
    entry: Arc<Entry>,
}

impl Observer for Watcher {
    fn received(&mut self, type_url: &str, received: &Received) {
        let short = types::short(type_url).to_lowercase();
        match received {
            Received::Nacked(error) => {
                tracing::warn!(proxy = self.entry.proxy.id, r#type = short, %error, "configuration refused by the proxy; it keeps the last good one");
                self.hub.metrics.add("pilot_total_xds_rejects", &format!("type=\"{short}\""), 1);
            }
            Received::Stale => self.hub.metrics.add("pilot_xds_expired_nonce", &format!("type=\"{short}\""), 1),
            Received::Refused(reason) => tracing::warn!(proxy = self.entry.proxy.id, reason, "xDS stream refused"),
            Received::Subscribed | Received::Acked => {}
        }
    }

    fn sent(&mut self, response: &Response) {
        let labels = format!("type=\"{}\"", types::short(response.type_url()).to_lowercase());
        self.hub.metrics.add("pilot_xds_pushes", &labels, 1);
        let bytes = match response {
            Response::Delta(r) => r.encoded_len(),
            Response::Sotw(r) => r.encoded_len(),
        };
        #[expect(clippy::cast_precision_loss, reason = "a message is below 2^53 bytes")]
        self.hub.metrics.set("pilot_xds_config_size_bytes", &labels, bytes as f64);
        tracing::debug!(proxy = self.entry.proxy.id, labels, resources = response.resources_len(), bytes, "pushed");
    }

    fn status(&mut self, status: BTreeMap<String, TypeStatus>) {
        *lock(&self.entry.status) = status;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        tracing::info!(proxy = self.entry.proxy.id, "proxy disconnected");
        self.hub.remove(self.entry.id);
    }
}

/// A lock whose holder cannot leave the map half-changed, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
