//! Reporting what is wrong with objects: to the log, to the metrics, and into the objects' status.
//!
//! - Reads: findings of [`kinds`](lateen_kinds) about one snapshot.
//! - Rule: each finding is logged once, when it appears; an object's status is written when its findings changed, also when they went away.
//! - Rule: only mesh kinds get a status from here; the status of a Pod or a Service belongs to others.
//! - Rule: nothing here can hold up a push; a store that does not take a status is logged and asked again with the next change.
//! - Limits: `MESSAGES_MAX` messages per object; `WRITE_MAX` per write.

use crate::metrics::Metrics;
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use lateen_base::{Finding, Severity};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

/// Messages written into one object's status.
const MESSAGES_MAX: usize = 50;
/// Deadline of one write.
const WRITE_MAX: Duration = Duration::from_secs(2);

/// Remembers what was reported.
pub struct Reporter {
    socket: PathBuf,
    metrics: Arc<Metrics>,
    reported: BTreeMap<String, Vec<Finding>>,
}

impl Reporter {
    /// Reports to the store behind `socket`.
    #[must_use]
    pub fn new(socket: PathBuf, metrics: Arc<Metrics>) -> Self {
        Self { socket, metrics, reported: BTreeMap::new() }
    }

    /// Takes all findings of the moment. `identity` gives what [`identity_of`] gave for the object a finding names.
    pub async fn report<'a>(&mut self, findings: Vec<Finding>, identity: impl Fn(&str) -> Option<&'a Value>) {
        let mut by_object: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
        for finding in findings {
            by_object.entry(finding.object.clone()).or_default().push(finding);
        }
        let wrong = by_object.values().filter(|f| f.iter().any(Finding::is_error)).count();
        #[expect(clippy::cast_precision_loss, reason = "a count of objects")]
        self.metrics.set("pilot_total_rejected_configs", "", wrong as f64);
        let gone: Vec<String> = self.reported.keys().filter(|name| !by_object.contains_key(*name)).cloned().collect();
        for name in gone {
            self.reported.remove(&name);
            tracing::info!(object = name, "no findings any more");
            if let Some(object) = identity(&name) {
                self.write(&name, status(object, &[])).await;
            }
        }
        for (name, findings) in by_object {
            let before = self.reported.get(&name);
            if before == Some(&findings) {
                continue;
            }
            findings.iter().filter(|f| !before.is_some_and(|b| b.contains(f))).for_each(log);
            if let Some(object) = identity(&name) {
                self.write(&name, status(object, &findings)).await;
            }
            self.reported.insert(name, findings);
        }
    }

    async fn write(&self, name: &str, body: Value) {
        match tokio::time::timeout(WRITE_MAX, put(&self.socket, body)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(object = name, error, "writing its status"),
            Err(_) => tracing::warn!(object = name, "the store did not take its status within {WRITE_MAX:?}"),
        }
    }
}

fn log(finding: &Finding) {
    match finding.severity {
        Severity::Error => tracing::error!("{finding}"),
        Severity::Warning => tracing::warn!("{finding}"),
        Severity::Info => tracing::debug!("{finding}"),
    }
}

/// What a status needs to know of an object; `None` for kinds whose status is not the control plane's to write.
#[must_use]
pub fn identity_of(object: &Value) -> Option<Value> {
    let version = object.get("apiVersion")?.as_str()?;
    if !version.split('/').next()?.ends_with("istio.io") {
        return None;
    }
    let metadata = |key: &str| object.pointer(&format!("/metadata/{key}")).cloned().unwrap_or(Value::Null);
    Some(json!({
        "apiVersion": version, "kind": object.get("kind"),
        "metadata": {"name": metadata("name"), "namespace": metadata("namespace"), "generation": metadata("generation")}
    }))
}

/// The object's identity with a status in Istio's form: `validationMessages` and the condition `Reconciled`.
fn status(object: &Value, findings: &[Finding]) -> Value {
    let messages: Vec<Value> = findings
        .iter()
        .take(MESSAGES_MAX)
        .map(|f| json!({"type": {"code": f.code.as_str()}, "level": format!("{:?}", f.severity).to_uppercase(), "message": f.to_string()}))
        .collect();
    let accepted = !findings.iter().any(Finding::is_error);
    let metadata = |key: &str| object.pointer(&format!("/metadata/{key}")).cloned().unwrap_or(Value::Null);
    json!({
        "apiVersion": object.get("apiVersion"), "kind": object.get("kind"),
        "metadata": {"name": metadata("name"), "namespace": metadata("namespace")},
        "status": {
            "observedGeneration": metadata("generation"),
            "conditions": [{"type": "Reconciled", "status": if accepted { "True" } else { "False" }}],
            "validationMessages": messages,
        }
    })
}

async fn put(socket: &PathBuf, body: Value) -> Result<(), String> {
    let stream = UnixStream::connect(socket).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        // Its errors reach the caller through `sender`.
        let _ = connection.await;
    });
    let request = hyper::Request::put("/status")
        .header("host", "store")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    if response.status().is_success() { Ok(()) } else { Err(format!("the store answered {}", response.status())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_base::Code;

    #[test]
    fn a_status_names_the_object_and_what_is_wrong() {
        let object = json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "default", "generation": 3}, "spec": {}});
        let body = status(&object, &[Finding::new(Code::PortClash, "port 80 is taken")]);
        assert_eq!(body["metadata"], json!({"name": "g", "namespace": "default"}));
        assert_eq!(body["status"]["observedGeneration"], 3);
        assert_eq!(body["status"]["conditions"][0]["status"], "False");
        assert_eq!(body["status"]["validationMessages"][0]["type"]["code"], "LTN0014");
        assert_eq!(status(&object, &[])["status"]["conditions"][0]["status"], "True");
    }
}
