//! The mesh over HTTP on a unix socket: objects, watch, pods, logs.
//!
//! - Reads: HTTP/1.1 with JSON, from the control plane and from the command line.
//! - Twin: `source/src/watch.rs` and `cli/src/client.rs`, which call it.
//! - Rule: the file's permissions are the access control; whoever may connect may do everything.
//! - Limits: a body up to [`BODY_BYTES_MAX`]; a watcher that does not read is ended by the store.

use super::Context;
use super::logs::{LogReader, Run, file_of};
use super::pod::status;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream;
use lateen_base::{Finding, annotations};
use lateen_kube_api::Pod;
use lateen_store::{Event, Filter, Key, Selector, Watcher};
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;

/// A folder of YAML as JSON.
const BODY_BYTES_MAX: usize = 64 << 20;
/// How often a watcher hears that the connection lives.
const BOOKMARK: Duration = Duration::from_secs(10);
/// How often a followed log is looked at.
const FOLLOW: Duration = Duration::from_millis(50);

type Shared = State<Arc<Context>>;

/// Serves the socket until the supervisor ends.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn start(context: &Arc<Context>, socket: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    let router = Router::new()
        .route("/watch", get(watch))
        .route("/objects", get(objects))
        .route("/apply", post(apply))
        .route("/delete", post(delete))
        .route("/status", put(set_status))
        .route("/pods", get(pods))
        .route("/findings", get(findings))
        .route("/logs", get(logs))
        .route("/info", get(info))
        .route("/shutdown", post(shutdown))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::clone(context));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            eprintln!("API: {error}");
        }
    });
    Ok(())
}

