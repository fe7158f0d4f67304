//! `proxy-config cluster`.

use serde_json::Value;

use super::{Dumps, origin, raw, resources, string};
use crate::args::ProxyConfig;

const HEADS: &[&str] = &["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"];

/// Heads, rows and raw resources.
pub(super) fn table(dumps: &Dumps, flags: &ProxyConfig) -> (&'static [&'static str], Vec<Vec<String>>, Value) {
    let mut clusters = resources(&dumps.config, "ClustersConfigDump", &[("dynamic_active_clusters", &["cluster"]), ("static_clusters", &["cluster"])]);
    clusters.retain(|cluster| wanted(cluster, flags));
    let mut rows: Vec<Vec<String>> = clusters.iter().map(|cluster| row(cluster)).collect();
    rows.sort();
    (HEADS, rows, raw(&clusters))
}

/// Direction, port, subset and host of a cluster's name; names of another form have only a host.
pub(super) fn parts(name: &str) -> (&str, &str, &str, &str) {
    let fields: Vec<&str> = name.split('|').collect();
    match fields.as_slice() {
        [direction, port, subset, host] => (direction, port, subset, host),
        _ => ("", "", "", name),
    }
}

fn wanted(cluster: &Value, flags: &ProxyConfig) -> bool {
    let (direction, port, subset, host) = parts(string(cluster, &["name"]));
    flags.fqdn.as_deref().is_none_or(|wanted| wanted == host)
        && flags.port.is_none_or(|wanted| wanted.to_string() == port)
        && flags.subset.as_deref().is_none_or(|wanted| wanted == subset)
        && flags.direction.as_deref().is_none_or(|wanted| wanted == direction)
}

fn row(cluster: &Value) -> Vec<String> {
    let (direction, port, subset, host) = parts(string(cluster, &["name"]));
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let kind = string(cluster, &["type"]);
    vec![dash(host), dash(port), dash(subset), dash(direction), if kind.is_empty() { "STATIC".to_owned() } else { kind.to_owned() }, origin(cluster)]
}
