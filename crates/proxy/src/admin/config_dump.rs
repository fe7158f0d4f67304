//! `/config_dump`: the configuration in force, as it arrived.
//!
//! - Rule: sections, their order and their fields are those of `admin.v3.ConfigDump`, which `istioctl proxy-config` reads.
//! - Rule: private keys are never shown.
//! - Reads: `?resource=`, `?mask=` (whole fields), `?name_regex=` (as a substring), `?include_eds`.

use std::time::SystemTime;

use hyper::StatusCode;
use lateen_envoy_api::Any;
use lateen_xds::types;
use serde_json::{Map, Value, json};

use super::certs::time_text;
use super::{Answer, Query};
use crate::resources::{Raw, Refusal, Resources};
use crate::server::Server;

/// Answers.
pub fn answer(server: &Server, query: &Query) -> Answer {
    let resources = server.resources.borrow();
    let dump = Dump { resources: &resources, name: query.value("name_regex").unwrap_or_default().trim_matches(['.', '*']) };
    let mut configs = vec![bootstrap(server), dump.clusters()];
    if query.has("include_eds") {
        configs.push(dump.endpoints());
    }
    configs.extend([dump.listeners(), json!({"@type": at("ScopedRoutesConfigDump")}), dump.routes(), dump.secrets()]);
    if let Some(field) = query.value("resource") {
        return resource(&configs, field);
    }
    if let Some(mask) = query.value("mask") {
        configs = masked(configs, mask);
    }
    Answer::json(&json!({ "configs": configs }))
}

fn at(section: &str) -> String {
    format!("type.googleapis.com/envoy.admin.v3.{section}")
}

/// The elements of one field, as Envoy answers `?resource=dynamic_listeners`.
fn resource(configs: &[Value], field: &str) -> Answer {
    let field = field.split('.').next().unwrap_or_default();
    let Some((section, elements)) = configs.iter().find_map(|c| Some((c, c.get(field)?.as_array()?))) else {
        return Answer::status(StatusCode::NOT_FOUND, format!("{field} not found in config dump\n"));
    };
    let kind = section.get("@type").and_then(Value::as_str).unwrap_or_default();
    let element = match field {
        "static_listeners" => "StaticListener",
        "dynamic_listeners" => "DynamicListener",
        "static_clusters" => "StaticCluster",
        "dynamic_active_clusters" | "dynamic_warming_clusters" => "DynamicCluster",
        "static_route_configs" => "StaticRouteConfig",
        "dynamic_route_configs" => "DynamicRouteConfig",
        "static_endpoint_configs" => "StaticEndpointConfig",
        "dynamic_endpoint_configs" => "DynamicEndpointConfig",
        "static_secrets" => "StaticSecret",
        _ => "DynamicSecret",
    };
    let typed: Vec<Value> = elements
        .iter()
        .map(|e| {
            let mut object = Map::new();
            object.insert("@type".into(), format!("{kind}.{element}").into());
            object.extend(e.as_object().cloned().unwrap_or_default());
            Value::Object(object)
        })
        .collect();
    Answer::json(&json!({ "configs": typed }))
}

/// Keeps only the named top-level fields of each section; sections with none of them go.
fn masked(configs: Vec<Value>, mask: &str) -> Vec<Value> {
    let wanted: Vec<&str> = mask.split(',').filter_map(|m| m.split('.').next()).collect();
    let keep = |config: Value| {
        let Value::Object(fields) = config else { return None };
        let kept: Map<String, Value> = fields.into_iter().filter(|(k, _)| k == "@type" || wanted.contains(&k.as_str())).collect();
        (kept.len() > 1).then_some(Value::Object(kept))
    };
    configs.into_iter().filter_map(keep).collect()
}

fn bootstrap(server: &Server) -> Value {
    let started = SystemTime::now().checked_sub(server.started.elapsed()).unwrap_or_else(SystemTime::now);
    json!({
        "@type": at("BootstrapConfigDump"),
        "bootstrap": snake(serde_json::to_value(&server.bootstrap.message).unwrap_or_default()),
        "last_updated": time_text(started),
    })
}

/// A resource and its name.
type Named<'a> = (&'a String, &'a Raw);

struct Dump<'a> {
    resources: &'a Resources,
    name: &'a str,
}

