//! The agent beside each proxy, pilot-agent's role: identity, secrets, the way to the control plane, bootstrap, status; then the proxy.
//!
//! ```text
//! control plane ◀─TLS, token─ identity ─▶ sds ──unix SDS──▶ proxy
//!               ◀─TLS, token─ relay ◀───────unix XDS─────── proxy
//! kubelet, Prometheus ─▶ status :15020 ─▶ proxy's admin, application
//! ```
//! - Reads: [`AgentOptions`]; token and root certificate files.
//! - Rule: the private key exists in memory only.
//! - Rule: everything comes up in any order; whoever is not there yet is waited for in short steps.
//! - Not here: interception rules and DNS (`local`), what the proxy does (`proxy`).

#![forbid(unsafe_code)]

mod bootstrap;
mod fetch;
mod identity;
mod options;
mod probes;
mod program;
mod relay;
pub mod schedule;
mod sds;
mod status;
mod upstream;

pub use bootstrap::bootstrap;
pub use options::{AgentOptions, AppMetrics, ProxyProgram, Role};

use lateen_base::{SpiffeId, names};
use lateen_xds::server::Xds;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use upstream::Upstream;

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The runtime or a signal handler could not be set up.
    #[error("starting the agent: {0}")]
    Start(io::Error),
    /// A file or socket in the proxy's folder.
    #[error("{path}: {error}; the agent needs a folder of its own that it can write to")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The status port is taken.
    #[error("listening on {address}: {error}; the application must not use this port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The application's probes are unreadable.
    #[error("ISTIO_KUBE_APP_PROBERS: {0}; it is written by sidecar injection")]
    Probes(serde_json::Error),
    /// The embedded proxy could not start or ended by itself.
    #[error("proxy: {0}")]
    Proxy(String),
}

/// Runs the agent and its proxy until SIGTERM, SIGINT or `POST /quitquitquit`; then drains and returns.
///
/// # Errors
/// [`AgentError`] when it cannot start, or when the embedded proxy ends by itself.
pub fn run(options: AgentOptions) -> Result<(), AgentError> {
    // One thread serves the agent: it handles a few messages an hour and must stay small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build().map_err(AgentError::Start)?;
    let result = runtime.block_on(serve(options));
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn serve(options: AgentOptions) -> Result<(), AgentError> {
    let mut term = signal(SignalKind::terminate()).map_err(AgentError::Start)?;
    let mut int = signal(SignalKind::interrupt()).map_err(AgentError::Start)?;
    let dir = &options.proxy_dir;
    std::fs::create_dir_all(dir).map_err(|error| AgentError::File { path: dir.clone(), error })?;
    let upstream = Upstream::new(&options);
    let (identities, identity) = watch::channel(None);

    let sds = unix_listener(&dir.join(names::SDS_SOCKET))?;
    let xds = unix_listener(&dir.join(names::XDS_SOCKET))?;
    let bootstrap_path = dir.join(names::BOOTSTRAP_FILE);
    write_bootstrap(&bootstrap_path, &options)?;
    let quit = Arc::new(Notify::new());
    let status = status_server(&options, identity.clone(), Arc::clone(&quit)).await?;

    let id = SpiffeId::new(&options.trust_domain, &options.namespace, &options.service_account);
    tokio::spawn(identity::keep(upstream.clone(), id, options.certificate_ttl, identities));
    tokio::spawn(relay::serve(xds, upstream));
    tokio::spawn(serve_sds(sds, identity));
    tokio::spawn(status);
    tokio::spawn(announce_ready(options.admin_port, options.mark));

    let (stop, stopping) = watch::channel(false);
    let proxy = run_proxy(options, bootstrap_path, stopping);
    tokio::pin!(proxy);
    tokio::select! {
        ended = &mut proxy => return ended,
        _ = term.recv() => {}
        _ = int.recv() => {}
        () = quit.notified() => {}
    }
    tracing::info!("draining the proxy");
    stop.send_replace(true);
    proxy.await
}

async fn serve_sds(listener: UnixListener, identity: watch::Receiver<Option<Arc<identity::Identity>>>) {
    let xds = Xds::new(Arc::new(sds::Secrets::new(identity)));
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let served = tonic::transport::Server::builder().add_service(xds.secrets()).add_service(xds.aggregated()).serve_with_incoming(incoming).await;
    if let Err(error) = served {
        tracing::error!(%error, "the SDS socket is no longer served; the proxy will miss the next certificate");
    }
}

async fn status_server(
    options: &AgentOptions,
    identity: watch::Receiver<Option<Arc<identity::Identity>>>,
    stop: Arc<Notify>,
) -> Result<impl Future<Output = ()> + use<>, AgentError> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.status_port));
    let listener = TcpListener::bind(address).await.map_err(|error| AgentError::Listen { address, error })?;
    let probes =
        probes::Probes::parse(options.app_probers.as_deref(), options.pod_ips.first().copied(), options.mark).map_err(AgentError::Probes)?;
    let pages = status::pages(Arc::new(status::Status {
        admin_port: options.admin_port,
        mark: options.mark,
        app_metrics: options.app_metrics.clone(),
        probes,
        identity,
        stop,
        scrapes: AtomicU64::new(0),
        app_scrapes_failed: AtomicU64::new(0),
    }));
    Ok(async move {
        if let Err(error) = axum::serve(listener, pages).await {
            tracing::error!(%error, "the status port is no longer served");
        }
    })
}

