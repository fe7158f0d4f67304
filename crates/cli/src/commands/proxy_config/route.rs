//! `proxy-config route`.

use serde_json::Value;

use super::{Dumps, down, field, list, origin, raw, resources, string};
use crate::args::ProxyConfig;

const HEADS: &[&str] = &["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"];
/// Domains shown before `+ N more...`, as istioctl does.
const DOMAINS_SHOWN: usize = 2;

/// Heads, rows and raw resources.
pub(super) fn table(dumps: &Dumps, flags: &ProxyConfig) -> (&'static [&'static str], Vec<Vec<String>>, Value) {
    let mut configs = resources(&dumps.config, "RoutesConfigDump", &[("dynamic_route_configs", &["route_config"]), ("static_route_configs", &["route_config"])]);
    configs.retain(|config| flags.object_name.as_deref().is_none_or(|wanted| wanted == string(config, &["name"])));
    let rows = configs.iter().flat_map(|config| rows_of(config)).collect();
    (HEADS, rows, raw(&configs))
}

fn rows_of(config: &Value) -> Vec<Vec<String>> {
    let name = string(config, &["name"]);
    let mut rows = Vec::new();
    for host in list(config, &["virtual_hosts"]) {
        for route in list(host, &["routes"]) {
            rows.push(vec![name.to_owned(), string(host, &["name"]).to_owned(), domains(host), matching(route), target(route)]);
        }
        if list(host, &["routes"]).is_empty() {
            rows.push(vec![name.to_owned(), string(host, &["name"]).to_owned(), domains(host), "/*".to_owned(), "404".to_owned()]);
        }
    }
    rows
}

fn domains(host: &Value) -> String {
    let all: Vec<&str> = list(host, &["domains"]).iter().filter_map(Value::as_str).filter(|domain| !domain.contains(':')).collect();
    let shown = all.get(..DOMAINS_SHOWN.min(all.len())).unwrap_or_default().join(", ");
    if all.len() > DOMAINS_SHOWN { format!("{shown} + {} more...", all.len() - DOMAINS_SHOWN) } else { shown }
}

fn matching(route: &Value) -> String {
    let Some(rule) = field(route, "match") else { return "/*".to_owned() };
    let text = |name: &str| string(rule, &[name]).to_owned();
    let mut shown = match (text("prefix"), text("path"), text("path_separated_prefix")) {
        (prefix, _, _) if !prefix.is_empty() => format!("{prefix}*"),
        (_, path, _) if !path.is_empty() => path,
        (_, _, prefix) if !prefix.is_empty() => format!("PathPrefix:{prefix}"),
        _ => match string(rule, &["safe_regex", "regex"]) {
            "" => "/*".to_owned(),
            regex => format!("regex {regex}"),
        },
    };
    for header in list(rule, &["headers"]) {
        let value = [&["string_match", "exact"][..], &["string_match", "prefix"], &["string_match", "safe_regex", "regex"]]
            .iter()
            .map(|path| string(header, path))
            .find(|value| !value.is_empty())
            .unwrap_or("*");
        shown.push_str(&format!(" {}={value}", string(header, &["name"])));
    }
    shown
}

/// The VirtualService, or what answers where there is none.
fn target(route: &Value) -> String {
    let origin = origin(route);
    if !origin.is_empty() {
        return origin;
    }
    down(route, &["direct_response", "status"]).map(ToString::to_string).unwrap_or_default()
}
