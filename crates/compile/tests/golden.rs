//! Golden cases: `tests/golden/<feature>/<case>/{input,proxy,expected}.yaml`.
//!
//! - Rule: `UPDATE_GOLDEN=1 cargo test -p lateen-compile --test golden` rewrites `expected.yaml`; a human reads the diff.
//! - Rule: a case shows only the resource types its README speaks of (`show` in `proxy.yaml`).

mod common;

use lateen_compile::{Named, Resources, compile};
use lateen_mesh::MeshConfig;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The asking node, and what the case shows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asking {
    role: String,
    address: String,
    pod: String,
    namespace: String,
    service_account: String,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    istio_filters: bool,
    show: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn cases() -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
        all.sort();
        all
    };
    folders(&root()).iter().flat_map(|feature| folders(feature)).collect()
}

fn shown(resources: &Resources, show: &[String]) -> Value {
    let named = |name: &str| -> &Named {
        match name {
            "listeners" => &resources.listeners,
            "routes" => &resources.routes,
            "clusters" => &resources.clusters,
            "endpoints" => &resources.endpoints,
            "secrets" => &resources.secrets,
            "nameTable" => &resources.name_table,
            other => panic!("show: {other} is no resource type"),
        }
    };
    let all: Map<String, Value> = show.iter().map(|name| (name.clone(), serde_json::to_value(common::json(named(name))).unwrap())).collect();
    Value::Object(all)
}

#[test]
fn every_case_compiles_to_what_is_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 11, "golden cases are missing from {}", root().display());
    for case in cases {
        let read = |name: &str| fs::read_to_string(case.join(name)).unwrap_or_else(|e| panic!("{}/{name}: {e}", case.display()));
        assert!(!read("README.md").trim().is_empty(), "{}: the README says why the case exists", case.display());
        let asking: Asking = serde_json::from_value(common::documents(&[&read("proxy.yaml")]).remove(0)).unwrap();
        let labels: Vec<(&str, &str)> = asking.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let proxy = common::proxy(&asking.role, &asking.address, (&asking.pod, &asking.namespace), &asking.service_account, &labels, asking.istio_filters);
        let config = MeshConfig::from_json(serde_json::json!({"accessLogFile": ""})).unwrap();
        let snapshot = common::snapshot(&common::documents(&[&read("input.yaml")]), config);
        let found = shown(&compile(&snapshot, &proxy), &asking.show);
        if update {
            fs::write(case.join("expected.yaml"), serde_saphyr::to_string(&found).unwrap()).unwrap();
        }
        let expected = common::documents(&[&read("expected.yaml")]).remove(0);
        if expected != found {
            wrong.push(case.strip_prefix(root()).unwrap().display().to_string());
        }
    }
    assert!(wrong.is_empty(), "these cases compile to something else; look at the diff after UPDATE_GOLDEN=1: {wrong:?}");
}

#[test]
fn the_same_input_has_the_same_versions() {
    let input = fs::read_to_string(root().join("canary/weights_90_10/input.yaml")).unwrap();
    let compiled = || {
        let snapshot = common::snapshot(&common::documents(&[&input]), MeshConfig::default());
        compile(&snapshot, &common::proxy("sidecar", "10.244.0.5", ("frontend-x", "default"), "frontend", &[("app", "frontend")], true))
    };
    let versions = |resources: &Resources| -> Vec<u64> {
        [&resources.clusters, &resources.endpoints, &resources.listeners, &resources.routes, &resources.name_table].iter().flat_map(|n| n.values()).map(|r| r.version).collect()
    };
    assert_eq!(versions(&compiled()), versions(&compiled()));
}

#[test]
fn stock_envoy_gets_no_istio_filter() {
    let input = fs::read_to_string(root().join("canary/weights_90_10/input.yaml")).unwrap();
    let snapshot = common::snapshot(&common::documents(&[&input]), MeshConfig::default());
    let resources = compile(&snapshot, &common::proxy("sidecar", "10.244.0.11", ("backend-v1-x", "default"), "backend", &[("app", "backend")], false));
    let text = serde_json::to_string(&common::json(&resources.listeners)).unwrap();
    for name in ["istio.stats", "istio.alpn", "istio.metadata_exchange"] {
        assert!(!text.contains(name), "{name} was sent");
    }
}
