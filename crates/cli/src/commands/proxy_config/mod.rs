//! `lateen proxy-config`: what one proxy was told, in istioctl's columns.
//!
//! - Reads: `/config_dump` and `/clusters?format=json` of the proxy's admin interface, or a saved `config_dump`.
//! - Rule: works alike on our proxy and on Envoy; field names are taken in both spellings of protobuf's JSON.
//! - Not here: one table each in `cluster.rs`, `listener.rs`, `route.rs`, `endpoint.rs`, `secret.rs`.

mod cluster;
mod endpoint;
mod listener;
mod route;
mod secret;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use lateen_base::ports;
use serde_json::{Value, json};

use super::{Context, exec, namespace};
use crate::{
    args::{self, ConfigKind, Format},
    output::{self, table},
};

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::ProxyConfig) -> Result<ExitCode> {
    let dumps = match &flags.file {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Dumps { config: serde_json::from_str(&text).with_context(|| format!("{} is not a config_dump", path.display()))?, clusters: Value::Null }
        }
        None => fetch(context, flags).await?,
    };
    let kinds: &[ConfigKind] = match flags.what {
        ConfigKind::All => &[ConfigKind::Cluster, ConfigKind::Listener, ConfigKind::Route, ConfigKind::Endpoint, ConfigKind::Secret],
        ref one => std::slice::from_ref(one),
    };
    for (index, kind) in kinds.iter().enumerate() {
        if index > 0 {
            crate::output::line(format_args!(""));
        }
        show(*kind, &dumps, flags)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the admin interface answered.
pub(crate) struct Dumps {
    pub(crate) config: Value,
    pub(crate) clusters: Value,
}

async fn fetch(context: &Context, flags: &args::ProxyConfig) -> Result<Dumps> {
    let client = context.client();
    let word = flags.pod.as_deref().unwrap_or_default();
    let pod = client.pod(word, namespace(flags.namespace.as_ref())).await?;
    let ask = |path: &str| -> Result<Value> {
        let url = format!("http://127.0.0.1:{}/{path}", ports::ADMIN);
        let answer = exec::capture(&client, &pod, &["curl", "-sS", "-f", &url]).with_context(|| format!("the proxy of `{word}` did not answer; does the pod have a sidecar?"))?;
        serde_json::from_str(&answer).with_context(|| format!("the proxy's {path} is not JSON"))
    };
    let config = ask("config_dump?include_eds")?;
    let needs_clusters = matches!(flags.what, ConfigKind::Endpoint | ConfigKind::All);
    Ok(Dumps { config, clusters: if needs_clusters { ask("clusters?format=json")? } else { Value::Null } })
}

fn show(kind: ConfigKind, dumps: &Dumps, flags: &args::ProxyConfig) -> Result<()> {
    let (heads, rows, raw): (&[&str], Vec<Vec<String>>, Value) = match kind {
        ConfigKind::Cluster => cluster::table(dumps, flags),
        ConfigKind::Listener => listener::table(dumps, flags),
        ConfigKind::Route => route::table(dumps, flags),
        ConfigKind::Endpoint => endpoint::table(dumps, flags),
        ConfigKind::Secret => secret::table(dumps, flags),
        ConfigKind::Bootstrap | ConfigKind::All => {
            let bootstrap = section(&dumps.config, "BootstrapConfigDump").cloned().unwrap_or_default();
            return output::document(&bootstrap, flags.output.filter(|format| *format == Format::Yaml).unwrap_or(Format::Json));
        }
    };
    match flags.output {
        Some(format @ (Format::Json | Format::Yaml)) => output::document(&raw, format),
        Some(Format::Name | Format::Wide | Format::Short) | None => {
            table::print(heads, &rows);
            Ok(())
        }
    }
}

/// One section of a `config_dump`, by the end of its type's name.
pub(crate) fn section<'a>(config: &'a Value, name: &str) -> Option<&'a Value> {
    let configs = config.get("configs")?.as_array()?;
    let name = format!(".{name}");
    configs.iter().find(|section| section.get("@type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with(&name)))
}

/// A field by its proto name, in snake_case or lowerCamelCase.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).or_else(|| value.get(camel(name))).filter(|value| !value.is_null())
}

/// A field down a path of proto names.
pub(crate) fn down<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| field(value, name))
}

/// Text down a path; empty where there is none.
pub(crate) fn string<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    down(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// A list down a path; empty where there is none.
pub(crate) fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    down(value, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A number down a path, also where protobuf's JSON writes it as text.
pub(crate) fn number(value: &Value, path: &[&str]) -> Option<u64> {
    let found = down(value, path)?;
    found.as_u64().or_else(|| found.as_str()?.parse().ok())
}

/// The resources in a section's lists, each list with the path from its entries to the resource.
pub(crate) fn resources<'a>(config: &'a Value, name: &str, lists: &[(&str, &[&str])]) -> Vec<&'a Value> {
    let Some(section) = section(config, name) else { return Vec::new() };
    lists.iter().flat_map(|(list_name, path)| list(section, &[list_name]).iter().filter_map(|entry| down(entry, path))).collect()
}

/// The Istio object that a resource's metadata names: `name.namespace`, or `-`.
pub(crate) fn origin(resource: &Value) -> String {
    let config = down(resource, &["metadata", "filter_metadata"]).and_then(|metadata| metadata.get("istio")).and_then(|istio| istio.get("config"));
    let path: Vec<&str> = config.and_then(Value::as_str).unwrap_or_default().split('/').collect();
    match path.as_slice() {
        [.., namespace, _, name] => format!("{name}.{namespace}"),
        _ => String::new(),
    }
}

/// A raw list for `-o json`.
pub(crate) fn raw(resources: &[&Value]) -> Value {
    json!(resources)
}

fn camel(name: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in name.chars() {
        match (c, upper) {
            ('_', _) => upper = true,
            (c, true) => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_found() {
        let value = json!({"routeConfig": {"virtual_hosts": [1]}});
        assert_eq!(list(&value, &["route_config", "virtual_hosts"]).len(), 1);
    }

    #[test]
    fn a_section_is_found_by_its_whole_name() {
        let kind = |name: &str| json!({"@type": format!("type.googleapis.com/envoy.admin.v3.{name}")});
        let dump = json!({"configs": [kind("ScopedRoutesConfigDump"), kind("RoutesConfigDump")]});
        assert_eq!(section(&dump, "RoutesConfigDump"), dump.pointer("/configs/1"));
    }

    #[test]
    fn origin_is_name_and_namespace() {
        let value = json!({"metadata": {"filter_metadata": {"istio": {"config": "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/cart"}}}});
        assert_eq!(origin(&value), "cart.shop");
        assert_eq!(origin(&json!({})), "");
    }
}