impl Dump<'_> {
    /// Resources of the bootstrap, and those of the control plane.
    fn split(&self, type_url: &str) -> (Vec<Named<'_>>, Vec<Named<'_>>) {
        self.resources.of(type_url).filter(|(name, _)| name.contains(self.name)).partition(|(_, raw)| raw.is_static)
    }

    fn version(&self, type_url: &str) -> String {
        let newest = self.resources.of(type_url).filter(|(_, raw)| !raw.is_static).max_by_key(|(_, raw)| raw.updated);
        newest.map(|(_, raw)| raw.version.clone()).unwrap_or_default()
    }

    fn clusters(&self) -> Value {
        let (fixed, dynamic) = self.split(types::CLUSTER);
        let dynamic: Vec<Value> = dynamic
            .into_iter()
            .map(|(name, raw)| with_refusal(versioned("cluster", raw), self.resources.refusal(types::CLUSTER, name)))
            .chain(self.resources.only_refused(types::CLUSTER).map(|(_, refusal)| json!({ "error_state": error_state(refusal), "client_status": "NACKED" })))
            .collect();
        json!({
            "@type": at("ClustersConfigDump"),
            "version_info": self.version(types::CLUSTER),
            "static_clusters": fixed.into_iter().map(|(_, raw)| fixed_json("cluster", raw)).collect::<Vec<_>>(),
            "dynamic_active_clusters": dynamic,
        })
    }

    fn listeners(&self) -> Value {
        let (fixed, dynamic) = self.split(types::LISTENER);
        let dynamic: Vec<Value> = dynamic
            .into_iter()
            .map(|(name, raw)| with_refusal(json!({ "name": name, "active_state": versioned("listener", raw) }), self.resources.refusal(types::LISTENER, name)))
            .chain(self.resources.only_refused(types::LISTENER).map(|(name, refusal)| json!({ "name": name, "error_state": error_state(refusal) })))
            .collect();
        json!({
            "@type": at("ListenersConfigDump"),
            "version_info": self.version(types::LISTENER),
            "static_listeners": fixed.into_iter().map(|(_, raw)| fixed_json("listener", raw)).collect::<Vec<_>>(),
            "dynamic_listeners": dynamic,
        })
    }

    fn routes(&self) -> Value {
        let (fixed, dynamic) = self.split(types::ROUTE);
        json!({
            "@type": at("RoutesConfigDump"),
            "static_route_configs": fixed.into_iter().map(|(_, raw)| fixed_json("route_config", raw)).collect::<Vec<_>>(),
            "dynamic_route_configs": dynamic.into_iter().map(|(name, raw)| with_refusal(versioned("route_config", raw), self.resources.refusal(types::ROUTE, name))).collect::<Vec<_>>(),
        })
    }

    fn endpoints(&self) -> Value {
        let (_, dynamic) = self.split(types::ENDPOINT);
        json!({
            "@type": at("EndpointsConfigDump"),
            "dynamic_endpoint_configs": dynamic.into_iter().map(|(_, raw)| versioned("endpoint_config", raw)).collect::<Vec<_>>(),
        })
    }

    fn secrets(&self) -> Value {
        let (fixed, dynamic) = self.split(types::SECRET);
        let secret = |(name, raw): (&String, &Raw)| {
            let mut value = versioned("secret", raw);
            redact(&mut value);
            if let Value::Object(fields) = &mut value {
                fields.insert("name".into(), name.as_str().into());
            }
            value
        };
        json!({
            "@type": at("SecretsConfigDump"),
            "static_secrets": fixed.into_iter().map(secret).collect::<Vec<_>>(),
            "dynamic_active_secrets": dynamic.into_iter().map(secret).collect::<Vec<_>>(),
        })
    }
}

fn body(any: &Any) -> Value {
    snake(serde_json::to_value(any).unwrap_or_else(|error| json!({ "@type": any.type_url, "error": error.to_string() })))
}

fn versioned(field: &str, raw: &Raw) -> Value {
    json!({ "version_info": raw.version, field: body(&raw.body), "last_updated": time_text(raw.updated) })
}

fn fixed_json(field: &str, raw: &Raw) -> Value {
    json!({ field: body(&raw.body), "last_updated": time_text(raw.updated) })
}

fn error_state(refusal: &Refusal) -> Value {
    json!({
        "failed_configuration": body(&refusal.body),
        "last_update_attempt": time_text(refusal.at),
        "details": refusal.why,
        "version_info": refusal.version,
    })
}

fn with_refusal(mut value: Value, refusal: Option<&Refusal>) -> Value {
    if let (Value::Object(fields), Some(refusal)) = (&mut value, refusal) {
        fields.insert("error_state".into(), error_state(refusal));
        fields.insert("client_status".into(), "NACKED".into());
    }
    value
}

/// Replaces private keys by Envoy's word for it.
fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(key) = fields.get_mut("private_key") {
                // Base64 of «[redacted]», because the field holds bytes.
                *key = json!({ "inline_bytes": "W3JlZGFjdGVkXQ==" });
            }
            fields.values_mut().for_each(redact);
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Field names as Envoy prints them (`snake_case`). Keys inside free-form structures are data and stay.
pub fn snake(value: Value) -> Value {
    convert(value, false)
}

fn convert(value: Value, transport_matches: bool) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(|item| convert(item, transport_matches)).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| {
                    let name = snake_key(&key);
                    let free = matches!(name.as_str(), "metadata" | "filter_metadata" | "json_format") || (transport_matches && name == "match");
                    let value = if free && name != "metadata" { value } else if free { metadata(value) } else { convert(value, name == "transport_socket_matches") };
                    (name, value)
                })
                .collect(),
        ),
        other => other,
    }
}

/// A `core.v3.Metadata`, whose own fields are converted, or a node's free-form structure, which is left alone.
fn metadata(value: Value) -> Value {
    let Value::Object(fields) = value else { return convert(value, false) };
    Value::Object(fields.into_iter().map(|(key, value)| (if key == "filterMetadata" { "filter_metadata".into() } else { key }, value)).collect())
}

fn snake_key(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_lowercase()) && key.bytes().all(|b| b.is_ascii_alphanumeric());
    if !plain {
        return key.to_owned();
    }
    let mut name = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_snake_case_and_free_form_keys_stay() {
        let value = json!({"lbPolicy": 1, "transportSocketMatches": [{"match": {"tlsMode": "istio"}}], "metadata": {"filterMetadata": {"istio": {"someKey": 1}}}});
        let expected = json!({"lb_policy": 1, "transport_socket_matches": [{"match": {"tlsMode": "istio"}}], "metadata": {"filter_metadata": {"istio": {"someKey": 1}}}});
        assert_eq!(snake(value), expected);
    }

    #[test]
    fn private_keys_are_not_shown() {
        let mut value = json!({"secret": {"tls_certificate": {"private_key": {"inline_bytes": "c2VjcmV0"}}}});
        redact(&mut value);
        assert!(!value.to_string().contains("c2VjcmV0"));
    }
}
