//! `proxy-config listener`.

use serde_json::Value;

use super::{Dumps, down, field, list, number, raw, resources, string};
use crate::args::ProxyConfig;

const HEADS: &[&str] = &["ADDRESSES", "PORT", "MATCH", "DESTINATION"];

/// Heads, rows and raw resources.
pub(super) fn table(dumps: &Dumps, flags: &ProxyConfig) -> (&'static [&'static str], Vec<Vec<String>>, Value) {
    let lists: [(&str, &[&str]); 2] = [("dynamic_listeners", &["active_state", "listener"]), ("static_listeners", &["listener"])];
    let mut listeners = resources(&dumps.config, "ListenersConfigDump", &lists);
    listeners.retain(|listener| {
        flags.port.is_none_or(|wanted| Some(u64::from(wanted)) == port(listener))
            && flags.address.as_deref().is_none_or(|wanted| wanted == string(listener, &["address", "socket_address", "address"]))
            && flags.object_name.as_deref().is_none_or(|wanted| wanted == string(listener, &["name"]))
    });
    listeners.sort_by_key(|listener| (port(listener), string(listener, &["address", "socket_address", "address"])));
    let rows = listeners.iter().flat_map(|listener| rows_of(listener)).collect();
    (HEADS, rows, raw(&listeners))
}

fn port(listener: &Value) -> Option<u64> {
    number(listener, &["address", "socket_address", "port_value"])
}

fn rows_of(listener: &Value) -> Vec<Vec<String>> {
    let address = string(listener, &["address", "socket_address", "address"]);
    let port = port(listener).unwrap_or(0).to_string();
    let chains = list(listener, &["filter_chains"]).iter().chain(field(listener, "default_filter_chain"));
    chains.map(|chain| vec![address.to_owned(), port.clone(), matching(chain), destination(chain)]).collect()
}

fn matching(chain: &Value) -> String {
    let Some(rule) = field(chain, "filter_chain_match") else { return "ALL".to_owned() };
    let words = |name: &str| list(rule, &[name]).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    let mut parts = Vec::new();
    match (words("server_names"), string(rule, &["transport_protocol"])) {
        (names, _) if !names.is_empty() => parts.push(format!("SNI: {names}")),
        (_, protocol) if !protocol.is_empty() => parts.push(format!("Trans: {protocol}")),
        _ => {}
    }
    let applications = words("application_protocols");
    if !applications.is_empty() {
        parts.push(format!("App: {applications}"));
    }
    let ranges: Vec<String> = list(rule, &["prefix_ranges"])
        .iter()
        .map(|range| format!("{}/{}", string(range, &["address_prefix"]), number(range, &["prefix_len"]).unwrap_or(0)))
        .collect();
    let port = number(rule, &["destination_port"]);
    if !ranges.is_empty() || port.is_some() {
        let hosts = if ranges.is_empty() { "*".to_owned() } else { ranges.join(",") };
        parts.push(format!("Addr: {hosts}:{}", port.map_or_else(|| "*".to_owned(), |port| port.to_string())));
    }
    if parts.is_empty() { "ALL".to_owned() } else { parts.join("; ") }
}

fn destination(chain: &Value) -> String {
    let Some(config) = list(chain, &["filters"]).last().and_then(|filter| field(filter, "typed_config")) else { return "Non-HTTP/Non-TCP".to_owned() };
    let name = string(config, &["rds", "route_config_name"]);
    if !name.is_empty() {
        return format!("Route: {name}");
    }
    let cluster = string(config, &["cluster"]);
    if !cluster.is_empty() {
        return if cluster.contains('|') { format!("Cluster: {cluster}") } else { cluster.to_owned() };
    }
    let weighted: Vec<&str> = list(config, &["weighted_clusters", "clusters"]).iter().map(|cluster| string(cluster, &["name"])).collect();
    if !weighted.is_empty() {
        return format!("Cluster: {}", weighted.join(", "));
    }
    let clusters: Vec<&str> = list(config, &["route_config", "virtual_hosts"])
        .iter()
        .flat_map(|host| list(host, &["routes"]))
        .filter_map(|route| down(route, &["route", "cluster"])?.as_str())
        .collect();
    match clusters.as_slice() {
        [] => "Inline Route:".to_owned(),
        [one] if one.contains('|') => format!("Cluster: {one}"),
        all => format!("Inline Route: {}", all.join(", ")),
    }
}
