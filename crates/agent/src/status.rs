//! The status port: readiness, merged metrics, application probes, the order to stop.
//!
//! - Reads: the proxy's admin interface, the application, [`Identity`].
//! - Twin: `inject/src/probes.rs`.
//! - Rule: ready means the proxy has its first listeners and clusters; who asks gets the reason when it is not.
//! - Rule: a scrape never fails because of the application: its part is left out and counted.
//! - Limits: `PROXY_MAX` and `APP_MAX` per question.

use crate::fetch::{Ask, fetch};
use crate::identity::Identity;
use crate::options::AppMetrics;
use crate::probes::Probes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, body::Body};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};

/// Wait for the proxy's admin interface.
const PROXY_MAX: Duration = Duration::from_secs(1);
/// Wait for a scrape.
const SCRAPE_MAX: Duration = Duration::from_secs(5);
/// Content type of Prometheus' text form.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the pages read.
pub struct Status {
    /// Port of the proxy's admin interface.
    pub admin_port: u16,
    /// Whether sockets carry the mark.
    pub mark: bool,
    /// The application's own metrics.
    pub app_metrics: Option<AppMetrics>,
    /// The application's probes.
    pub probes: Probes,
    /// The certificate in use.
    pub identity: watch::Receiver<Option<Arc<Identity>>>,
    /// Told to stop.
    pub stop: Arc<Notify>,
    /// Scrapes answered.
    pub scrapes: AtomicU64,
    /// Scrapes of the application that failed.
    pub app_scrapes_failed: AtomicU64,
}

/// The pages of the status port.
pub fn pages(status: Arc<Status>) -> Router {
    Router::new()
        .route("/healthz/ready", get(ready))
        .route("/stats/prometheus", get(metrics))
        .route("/app-health/{container}/{probe}", get(probe))
        .route("/quitquitquit", post(quit))
        .with_state(status)
}

async fn ready(State(status): State<Arc<Status>>) -> Response {
    match proxy_ready(status.admin_port, status.mark).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("proxy is not ready: {reason}\n")).into_response(),
    }
}

/// Whether the proxy has its first configuration.
///
/// # Errors
/// Why not.
pub async fn proxy_ready(admin_port: u16, mark: bool) -> Result<(), String> {
    let ask = Ask::get(admin(admin_port), "/ready", mark, PROXY_MAX);
    let answer = fetch(&ask).await?;
    if answer.status.is_success() { Ok(()) } else { Err(String::from_utf8_lossy(&answer.body).trim().to_owned()) }
}

async fn metrics(State(status): State<Arc<Status>>) -> Response {
    status.scrapes.fetch_add(1, Ordering::Relaxed);
    let mut text = Vec::new();
    match fetch(&Ask::get(admin(status.admin_port), "/stats/prometheus", status.mark, SCRAPE_MAX)).await {
        Ok(answer) => text.extend_from_slice(&answer.body),
        Err(reason) => tracing::warn!(reason, "scraping the proxy"),
    }
    let mut app_type = None;
    if let Some(app) = &status.app_metrics {
        let ask = Ask::get(SocketAddr::from((Ipv4Addr::LOCALHOST, app.port)), &app.path, status.mark, SCRAPE_MAX);
        match fetch(&ask).await {
            Ok(answer) if answer.status.is_success() => {
                newline(&mut text);
                text.extend_from_slice(&answer.body);
                app_type = answer.content_type;
            }
            other => {
                status.app_scrapes_failed.fetch_add(1, Ordering::Relaxed);
                let reason = other.map_or_else(|e| e, |a| format!("answered {}", a.status));
                tracing::warn!(reason, "scraping the application; check the prometheus.io annotations");
            }
        }
    }
    newline(&mut text);
    text.extend_from_slice(own(&status).as_bytes());
    // OpenMetrics of an application would need its own framing; the parts we add are valid in the plain form only.
    let plain = app_type.is_none_or(|t| t.starts_with("text/plain"));
    ([(header::CONTENT_TYPE, if plain { TEXT } else { "text/plain" })], Body::from(text)).into_response()
}

