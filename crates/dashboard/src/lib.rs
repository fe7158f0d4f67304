//! The live page of a mesh: who calls whom, how often, how fast, how safely.
//!
//! - Reads: pods and findings from [`Facts`]; each sidecar's Prometheus metrics on its port 15090.
//! - Rule: the page is one self-contained answer; it loads nothing from anywhere else.
//! - Rule: sidecars are scraped only while somebody looks.
//! - Limits: [`graph::EDGES_MAX`] edges and [`sampler::WINDOW`] samples are kept; nothing grows with time.
//! - Not here: where pods and findings come from (`local`).
#![forbid(unsafe_code)]

mod graph;
mod metrics;
mod page;
mod sampler;
mod scrape;

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures::Stream;
use http::header;
use lateen_base::Finding;
use serde::Serialize;

use sampler::Sampler;

/// One pod, as the page shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Deployment (or other owner) without the hash, as in the metric label `destination_workload`.
    pub workload: String,
    /// Canonical service: label `service.istio.io/canonical-name`, `app.kubernetes.io/name` or `app`, else the workload.
    pub app: String,
    /// Canonical revision: label `service.istio.io/canonical-revision`, `app.kubernetes.io/version` or `version`, else `latest`.
    pub version: String,
    /// Address; `None` before it has one.
    pub ip: Option<IpAddr>,
    /// Whether all its containers are ready.
    pub ready: bool,
    /// Status as `lateen ps` shows it.
    pub status: String,
    /// Containers ready, such as `2/2`.
    pub containers: String,
    /// Restarts of all containers.
    pub restarts: u32,
    /// Seconds since its creation.
    pub age_seconds: u64,
    /// Whether it has a sidecar.
    pub injected: bool,
    /// Whether it is a gateway: a proxy without an application.
    pub gateway: bool,
}

/// Where the page gets what it shows besides traffic. Called about once a second while somebody looks; must not block.
pub trait Facts: Send + Sync + 'static {
    /// The mesh's name.
    fn mesh(&self) -> String;
    /// All pods.
    fn pods(&self) -> Vec<Pod>;
    /// What is wrong at the moment.
    fn problems(&self) -> Vec<Finding>;
    /// URL of the ingress gateway on the host, such as `http://127.0.0.1:8080`.
    fn gateway_url(&self) -> Option<String>;
}

/// The page and its interface: `GET /`, `/api/graph` (JSON), `/api/live` (server-sent events, one a second).
///
/// Must be called inside a tokio runtime: it starts the task that samples.
pub fn router(facts: Arc<dyn Facts>) -> Router {
    let sampler = Sampler::start(facts);
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{name}", get(page::asset))
        .route("/favicon.ico", get(page::icon))
        .route("/api/graph", get(current))
        .route("/api/live", get(live))
        .with_state(sampler)
}

async fn current(State(sampler): State<Arc<Sampler>>) -> impl IntoResponse {
    let text = sampler.fresh().await;
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text.as_str().to_owned())
}

async fn live(State(sampler): State<Arc<Sampler>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = sampler.subscribe();
    let events = futures::stream::unfold((receiver, true), |(mut receiver, first)| async move {
        if !first && receiver.changed().await.is_err() {
            return None;
        }
        let text = Arc::clone(&receiver.borrow_and_update());
        Some((Ok(Event::default().data(text.as_str())), (receiver, false)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
