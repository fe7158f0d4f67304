//! The control plane: istiod's role. Watches the store, compiles for each connected proxy, pushes, and issues certificates.
//!
//! ```text
//! store ─watch─▶ world (debounce, Snapshot) ─▶ hub ─compile per proxy─▶ xds::server ─▶ proxies
//! CreateCertificate ─▶ auth ─▶ certificates ─▶ ca
//! ```
//! - Reads: the object store over its unix socket; proxies' requests.
//! - Twin: `proxy/src/xds.rs`.
//! - Rule: no push before the first complete snapshot; the last good state is served whatever happens to the store.
//! - Rule: a change is in force within `debounce_max` plus the time to compile.
//! - Not here: what objects mean (`kinds`), what is sent (`compile`), the protocol (`xds`).

#![forbid(unsafe_code)]

mod auth;
mod certificates;
mod debug;
mod hub;
mod metrics;
mod options;
mod report;
mod tls;
mod world;

pub use options::ControlOptions;

use auth::Authenticator;
use certificates::Certificates;
use hub::{Hub, HubApplication};
use lateen_base::names;
use lateen_ca::{Authority, CaError, TokenVerifier};
use lateen_xds::r#gen::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use lateen_xds::server::Xds;
use metrics::Metrics;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Lifetime of the control plane's own certificate; it is renewed at half of it.
const SERVER_TTL: Duration = Duration::from_secs(24 * 3600);
/// Threads that serve proxies; compilation has its own.
const SERVING_THREADS: usize = 2;

/// Why the control plane could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The runtime or a thread could not be started.
    #[error("starting the control plane: {0}")]
    Start(std::io::Error),
    /// A port is taken or not ours.
    #[error("listening on {address}: {error}; free the port or choose another")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The certificate authority cannot be used.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// The token verification key cannot be used.
    #[error("token public key {path}: {reason}")]
    TokenKey {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// TLS could not be set up.
    #[error("control plane TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A server ended by itself.
    #[error("serving {0}")]
    Serve(String),
}