/// Writes one line when the proxy first has its configuration; scripts wait for it.
async fn announce_ready(admin_port: u16, mark: bool) {
    while status::proxy_ready(admin_port, mark).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tracing::info!("Envoy proxy is ready");
}

async fn run_proxy(options: AgentOptions, bootstrap: PathBuf, stop: watch::Receiver<bool>) -> Result<(), AgentError> {
    match options.program {
        ProxyProgram::Embedded => run_embedded(options, bootstrap, stop).await,
        ProxyProgram::Envoy(path) => {
            let AgentOptions { concurrency, admin_port, mark, drain, .. } = options;
            program::Envoy { path, bootstrap, concurrency, admin_port, mark, drain }.keep(stop).await;
            Ok(())
        }
    }
}

/// Our proxy on threads of its own. If it ends unasked the agent ends too, and whoever runs the pod starts both again.
async fn run_embedded(options: AgentOptions, bootstrap: PathBuf, mut stop: watch::Receiver<bool>) -> Result<(), AgentError> {
    let failed = |reason: String| AgentError::Proxy(reason);
    let bootstrap = lateen_proxy::bootstrap::Bootstrap::from_file(&bootstrap).map_err(|e| failed(e.to_string()))?;
    let mut proxy = lateen_proxy::ProxyOptions::new(bootstrap);
    proxy.concurrency = options.concurrency;
    proxy.drain_time = options.drain;
    proxy.handle_signals = false;
    let starting = tokio::task::spawn_blocking(move || lateen_proxy::run(proxy));
    let running = starting.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
    let end = running.stopper();
    let mut waiting = tokio::task::spawn_blocking(move || running.wait());
    tokio::select! {
        _ = &mut waiting => return Err(failed("it ended by itself; its log says why".to_owned())),
        _ = stop.wait_for(|s| *s) => end(),
    }
    waiting.await.map_err(|e| failed(e.to_string()))
}

/// A fresh socket at `path`; one left by a crashed agent is replaced.
fn unix_listener(path: &Path) -> Result<UnixListener, AgentError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(AgentError::File { path: path.to_owned(), error }),
        Ok(()) | Err(_) => {}
    }
    UnixListener::bind(path).map_err(|error| AgentError::File { path: path.to_owned(), error })
}

fn write_bootstrap(path: &Path, options: &AgentOptions) -> Result<(), AgentError> {
    let text = format!("{:#}\n", bootstrap(options));
    std::fs::write(path, text).map_err(|error| AgentError::File { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests;
