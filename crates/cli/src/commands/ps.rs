//! `lateen ps`: pods as `kubectl get pods -o wide` shows them.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::Context;
use crate::{
    args,
    client::text,
    output::{self, age, table},
};

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::Ps) -> Result<ExitCode> {
    let pods = context.client().objects("Pod", flags.namespace.as_deref().unwrap_or_default(), "", "").await?;
    if let Some(format @ (args::Format::Json | args::Format::Yaml)) = flags.output {
        output::document(&json!({"apiVersion": "v1", "kind": "List", "items": pods}), format)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows: Vec<Vec<String>> = pods
        .iter()
        .map(|pod| {
            let mut row = vec![text(pod, "/metadata/namespace").to_owned()];
            row.extend(row_of(pod));
            row
        })
        .collect();
    rows.sort();
    if rows.is_empty() {
        eprintln!("No pods found.");
    } else {
        table::print(&["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"], &rows);
    }
    Ok(ExitCode::SUCCESS)
}

/// Name, ready, status, restarts, age, address.
pub(crate) fn row_of(pod: &Value) -> Vec<String> {
    let ip = text(pod, "/status/podIP");
    vec![
        text(pod, "/metadata/name").to_owned(),
        ready(pod),
        status(pod),
        statuses(pod).iter().filter_map(|status| status.get("restartCount")?.as_u64()).sum::<u64>().to_string(),
        age::of(pod),
        if ip.is_empty() { "<none>".to_owned() } else { ip.to_owned() },
    ]
}

/// Status of the containers that count for READY: those of `spec.containers`, and sidecars among the init containers.
fn statuses(pod: &Value) -> Vec<&Value> {
    let list = |pointer: &str| pod.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let sidecars: Vec<&str> = list("/spec/initContainers").iter().filter(|init| text(init, "/restartPolicy") == "Always").map(|init| text(init, "/name")).collect();
    let native = list("/status/initContainerStatuses").iter().filter(|status| sidecars.contains(&text(status, "/name")));
    list("/status/containerStatuses").iter().chain(native).collect()
}

fn ready(pod: &Value) -> String {
    let statuses = statuses(pod);
    let ready = statuses.iter().filter(|status| status.get("ready") == Some(&Value::Bool(true))).count();
    let total = statuses.len().max(pod.pointer("/spec/containers").and_then(Value::as_array).map_or(0, Vec::len));
    format!("{ready}/{total}")
}

fn status(pod: &Value) -> String {
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return "Terminating".to_owned();
    }
    let reason = statuses(pod).into_iter().find_map(|status| {
        ["/state/waiting/reason", "/state/terminated/reason"].iter().map(|pointer| text(status, pointer)).find(|reason| !reason.is_empty())
    });
    match (reason, text(pod, "/status/reason"), text(pod, "/status/phase")) {
        (Some(reason), _, _) => reason.to_owned(),
        (None, "", "") => "Pending".to_owned(),
        (None, "", phase) => phase.to_owned(),
        (None, reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_injected_pod_is_two_of_two() {
        let pod = json!({
            "metadata": {"name": "a"}, "spec": {"containers": [{}, {}]},
            "status": {"phase": "Running", "podIP": "10.244.0.2", "containerStatuses": [{"ready": true, "restartCount": 1}, {"ready": true, "restartCount": 2}]}
        });
        assert_eq!(row_of(&pod)[1..4], ["2/2", "Running", "3"]);
    }

    #[test]
    fn native_sidecars_count() {
        let pod = json!({
            "spec": {"containers": [{}], "initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}]},
            "status": {"initContainerStatuses": [{"name": "istio-proxy", "ready": true}], "containerStatuses": [{"ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
        });
        assert_eq!((ready(&pod), status(&pod)), ("1/2".to_owned(), "CrashLoopBackOff".to_owned()));
    }
}