/// The agent's own metrics.
fn own(status: &Status) -> String {
    let scrapes = status.scrapes.load(Ordering::Relaxed);
    let failed = status.app_scrapes_failed.load(Ordering::Relaxed);
    let left = status.identity.borrow().as_ref().map_or(0, |i| i.not_after.duration_since(SystemTime::now()).map_or(0, |d| d.as_secs()));
    format!(
        "# TYPE istio_agent_scrapes_total counter\nistio_agent_scrapes_total {scrapes}\n\
         # TYPE istio_agent_scrape_failures_total counter\nistio_agent_scrape_failures_total{{type=\"application\"}} {failed}\n\
         # TYPE istio_agent_cert_expiry_seconds gauge\nistio_agent_cert_expiry_seconds{{resource_name=\"default\"}} {left}\n"
    )
}

fn newline(text: &mut Vec<u8>) {
    if text.last().is_some_and(|b| *b != b'\n') {
        text.push(b'\n');
    }
}

async fn probe(State(status): State<Arc<Status>>, Path((container, probe)): Path<(String, String)>) -> Response {
    let path = format!("/app-health/{container}/{probe}");
    match status.probes.run(&path).await {
        Some(Ok(())) => StatusCode::OK.into_response(),
        Some(Err(reason)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")).into_response(),
        None => (StatusCode::NOT_FOUND, format!("no probe at {path}\n")).into_response(),
    }
}

async fn quit(State(status): State<Arc<Status>>) -> &'static str {
    status.stop.notify_one();
    "OK\n"
}

fn admin(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Serves `pages` on loopback and gives the port.
    async fn serve(pages: Router) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, pages).await });
        port
    }

    async fn agent(admin: Router, app: Option<Router>) -> SocketAddr {
        let (_, identity) = watch::channel(None);
        let app_metrics = match app {
            Some(app) => Some(AppMetrics { port: serve(app).await, path: "/m".to_owned() }),
            None => None,
        };
        let status = Status {
            admin_port: serve(admin).await,
            mark: false,
            app_metrics,
            probes: Probes::default(),
            identity,
            stop: Arc::new(Notify::new()),
            scrapes: AtomicU64::new(0),
            app_scrapes_failed: AtomicU64::new(0),
        };
        SocketAddr::from((Ipv4Addr::LOCALHOST, serve(pages(Arc::new(status))).await))
    }

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let answer = fetch(&Ask::get(address, path, false, SCRAPE_MAX)).await.unwrap();
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_live_is_not_ready_and_says_why() {
        let admin = Router::new().route("/ready", axum::routing::get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "INITIALIZING\n") }));
        let address = agent(admin, None).await;
        assert_eq!(get(address, "/healthz/ready").await, (503, "proxy is not ready: INITIALIZING\n".to_owned()));
    }

    #[tokio::test]
    async fn metrics_of_proxy_application_and_agent_come_in_one_page() {
        let admin = Router::new().route("/stats/prometheus", axum::routing::get(|| async { "proxy_metric 1" }));
        let app = Router::new().route("/m", axum::routing::get(|| async { "app_metric 2\n" }));
        let (code, page) = get(agent(admin, Some(app)).await, "/stats/prometheus").await;
        assert_eq!(code, 200);
        for line in ["proxy_metric 1\n", "app_metric 2\n", "istio_agent_scrapes_total 1\n"] {
            assert!(page.contains(line), "{line:?} in {page}");
        }
    }

    #[tokio::test]
    async fn an_application_that_fails_is_counted_and_left_out() {
        let admin = Router::new().route("/stats/prometheus", axum::routing::get(|| async { "proxy_metric 1\n" }));
        let (code, page) = get(agent(admin, Some(Router::new())).await, "/stats/prometheus").await;
        assert!(code == 200 && page.contains("proxy_metric 1\n") && page.contains("istio_agent_scrape_failures_total{type=\"application\"} 1\n"), "{page}");
    }

    #[tokio::test]
    async fn an_unknown_probe_is_not_found() {
        assert_eq!(get(agent(Router::new(), None).await, "/app-health/a/livez").await.0, 404);
    }
}
