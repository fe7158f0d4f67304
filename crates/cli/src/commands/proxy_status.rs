//! `lateen proxy-status`: what every proxy has acknowledged, from the control plane's `/debug/syncz`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use lateen_base::{names, ports};
use serde_json::Value;

use super::{Context, exec};
use crate::{
    args::{self, Format},
    client::{Client, text},
    output::{self, table},
};

/// Types in the order of istioctl's columns, with the field by which an istiod tells their state; ours tells it below `types`.
const TYPES: &[(&str, &str)] =
    &[("CDS", "cluster_status"), ("LDS", "listener_status"), ("EDS", "endpoint_status"), ("RDS", "route_status"), ("ECDS", "extensionconfig_status")];

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::ProxyStatus) -> Result<ExitCode> {
    let client = context.client();
    let syncz = debug(&client, "/debug/syncz").await?;
    if let Some(format @ (Format::Json | Format::Yaml)) = flags.output {
        output::document(&syncz, format)?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = match &flags.pod {
        Some(word) => {
            let pod = client.pod(word, super::namespace(flags.namespace.as_ref())).await?;
            Some(format!("{}.{}", text(&pod, "/metadata/name"), text(&pod, "/metadata/namespace")))
        }
        None => None,
    };
    let mut rows: Vec<Vec<String>> = syncz
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(|proxy| row(proxy, wanted.as_deref(), flags))
        .collect();
    rows.sort();
    if let (Some(wanted), true) = (&wanted, rows.is_empty()) {
        bail!("{wanted} is not connected to the control plane; `lateen logs {} -c {}` tells why", wanted, names::PROXY_CONTAINER);
    }
    if flags.verbosity == 0 {
        table::print(&["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"], &rows);
    } else {
        table::print(&["NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "ECDS", "ISTIOD", "VERSION"], &rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn row(proxy: &Value, wanted: Option<&str>, flags: &args::ProxyStatus) -> Option<Vec<String>> {
    let id = text(proxy, "/proxy");
    // A node id is `sidecar~IP~POD.NAMESPACE~DOMAIN`; istiod shows its third part.
    let name = id.split('~').nth(2).unwrap_or(id);
    if wanted.is_some_and(|wanted| wanted != name) {
        return None;
    }
    if let Some(namespace) = flags.namespace.as_deref().filter(|_| wanted.is_none())
        && !name.ends_with(&format!(".{namespace}"))
    {
        return None;
    }
    let or = |pointer: &str, default: &str| Some(text(proxy, pointer)).filter(|found| !found.is_empty()).unwrap_or(default).to_owned();
    let state = |name: &str, field: &str| {
        let found = [format!("/types/{name}/status"), format!("/{field}")].into_iter().map(|pointer| text(proxy, &pointer)).find(|state| !state.is_empty());
        found.unwrap_or("NOT SENT").to_owned()
    };
    let (cluster, version) = (or("/cluster_id", "Kubernetes"), or("/istio_version", env!("CARGO_PKG_VERSION")));
    if flags.verbosity == 0 {
        let sent: Vec<&str> = TYPES.iter().filter(|(name, field)| !matches!(state(name, field).as_str(), "NOT SENT" | "IGNORED")).map(|(name, _)| *name).collect();
        return Some(vec![name.to_owned(), cluster, names::ISTIOD.to_owned(), version, format!("{} ({})", sent.len(), sent.join(","))]);
    }
    let mut row = vec![name.to_owned(), cluster];
    row.extend(TYPES.iter().map(|(name, field)| state(name, field)));
    row.extend([names::ISTIOD.to_owned(), version]);
    Some(row)
}

/// Asks the control plane's debug interface, from inside its pod.
pub(crate) async fn debug(client: &Client, path: &str) -> Result<Value> {
    let pods = client.objects("Pod", names::ROOT_NAMESPACE, "", "").await?;
    let istiod = pods.iter().find(|pod| text(pod, "/metadata/name").starts_with(names::ISTIOD)).context("the control plane does not run; `lateen ps` shows the pods")?;
    let url = format!("http://127.0.0.1:{}{path}", ports::CONTROL_DEBUG);
    let answer = exec::capture(client, istiod, &["curl", "-sS", "-f", &url])?;
    serde_json::from_str(&answer).with_context(|| format!("the control plane's {path} is not JSON"))
}

/// Whether a pod has a proxy.
pub(crate) fn is_meshed(pod: &Value) -> bool {
    let containers = |pointer: &str| pod.pointer(pointer).and_then(Value::as_array).into_iter().flatten().any(|container| text(container, "/name") == names::PROXY_CONTAINER);
    containers("/spec/containers") || containers("/spec/initContainers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_by_type_or_by_field() {
        let flags = args::ProxyStatus { pod: None, namespace: None, verbosity: 1, output: None };
        let proxy = serde_json::json!({"proxy": "a.default", "types": {"CDS": {"status": "SYNCED"}}, "route_status": "STALE"});
        let row = row(&proxy, None, &flags).expect("shown");
        assert_eq!(row[2..6], ["SYNCED", "NOT SENT", "NOT SENT", "STALE"]);
    }
}
