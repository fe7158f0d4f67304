//! What istiod generated for the same objects, compared field by field.
//!
//! - Reads: `../../../shared/data/xds-golden` beside this checkout; without it the test says so and passes.
//! - Rule: what differs on purpose is listed in [`normalize`] with its reason; everything else must be equal.

mod common;

use lateen_compile::{Named, compile};
use lateen_envoy_api::Any;
use lateen_mesh::{MeshConfig, Proxy};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Cases whose subject is not compiled: Wasm plugins, a tracing provider with CEL access logs, tokens.
const LEFT_OUT: [&str; 3] = ["63-wasmplugin", "60-telemetry-accesslog-tracing", "35-requestauth-jwt"];

fn folder() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/xds-golden");
    path.is_dir().then_some(path)
}

fn nodes() -> [(&'static str, Proxy); 4] {
    let app = |app: &'static str, version: &'static str| vec![("app", app), ("version", version), ("security.istio.io/tlsMode", "istio")];
    let edge = |app: &'static str, istio: &'static str| vec![("app", app), ("istio", istio), ("security.istio.io/tlsMode", "istio")];
    [
        ("sidecar-productpage", common::proxy("sidecar", "10.1.0.1", ("productpage-v1-aaaa", "default"), "bookinfo-productpage", &app("productpage", "v1"), true)),
        ("sidecar-reviews", common::proxy("sidecar", "10.1.0.11", ("reviews-v1-aaaa", "default"), "bookinfo-reviews", &app("reviews", "v1"), true)),
        ("gateway-ingress", common::proxy("router", "10.1.0.100", ("istio-ingressgateway-aaaa", "istio-system"), "istio-ingressgateway-service-account", &edge("istio-ingressgateway", "ingressgateway"), true)),
        ("gateway-egress", common::proxy("router", "10.1.0.101", ("istio-egressgateway-aaaa", "istio-system"), "istio-egressgateway-service-account", &edge("istio-egressgateway", "egressgateway"), true)),
    ]
}

/// Takes out what differs on purpose.
fn normalize(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(normalize);
            normalize_object(fields);
        }
        Value::Array(items) => {
            // Metadata over TCP is not spoken, so its filter is not sent.
            items.retain(|item| {
                let exchange = item["name"] == "istio.metadata_exchange";
                !(exchange && item["typedConfig"]["typeUrl"] == "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange")
            });
            items.iter_mut().for_each(normalize);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn normalize_object(fields: &mut Map<String, Value>) {
    // …nor its ALPN offered.
    if let Some(Value::Array(offers)) = fields.get_mut("alpnProtocols") {
        offers.retain(|offer| offer != "istio-peer-exchange");
        // A server also takes the mesh's own word, so that strict TLS libraries find a common protocol.
        if offers.first().is_some_and(|first| first == "h2") && offers.last().is_some_and(|last| last == "istio") {
            offers.pop();
        }
    }
    // There is no tracing provider whose spans the tags could be on.
    fields.remove("customTags");
    // Ours: the mark that keeps interception away, where Istio goes by user id.
    fields.remove("socketOptions");
    // Statistics only.
    if fields.get("filters").is_some_and(|f| f.as_array().is_some_and(Vec::is_empty)) {
        fields.remove("filters");
    }
    // A route's order of matchers means nothing: all must hold.
    if let Some(Value::Array(headers)) = fields.get_mut("headers") {
        headers.sort_by_key(|h| h["name"].as_str().unwrap_or_default().to_owned());
    }
}

fn theirs(path: &Path) -> BTreeMap<String, Value> {
    let Ok(text) = fs::read_to_string(path) else { return BTreeMap::new() };
    let list: Vec<Value> = serde_json::from_str(&text).unwrap();
    list.into_iter()
        .map(|value| {
            let any: Any = serde_json::from_value(value).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let mut json = common::any_json(&any);
            normalize(&mut json);
            let name = ["name", "clusterName"].iter().find_map(|key| json[*key].as_str()).unwrap_or_default().to_owned();
            (name, json)
        })
        .collect()
}

fn ours(named: &Named) -> BTreeMap<String, Value> {
    let mut all = common::json(named);
    all.values_mut().for_each(normalize);
    all
}

/// Paths at which two values differ, each with both values.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                differences(&format!("{path}.{key}"), a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), x, y, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => {
            let cut = |v: &Value| v.to_string().chars().take(300).collect::<String>();
            found.push(format!("{path}: ours {} istiod {}", cut(a), cut(b)));
        }
    }
}

fn compare(kind: &str, mut ours: BTreeMap<String, Value>, mut theirs: BTreeMap<String, Value>, found: &mut Vec<String>) {
    // Order of virtual hosts is no order of matching.
    if kind == "rds" {
        for config in ours.values_mut().chain(theirs.values_mut()) {
            if let Some(hosts) = config["virtualHosts"].as_array_mut() {
                hosts.sort_by_key(|h| h["name"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    for (name, value) in &ours {
        match theirs.get(name) {
            Some(other) => differences(&format!("{kind} {name}"), value, other, found),
            None => found.push(format!("{kind} {name}: only ours")),
        }
    }
    found.extend(theirs.keys().filter(|name| !ours.contains_key(*name)).map(|name| format!("{kind} {name}: only istiod's")));
}

#[test]
fn resources_equal_istiods() {
    let Some(folder) = folder() else {
        eprintln!("skipped: no recorded resources beside this checkout");
        return;
    };
    let base = fs::read_to_string(folder.join("_base.yaml")).unwrap();
    let mut found = Vec::new();
    let mut cases: Vec<String> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    cases.retain(|c| folder.join(c).join("input.yaml").exists() && !LEFT_OUT.contains(&c.as_str()));
    if let Ok(only) = std::env::var("CASE") {
        cases.retain(|c| c.contains(&only));
    }
    cases.sort();
    for case in &cases {
        let input = fs::read_to_string(folder.join(case).join("input.yaml")).unwrap();
        let mesh = fs::read_to_string(folder.join(case).join("mesh.yaml")).unwrap_or_default();
        let mut config = common::documents(&[&mesh]).into_iter().next().unwrap_or_else(|| serde_json::json!({}));
        config["accessLogFile"] = "".into();
        let snapshot = common::snapshot(&common::documents(&[&base, &input]), MeshConfig::from_json(config).unwrap());
        for (node, proxy) in nodes() {
            let resources = compile(&snapshot, &proxy);
            let at = folder.join(case).join(node);
            let mut here = Vec::new();
            for (kind, named) in [("cds", &resources.clusters), ("eds", &resources.endpoints), ("lds", &resources.listeners), ("rds", &resources.routes)] {
                compare(kind, ours(named), theirs(&at.join(format!("{kind}.json"))), &mut here);
            }
            if node == "sidecar-productpage" {
                compare("nds", ours(&resources.name_table), theirs(&at.join("nds.json")), &mut here);
            }
            found.extend(here.into_iter().map(|d| format!("{case} {node} {d}")));
        }
    }
    assert!(found.is_empty(), "{} differences in {} cases:\n{}", found.len(), cases.len(), found.join("\n"));
}