/// Runs the control plane until SIGTERM or SIGINT.
///
/// # Errors
/// [`ControlError`] when it cannot start, or when a server ends by itself.
pub fn run(options: ControlOptions) -> Result<(), ControlError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SERVING_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(ControlError::Start)?;
    let result = runtime.block_on(serve_until_signal(options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve_until_signal(options: ControlOptions) -> Result<(), ControlError> {
    let mut term = signal(SignalKind::terminate()).map_err(ControlError::Start)?;
    let mut int = signal(SignalKind::interrupt()).map_err(ControlError::Start)?;
    let (stop, stopped) = watch::channel(false);
    let serving = serve(options, stopped);
    tokio::pin!(serving);
    tokio::select! {
        result = &mut serving => return result,
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    // Streams of connected proxies do not end by themselves; a proxy reconnects, so it is not waited for.
    tokio::time::timeout(Duration::from_millis(500), serving).await.unwrap_or(Ok(()))
}

/// Runs the control plane until `stop` becomes true.
///
/// # Errors
/// As [`run`].
pub async fn serve(options: ControlOptions, stop: watch::Receiver<bool>) -> Result<(), ControlError> {
    let started = Instant::now();
    let metrics = Arc::new(Metrics::default());
    let authority = Arc::new(authority(&options)?);
    #[expect(clippy::cast_precision_loss, reason = "a point in time in seconds")]
    let expiry = authority.root_not_after().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs() as f64);
    metrics.set("citadel_server_root_cert_expiry_timestamp", "", expiry);
    let authenticator = Arc::new(Authenticator::new(token_verifier(&options)?, options.trust_domain.clone()));
    let hub = Hub::start(Arc::clone(&authenticator), Arc::clone(&metrics)).map_err(ControlError::Start)?;

    let slot = Arc::new(tls::CertificateSlot::default());
    let renewal = renew_at(&authority, &slot, &options)?;
    let tls = tls::server_config(Arc::clone(&slot), authority.root_pem())?;

    // All ports are taken before anything is served: a clash is an error at the start, not a half-working control plane.
    let plaintext = listen(options.xds_plaintext).await?;
    let secure = listen(options.xds_tls).await?;
    let debug_port = listen(options.debug).await?;
    let ready_port = listen(options.ready).await?;

    let pages = debug::Debug { hub: Arc::clone(&hub), metrics: Arc::clone(&metrics), started };
    let grpc = Grpc { hub: Arc::clone(&hub), authority: Arc::clone(&authority), authenticator, metrics: Arc::clone(&metrics) };
    // A task of its own, because building a snapshot keeps its thread busy.
    let world = tokio::spawn(world::follow(options.clone(), Arc::clone(&hub), metrics));
    let renewing = keep_renewing(renewal, authority, slot, options);
    tracing::info!("control plane serving");
    tokio::select! {
        result = grpc.serve(plaintext, None, stop.clone()) => result,
        result = grpc.serve(secure, Some(tls), stop.clone()) => result,
        result = axum::serve(debug_port, debug::pages(pages.clone())) => result.map_err(|e| ControlError::Serve(e.to_string())),
        result = axum::serve(ready_port, debug::readiness(pages)) => result.map_err(|e| ControlError::Serve(e.to_string())),
        _ = world => Err(ControlError::Serve("the store watch ended".to_owned())),
        () = renewing => Err(ControlError::Serve("certificate renewal ended".to_owned())),
        () = stopped(stop.clone()) => Ok(()),
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A dropped sender means the same as a sent `true`.
    let _ = stop.wait_for(|s| *s).await;
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ControlError> {
    TcpListener::bind(address).await.map_err(|error| ControlError::Listen { address, error })
}

fn authority(options: &ControlOptions) -> Result<Authority, ControlError> {
    let mut authority = Authority::open(&options.state_dir, &options.trust_domain, SystemTime::now())?;
    authority.ttl_default = options.cert_ttl;
    Ok(authority)
}

fn token_verifier(options: &ControlOptions) -> Result<TokenVerifier, ControlError> {
    let fail = |reason: String| ControlError::TokenKey { path: options.token_public_key.display().to_string(), reason };
    let key = std::fs::read_to_string(&options.token_public_key).map_err(|e| fail(e.to_string()))?;
    TokenVerifier::new(&key, names::TOKEN_AUDIENCE).map_err(|e| fail(e.to_string()))
}

/// Issues a server certificate, puts it in use, and says how long until the next one is due.
fn renew_at(authority: &Authority, slot: &tls::CertificateSlot, options: &ControlOptions) -> Result<Duration, ControlError> {
    let now = SystemTime::now();
    let certificate = authority.server(&options.server_names, SERVER_TTL, now)?;
    slot.put(&certificate)?;
    Ok(certificate.not_after.duration_since(now).unwrap_or_default() / 2)
}

async fn keep_renewing(first: Duration, authority: Arc<Authority>, slot: Arc<tls::CertificateSlot>, options: ControlOptions) {
    let mut wait = first;
    loop {
        tokio::time::sleep(wait.max(Duration::from_secs(1))).await;
        wait = renew_at(&authority, &slot, &options).unwrap_or_else(|error| {
            tracing::error!(%error, "renewing the control plane's certificate; trying again in a minute");
            Duration::from_secs(60)
        });
    }
}

/// What both gRPC ports serve.
struct Grpc {
    hub: Arc<Hub>,
    authority: Arc<Authority>,
    authenticator: Arc<Authenticator>,
    metrics: Arc<Metrics>,
}

impl Grpc {
    async fn serve(&self, listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, stop: watch::Receiver<bool>) -> Result<(), ControlError> {
        let xds = Xds::new(Arc::new(HubApplication(Arc::clone(&self.hub))));
        let certificates = Certificates {
            authority: Arc::clone(&self.authority),
            authenticator: Arc::clone(&self.authenticator),
            metrics: Arc::clone(&self.metrics),
        };
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .add_service(xds.aggregated())
            .add_service(xds.secrets())
            .add_service(IstioCertificateServiceServer::new(certificates))
            .serve_with_incoming_shutdown(tls::accept(listener, tls), stopped(stop))
            .await
            .map_err(|e| ControlError::Serve(e.to_string()))
    }
}
