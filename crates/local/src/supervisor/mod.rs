//! The supervisor: process 1 of the sandbox. Holds the store, runs the controllers, serves names, addresses and sockets.
//!
//! - Rule: ends when the host stage does, and then the kernel ends everything in the sandbox.
//! - Rule: the mesh starts as fast as its parts: pods start side by side, and readiness is asked for, not waited for.

mod admission;
mod api;
mod builtin;
mod controllers;
mod dns;
mod egress;
mod exec;
mod files;
mod findings;
mod host_link;
mod ingress;
mod interception;
mod logs;
mod network;
mod page;
pub(crate) mod pod;
mod summary;
mod tokens;

use crate::channel::Start;
use crate::options::Hooks;
use crate::state_dir;
use files::Files;
use findings::Board;
use host_link::HostLink;
use lateen_base::{names, ports};
use lateen_store::{Key, Store, timestamp};
use lateen_sys::process::Reaper;
use lateen_sys::{mount, sandbox};
use network::Network;
use pod::PodRun;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokens::TokenIssuer;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

/// What everything in the supervisor shares.
pub(crate) struct Context {
    pub(crate) start: Start,
    pub(crate) hooks: Hooks,
    pub(crate) store: Store,
    pub(crate) reaper: Reaper,
    pub(crate) network: Network,
    pub(crate) host: Arc<HostLink>,
    pub(crate) findings: Board,
    pub(crate) tokens: TokenIssuer,
    /// The mesh's root certificate, PEM.
    pub(crate) root_cert: String,
    /// Becomes true when everything has to stop.
    pub(crate) stop: watch::Sender<bool>,
    /// Starts a round of the controllers.
    pub(crate) wake: Notify,
    pods: Mutex<HashMap<Key, Arc<PodRun>>>,
}

/// Worker threads: most of the time nothing runs at all.
const THREADS: usize = 2;
/// Threads for what blocks: preparing pods side by side, reading files.
const BLOCKING_THREADS: usize = 8;
/// They are needed for moments only, and each keeps some memory.
const BLOCKING_IDLE: Duration = Duration::from_millis(200);

