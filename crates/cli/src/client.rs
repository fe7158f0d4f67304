//! The running mesh's store, over its unix socket.
//!
//! - Reads: HTTP/1.1 with JSON (`local` serves it): `/objects`, `/apply`, `/delete`, `/pods`, `/logs`, `/shutdown`.
//! - Twin: `local/src/supervisor/api.rs`.
//! - Rule: a mesh that does not run is an error that says how to start one.
//! - Limits: an answer up to [`ANSWER_BYTES_MAX`]; logs stream without limit.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A running mesh.
pub(crate) struct Client {
    mesh: String,
    socket: PathBuf,
    /// Socket for `exec`.
    pub(crate) exec_socket: PathBuf,
}

/// An answer other than success.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) value: Value,
}

impl Client {
    /// The mesh called `mesh`, whose sockets lie in `state_dir`. Does not connect yet.
    pub(crate) fn new(mesh: &str, state_dir: &Path) -> Self {
        Self { mesh: mesh.to_owned(), socket: lateen_local::api_socket(state_dir), exec_socket: lateen_local::exec_socket(state_dir) }
    }

    /// Whether something listens on the socket.
    pub(crate) async fn is_running(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    /// Sends a request and gives the answer's head and body.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>> {
        let stream = match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
                bail!("no mesh called `{}` is running; start one with `lateen up PATH`, or name another with --name", self.mesh)
            }
            Err(error) => return Err(error).with_context(|| format!("cannot reach mesh `{}` at {}", self.mesh, self.socket.display())),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Its error reaches the sender too.
        tokio::spawn(connection);
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "lateen")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))?;
        sender.send_request(request).await.context("the mesh ended the connection; `lateen ps` tells whether it still runs")
    }

    /// Sends a request and reads the JSON answer, whatever its status.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        let value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        };
        Ok(Answer { status, value })
    }

    /// `GET`, where only success is expected.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.ask(Method::GET, path, None).await?;
        if !answer.status.is_success() {
            bail!("{}", answer.text());
        }
        Ok(answer.value)
    }

    /// Objects of one kind; empty `namespace` is all.
    pub(crate) async fn objects(&self, kind: &str, namespace: &str, name: &str, selector: &str) -> Result<Vec<Value>> {
        let mut path = format!("/objects?kind={}", encode(kind));
        for (key, value) in [("namespace", namespace), ("name", name), ("selector", selector)] {
            if !value.is_empty() {
                path.push_str(&format!("&{key}={}", encode(value)));
            }
        }
        match self.get(&path).await?.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// The pod a word means: a pod's name, `pod/NAME`, `deploy/NAME`, `deployment/NAME`, `svc/NAME`, or a Deployment's bare name.
    ///
    /// # Errors
    /// No such pod, with what there is.
    pub(crate) async fn pod(&self, word: &str, namespace: &str) -> Result<Value> {
        let (word, namespace) = match word.rsplit_once('.') {
            // istioctl's POD.NAMESPACE
            Some((pod, given)) if !pod.is_empty() && !self.objects("Namespace", "", given, "").await?.is_empty() => (pod, given),
            _ => (word, namespace),
        };
        let (kind, name) = word.split_once('/').unwrap_or(("", word));
        let pods = self.objects("Pod", namespace, "", "").await?;
        let named = |pod: &Value| text(pod, "/metadata/name") == name;
        if matches!(kind, "" | "pod" | "po" | "pods")
            && let Some(pod) = pods.iter().find(|pod| named(pod))
        {
            return Ok(pod.clone());
        }
        let selector = match kind {
            "" | "deploy" | "deployment" | "deployments" => self.selector("Deployment", "/spec/selector/matchLabels", namespace, name).await?,
            "svc" | "service" | "services" => self.selector("Service", "/spec/selector", namespace, name).await?,
            _ => None,
        };
        let selected = selector.map(|selector| pods.iter().filter(|pod| selects(&selector, pod)).cloned().collect::<Vec<_>>()).unwrap_or_default();
        let ready = selected.iter().find(|pod| is_ready(pod)).or_else(|| selected.first());
        match ready {
            Some(pod) => Ok(pod.clone()),
            None => {
                let names: Vec<&str> = pods.iter().map(|pod| text(pod, "/metadata/name")).collect();
                bail!("no pod or Deployment `{word}` in namespace {namespace}; there are: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") })
            }
        }
    }

    async fn selector(&self, kind: &str, pointer: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let found = self.objects(kind, namespace, name, "").await?;
        Ok(found.first().and_then(|object| object.pointer(pointer)).cloned())
    }
}

impl Answer {
    /// The answer as text for an error.
    pub(crate) fn text(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            Value::Null => self.status.to_string(),
            other => other.get("error").and_then(Value::as_str).map_or_else(|| other.to_string(), str::to_owned),
        }
    }
}

/// Text at a JSON pointer, or nothing.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn selects(selector: &Value, pod: &Value) -> bool {
    let labels = pod.pointer("/metadata/labels");
    selector.as_object().is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value)))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|conditions| conditions.iter().any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True"))
}

/// Percent-encodes a query value.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_needs_all_its_labels() {
        let pod = serde_json::json!({"metadata": {"labels": {"app": "a", "version": "v1"}}});
        assert!(selects(&serde_json::json!({"app": "a"}), &pod));
        assert!(!selects(&serde_json::json!({"app": "a", "version": "v2"}), &pod));
        assert!(!selects(&serde_json::json!({}), &pod));
    }

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(encode("a=b,c d"), "a%3Db%2Cc%20d");
    }
}