fn refusal(status: StatusCode, text: impl Into<String>) -> Response {
    (status, Json(json!({"error": text.into()}))).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchQuery {
    resource_version: Option<u64>,
}

async fn watch(State(context): Shared, Query(query): Query<WatchQuery>) -> Response {
    let watcher = match query.resource_version {
        Some(version) => match context.store.watch_since(version) {
            Some(watcher) => watcher,
            None => return refusal(StatusCode::GONE, format!("version {version} is too old; watch without resourceVersion")),
        },
        None => context.store.watch(),
    };
    let mut head = String::new();
    for object in &watcher.initial {
        head.push_str(&line("ADDED", object));
    }
    head.push_str(&bookmark(watcher.version));
    let start = Follow { watcher, head: Some(head) };
    let lines = stream::unfold(start, |mut follow| async move {
        if let Some(head) = follow.head.take() {
            return Some((Ok::<_, Infallible>(Bytes::from(head)), follow));
        }
        let text = follow.next().await?;
        Some((Ok(Bytes::from(text)), follow))
    });
    ([(axum::http::header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

struct Follow {
    watcher: Watcher,
    head: Option<String>,
}

impl Follow {
    /// The next lines: an event with those that wait behind it, or a bookmark. `None` ends the watch.
    async fn next(&mut self) -> Option<String> {
        match tokio::time::timeout(BOOKMARK, self.watcher.next()).await {
            Err(_) => Some(bookmark(self.watcher.version)),
            Ok(None) => None,
            Ok(Some(event)) => {
                let mut text = self.take(&event);
                while let Some(event) = self.watcher.try_next() {
                    text.push_str(&self.take(&event));
                }
                Some(text)
            }
        }
    }

    fn take(&mut self, event: &Event) -> String {
        self.watcher.version = event.version;
        line(event.kind.as_str(), &event.object)
    }
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn bookmark(version: u64) -> String {
    line("BOOKMARK", &json!({"metadata": {"resourceVersion": version.to_string()}}))
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct ObjectQuery {
    kind: String,
    namespace: String,
    name: String,
    selector: String,
}

async fn objects(State(context): Shared, Query(query): Query<ObjectQuery>) -> Response {
    match Selector::parse(&query.selector) {
        Err(error) => refusal(StatusCode::BAD_REQUEST, error),
        Ok(selector) => {
            let filter = Filter { kind: query.kind, namespace: query.namespace, name: query.name, selector };
            let items: Vec<Value> = context.store.list(&filter).iter().map(|object| (**object).clone()).collect();
            Json(json!({"items": items, "resourceVersion": context.store.version().to_string()})).into_response()
        }
    }
}

async fn apply(State(context): Shared, Json(list): Json<Vec<Value>>) -> Response {
    let findings: Vec<Finding> = list.iter().flat_map(lateen_kinds::validate).collect();
    if findings.iter().any(Finding::is_error) {
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"results": [], "findings": findings}))).into_response();
    }
    let (results, mut refused) = apply_all(&context, list);
    let status = if refused.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    refused.extend(findings);
    (status, Json(json!({"results": results, "findings": refused}))).into_response()
}

/// Applies objects in an order in which each finds what it needs; returns what happened to each, in the order given, and what was refused.
pub(crate) fn apply_all(context: &Context, list: Vec<Value>) -> (Vec<Value>, Vec<Finding>) {
    let mut numbered: Vec<(usize, Value)> = list.into_iter().enumerate().collect();
    numbered.sort_by_key(|(index, object)| (rank(object), *index));
    let (mut results, mut refused) = (Vec::new(), Vec::new());
    for (index, object) in numbered {
        let (key, version) = (Key::of(&object), object["apiVersion"].clone());
        match context.apply(object.clone()) {
            Ok((outcome, _)) => {
                let key = key.unwrap_or_else(|| Key::new("", "", "", ""));
                let result = json!({"apiVersion": version, "kind": key.kind, "name": key.name, "namespace": key.namespace, "outcome": outcome.as_str()});
                results.push((index, result));
            }
            Err(finding) => refused.push(match location_of(&object) {
                Some(location) if finding.location.is_none() => finding.with_location(location),
                _ => finding,
            }),
        }
    }
    results.sort_by_key(|(index, _)| *index);
    (results.into_iter().map(|(_, result)| result).collect(), refused)
}

/// What others need comes first: so the order of files does not matter.
fn rank(object: &Value) -> u8 {
    match object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("ServiceAccount" | "ConfigMap" | "Secret" | "Node") => 1,
        Some("Deployment" | "ReplicaSet" | "Pod") => 3,
        _ => 2,
    }
}

fn location_of(object: &Value) -> Option<lateen_base::Location> {
    let source = object.pointer("/metadata/annotations")?.get(annotations::SOURCE)?.as_str()?;
    let (file, line) = source.rsplit_once(':')?;
    Some(lateen_base::Location { file: file.to_owned(), line: line.parse().ok()?, column: 1 })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    api_version: String,
    kind: String,
    #[serde(default)]
    namespace: String,
    name: String,
}

async fn delete(State(context): Shared, Json(list): Json<Vec<Reference>>) -> Response {
    let mut results = Vec::new();
    for reference in list {
        let key = Key::new(&reference.api_version, &reference.kind, &reference.namespace, &reference.name);
        let outcome = if context.delete(&key).is_ok() { "deleted" } else { "not found" };
        results.push(json!({"apiVersion": reference.api_version, "kind": key.kind, "name": key.name, "namespace": key.namespace, "outcome": outcome}));
    }
    Json(json!({"results": results})).into_response()
}

async fn set_status(State(context): Shared, Json(object): Json<Value>) -> Response {
    let Some(key) = Key::of(&object) else { return refusal(StatusCode::BAD_REQUEST, "an object needs apiVersion, kind and metadata.name") };
    match context.store.set_status(&key, object["status"].clone()) {
        Ok(object) => Json((*object).clone()).into_response(),
        Err(error) => refusal(StatusCode::NOT_FOUND, error.to_string()),
    }
}

async fn pods(State(context): Shared) -> Response {
    Json(json!({"items": rows(&context), "findings": context.findings.all()})).into_response()
}

/// All pods as `lateen ps` and the page show them.
pub(crate) fn rows(context: &Context) -> Vec<lateen_dashboard::Pod> {
    let now = std::time::SystemTime::now();
    let typed = context.store.all("Pod").into_iter().filter_map(|object| serde_json::from_value::<Pod>((*object).clone()).ok());
    typed.map(|pod| status::row(&pod, age(&pod, now))).collect()
}

fn age(pod: &Pod, now: std::time::SystemTime) -> u64 {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    let created = pod.metadata.creation_timestamp.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    created.and_then(|created| u64::try_from((OffsetDateTime::from(now) - created).whole_seconds()).ok()).unwrap_or(0)
}

async fn findings(State(context): Shared) -> Response {
    Json(json!({"items": context.findings.all()})).into_response()
}

async fn info(State(context): Shared) -> Response {
    let ports = context.start.ports;
    Json(json!({
        "mesh": context.start.options.mesh,
        "dashboard": format!("http://127.0.0.1:{}/", ports.dashboard),
        "ingress": format!("http://127.0.0.1:{}", ports.ingress),
        "ingressTls": ports.ingress_tls.map(|port| format!("https://127.0.0.1:{port}")),
        "paths": context.start.options.paths,
    }))
    .into_response()
}

async fn shutdown(State(context): Shared) -> Response {
    context.stop.send_replace(true);
    Json(json!({"stopping": true})).into_response()
}

#[derive(Deserialize)]
struct LogQuery {
    pod: String,
    #[serde(default)]
    namespace: String,
    container: Option<String>,
    #[serde(default)]
    follow: bool,
    tail: Option<u64>,
    #[serde(default)]
    previous: bool,
}

async fn logs(State(context): Shared, Query(query): Query<LogQuery>) -> Response {
    let key = Key::new("v1", "Pod", &query.namespace, &query.pod);
    let Some(pod) = context.store.get(&key).and_then(|object| serde_json::from_value::<Pod>((*object).clone()).ok()) else {
        return refusal(StatusCode::NOT_FOUND, format!("pod {}/{} not found", key.namespace, key.name));
    };
    let container = match container_of(&pod, query.container.as_deref()) {
        Ok(container) => container,
        Err(text) => return refusal(StatusCode::NOT_FOUND, text),
    };
    let run = if query.previous { Run::Previous } else { Run::Current };
    let opened = LogReader::open(&file_of(&context.logs_dir(), &key.namespace, &key.name, &container), run);
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return refusal(StatusCode::NOT_FOUND, format!("container {container} has no such output yet")),
        Err(error) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    if let Some(lines) = query.tail
        && let Err(error) = reader.skip_to_tail(lines)
    {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    }
    let text = stream::unfold((reader, context, key, query.follow), |(mut reader, context, key, follow)| async move {
        loop {
            match reader.read_new() {
                Ok(text) if !text.is_empty() => return Some((Ok::<_, io::Error>(Bytes::from(text)), (reader, context, key, follow))),
                // The pod has gone and so has its output.
                Ok(_) if follow && context.store.get(&key).is_some() => tokio::time::sleep(FOLLOW).await,
                Ok(_) => return None,
                Err(error) => return Some((Err(error), (reader, context, key, false))),
            }
        }
    });
    Body::from_stream(text).into_response()
}

/// The container meant: the named one, else the pod's default, else its first.
///
/// # Errors
/// Which containers there are.
pub(crate) fn container_of(pod: &Pod, wanted: Option<&str>) -> Result<String, String> {
    let all: Vec<&str> = pod.spec.containers.iter().chain(&pod.spec.init_containers).map(|container| container.name.as_str()).collect();
    let default = pod.metadata.annotations.get(annotations::DEFAULT_CONTAINER).map(String::as_str);
    match wanted.filter(|name| !name.is_empty()).or(default) {
        Some(name) if all.contains(&name) => Ok(name.to_owned()),
        Some(name) => Err(format!("pod {} has no container {name}; there are: {}", pod.metadata.name, all.join(", "))),
        None => all.first().map(|name| (*name).to_owned()).ok_or_else(|| format!("pod {} has no container", pod.metadata.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web"}, {"name": "istio-proxy"}]}})).unwrap()
    }

    #[test]
    fn the_application_is_meant_unless_another_container_is_named() {
        assert_eq!(container_of(&pod(), None).unwrap(), "web");
        assert_eq!(container_of(&pod(), Some("istio-proxy")).unwrap(), "istio-proxy");
        assert!(container_of(&pod(), Some("nope")).unwrap_err().contains("web, istio-proxy"));
    }

    #[test]
    fn namespaces_come_first_and_pods_last() {
        let kinds = ["Pod", "VirtualService", "Namespace", "ConfigMap"];
        let mut sorted = kinds.map(|kind| json!({"kind": kind}));
        sorted.sort_by_key(rank);
        assert_eq!(sorted.map(|object| object["kind"].as_str().unwrap().to_owned()), ["Namespace", "ConfigMap", "VirtualService", "Pod"]);
    }

    #[test]
    fn a_watch_line_is_one_line() {
        assert_eq!(line("ADDED", &json!({"a": "b\nc"})).matches('\n').count(), 1);
    }
}