/// Runs the supervisor in a fresh sandbox, whose channel to the host stage is standard input.
pub(crate) fn run(hooks: Hooks) -> ExitCode {
    match run_in_sandbox(hooks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("supervisor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_in_sandbox(hooks: Hooks) -> io::Result<()> {
    let words = |action| move |error: io::Error| io::Error::other(sandbox::explain(action, error).to_string());
    mount::make_private().map_err(words("make mounts private"))?;
    if let Err(error) = mount::proc() {
        // Inside a container that hides parts of /proc. The outer /proc still tells processes about themselves.
        eprintln!("no fresh /proc ({error}); programs see the machine's processes");
    }
    nix::unistd::sethostname(pod::environment::NODE_NAME)?;
    let channel = take_channel()?;
    let network = Network::create().map_err(words("set up the sandbox's network"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).max_blocking_threads(BLOCKING_THREADS).thread_keep_alive(BLOCKING_IDLE).enable_all().build()?;
    let result = runtime.block_on(serve(hooks, network, channel));
    // Reads of files that hang must not keep the sandbox alive.
    runtime.shutdown_background();
    result
}

/// Moves the channel away from standard input, which programs must not inherit.
fn take_channel() -> io::Result<OwnedFd> {
    let channel = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(channel)
}

async fn serve(hooks: Hooks, network: Network, channel: OwnedFd) -> io::Result<()> {
    let reaper = Reaper::default();
    reap(reaper.clone())?;
    let (stop, stopping) = watch::channel(false);
    let (host, start, listeners) = HostLink::open(channel, stop.clone()).await?;
    let folder = start.options.state_dir.clone();
    let authority = lateen_ca::Authority::open(&state_dir::ca_dir(&folder), names::TRUST_DOMAIN, SystemTime::now());
    let prepared = authority.map_err(|error| error.to_string()).and_then(|authority| Ok((authority, TokenIssuer::open(&folder).map_err(|e| e.to_string())?)));
    let (authority, tokens) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => {
            host.failed(reason).await;
            return Ok(());
        }
    };
    let context = Arc::new(Context {
        start,
        hooks,
        store: Store::new(SystemTime::now),
        reaper,
        network,
        findings: Board::new(Arc::clone(&host)),
        host,
        tokens,
        root_cert: authority.root_pem().to_owned(),
        stop,
        wake: Notify::new(),
        pods: Mutex::default(),
    });
    match bring_up(&context, listeners).await {
        Ok(()) => {}
        Err(reason) => {
            context.host.failed(reason).await;
            return Ok(());
        }
    }
    let announced = tokio::spawn(summary::announce(Arc::clone(&context)));
    controllers::run(Arc::clone(&context), stopping).await;
    announced.abort();
    Ok(())
}

/// Collects children as they end.
fn reap(reaper: Reaper) -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    tokio::spawn(async move {
        while ended.recv().await.is_some() {
            reaper.reap();
        }
    });
    Ok(())
}

/// Starts every server and fills the store.
async fn bring_up(context: &Arc<Context>, listeners: Vec<OwnedFd>) -> Result<(), String> {
    let folder = &context.start.options.state_dir;
    let named = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    api::start(context, &state_dir::api_socket(folder)).map_err(named("the API's socket"))?;
    exec::start(context, &state_dir::exec_socket(folder)).map_err(named("the socket of exec"))?;
    dns::start(context.store.clone(), Arc::clone(&context.host)).await.map_err(named("the DNS server"))?;
    egress::start(Arc::clone(&context.host)).await.map_err(named("egress"))?;
    publish(context, listeners).map_err(named("published ports"))?;
    for object in builtin::objects(&context.start.options) {
        context.create(object).map_err(|finding| finding.to_string())?;
    }
    let loading = Arc::clone(context);
    let loaded = tokio::task::spawn_blocking(move || Files::load(&loading)).await.map_err(|error| error.to_string())?;
    match loaded {
        Ok(files) if context.start.options.watch => files.watch().map_err(|error| format!("cannot watch the files: {error}; start with --no-watch to do without")),
        Ok(_) => Ok(()),
        Err(findings) => {
            let count = findings.iter().filter(|finding| finding.is_error()).count();
            for finding in findings {
                context.host.finding(finding).await;
            }
            Err(format!("{count} error{} in the files; nothing was started", if count == 1 { "" } else { "s" }))
        }
    }
}

/// Serves the host's listeners, which come in the order of `Published`.
fn publish(context: &Arc<Context>, listeners: Vec<OwnedFd>) -> io::Result<()> {
    let mut listeners = listeners.into_iter();
    let mut next = || listeners.next().ok_or_else(|| io::Error::other("a listener is missing"));
    ingress::start(context, next()?, ports::GATEWAY_HTTP)?;
    if context.start.ports.ingress_tls.is_some() {
        ingress::start(context, next()?, ports::GATEWAY_HTTPS)?;
    }
    page::start(context, next()?)
}

impl Context {
    /// The time, as objects carry it.
    pub(crate) fn now(&self) -> String {
        timestamp(SystemTime::now())
    }

    /// A number below `bound`, or 0.
    pub(crate) fn random(&self, bound: usize) -> usize {
        if bound == 0 { 0 } else { fastrand::usize(..bound) }
    }

    /// So many random letters for a name.
    pub(crate) fn random_name(&self, letters: usize) -> String {
        let alphabet: Vec<char> = controllers::deployment::SAFE_LETTERS.chars().collect();
        (0..letters).filter_map(|_| alphabet.get(self.random(alphabet.len()))).collect()
    }

    /// Folder of the containers' output.
    pub(crate) fn logs_dir(&self) -> PathBuf {
        state_dir::logs_dir(&self.start.options.state_dir)
    }

    fn register(&self, run: &Arc<PodRun>) {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).insert(run.key.clone(), Arc::clone(run));
    }

    fn unregister(&self, run: &Arc<PodRun>) {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).remove(&run.key);
    }

    /// A running pod.
    pub(crate) fn running(&self, key: &Key) -> Option<Arc<PodRun>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Finds the keys and values of a ConfigMap or Secret in a namespace.
    pub(crate) fn find(&self, kind: &'static str, namespace: &str) -> impl Fn(&str) -> Option<BTreeMap<String, Vec<u8>>> {
        let (store, namespace) = (self.store.clone(), namespace.to_owned());
        move |name| store.get(&Key::new("v1", kind, &namespace, name)).map(|object| keys_and_values(&object))
    }
}

/// `data` as text (ConfigMap) or base64 (Secret), `stringData`, `binaryData`.
fn keys_and_values(object: &Value) -> BTreeMap<String, Vec<u8>> {
    let is_secret = object["kind"] == "Secret";
    let mut values = BTreeMap::new();
    for (field, encoded) in [("data", is_secret), ("binaryData", true), ("stringData", false)] {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            let bytes = if encoded { base64(text).unwrap_or_default() } else { text.as_bytes().to_vec() };
            values.insert(key.clone(), bytes);
        }
    }
    values
}

/// Decodes base64 (RFC 4648 §4); `None` for anything else. Line breaks are passed over, as YAML brings them.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_decoded_and_config_maps_are_not() {
        assert_eq!(keys_and_values(&json!({"kind": "Secret", "data": {"a": "aGVsbG8="}, "stringData": {"b": "x"}}))["a"], b"hello");
        assert_eq!(keys_and_values(&json!({"kind": "ConfigMap", "data": {"a": "aGVsbG8="}}))["a"], b"aGVsbG8=");
    }

    #[test]
    fn base64_of_every_length_is_decoded() {
        assert_eq!(base64("").unwrap(), b"");
        assert_eq!([base64("Zg==").unwrap(), base64("Zm8=").unwrap(), base64("Zm9v").unwrap()], [b"f".to_vec(), b"fo".to_vec(), b"foo".to_vec()]);
        assert_eq!(base64("%"), None);
    }
}
