//! `proxy-config endpoint`.

use serde_json::Value;

use super::{Dumps, cluster::parts, down, list, number, raw, string};
use crate::args::ProxyConfig;

const HEADS: &[&str] = &["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"];

/// Heads, rows and raw resources.
pub(super) fn table(dumps: &Dumps, flags: &ProxyConfig) -> (&'static [&'static str], Vec<Vec<String>>, Value) {
    let statuses: Vec<&Value> = list(&dumps.clusters, &["cluster_statuses"])
        .iter()
        .filter(|status| {
            let name = string(status, &["name"]);
            flags.cluster.as_deref().is_none_or(|wanted| wanted == name) && flags.fqdn.as_deref().is_none_or(|wanted| wanted == parts(name).3)
        })
        .collect();
    let mut rows: Vec<Vec<String>> = statuses.iter().flat_map(|status| list(status, &["host_statuses"]).iter().filter_map(|host| row(string(status, &["name"]), host, flags))).collect();
    rows.sort();
    (HEADS, rows, raw(&statuses))
}

fn row(cluster: &str, host: &Value, flags: &ProxyConfig) -> Option<Vec<String>> {
    let address = string(host, &["address", "socket_address", "address"]);
    let port = number(host, &["address", "socket_address", "port_value"]);
    let endpoint = match (address, port) {
        ("", _) => {
            let pipe = string(host, &["address", "pipe", "path"]);
            if pipe.is_empty() { format!("envoy://{}", string(host, &["address", "envoy_internal_address", "server_listener_name"])) } else { format!("unix://{pipe}") }
        }
        (address, port) => format!("{address}:{}", port.unwrap_or(0)),
    };
    let status = match string(host, &["health_status", "eds_health_status"]) {
        "" | "UNKNOWN" => "HEALTHY",
        other => other,
    };
    let outlier = if down(host, &["health_status", "failed_outlier_check"]).and_then(Value::as_bool) == Some(true) { "FAILED" } else { "OK" };
    let keep = flags.address.as_deref().is_none_or(|wanted| wanted == address)
        && flags.port.is_none_or(|wanted| Some(u64::from(wanted)) == port)
        && flags.status.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(status));
    keep.then(|| vec![endpoint, status.to_owned(), outlier.to_owned(), cluster.to_owned()])
}
