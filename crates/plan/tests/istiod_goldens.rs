//! Facts about resources that a real istiod wrote: this plan accepts them, but for what it refuses on purpose.
//!
//! - Reads: the recorded resources beside the repository; absent there, the test says so and passes.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use lateen_envoy_api::Any;
use lateen_envoy_api::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use lateen_plan::{PlanBuilder, Resource};
use prost::Message;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/xds-golden");

/// What is refused on purpose: the text of the refusal, and the cases in which it may appear.
const REFUSED: &[(&str, &str)] = &[
    ("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", "35-requestauth-jwt"),
    ("fetching the settings of `extensions.istio.io/trafficextension", "63-wasmplugin"),
    ("envoy.access_loggers.extension_filters.cel", "60-telemetry-accesslog-tracing"),
];

/// Recorded JSON that names fields which the generated messages lack.
const UNREADABLE: &[(&str, &str)] = &[
    // Overrides of Istio's metrics, asked for by a Telemetry resource.
    ("stats.PluginConfig: unknown field `metrics`", "60-telemetry-accesslog-tracing"),
];

#[test]
fn recorded_resources_are_accepted() {
    let Ok(cases) = fs::read_dir(RECORDED) else {
        eprintln!("skipped: {RECORDED} is not there");
        return;
    };
    let mut count = 0;
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in cases.flatten().filter(|c| c.path().is_dir()) {
        for proxy in fs::read_dir(case.path()).unwrap().flatten().filter(|p| p.path().is_dir()) {
            let mut builder = PlanBuilder::default();
            for kind in ["cds", "eds", "lds", "rds", "sds"] {
                let place = format!("{}/{}/{kind}", case.file_name().display(), proxy.file_name().display());
                count += apply(&mut builder, &proxy.path().join(format!("{kind}.json")), &place, &mut wrong);
            }
        }
    }
    assert!(count > 5_000, "only {count} resources were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn apply(builder: &mut PlanBuilder, file: &Path, place: &str, wrong: &mut BTreeMap<String, Vec<String>>) -> usize {
    let Ok(text) = fs::read_to_string(file) else { return 0 };
    let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    for json in &list {
        let body: Any = match serde_json::from_value(json.clone()) {
            Ok(body) => body,
            Err(error) => {
                let text = error.to_string();
                if !UNREADABLE.iter().any(|(part, case)| text.contains(part) && place.starts_with(case)) {
                    wrong.entry(text).or_default().push(place.to_owned());
                }
                continue;
            }
        };
        let type_url = body.type_url.clone();
        let applied = builder.apply(&type_url, &[Resource { name: String::new(), version: String::new(), body }], &[]);
        for rejected in applied.rejected {
            let expected = |(text, case): &&(&str, &str)| rejected.why.contains(text) && place.starts_with(case);
            if !REFUSED.iter().any(|r| expected(&r)) {
                wrong.entry(rejected.why.clone()).or_default().push(format!("{place}: {rejected}"));
            }
        }
    }
    list.len()
}

#[test]
fn recorded_authorization_filters_are_accepted() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/authz/index.json");
    let Ok(text) = fs::read_to_string(file) else {
        eprintln!("skipped: {file} is not there");
        return;
    };
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in &cases {
        for filter in case["istio_filters"].as_array().into_iter().flatten() {
            if !filter["typedConfig"]["@type"].as_str().is_some_and(|t| t.ends_with("http.rbac.v3.RBAC")) {
                continue;
            }
            let Ok(body) = serde_json::from_value::<Any>(filter["typedConfig"].clone()) else { continue };
            let Ok(http) = HttpRbac::decode(body.value.as_ref()) else { continue };
            count += 1;
            if let Err(error) = lateen_plan::rbac::rbac(&http) {
                wrong.push(format!("{}: {}: {}", case["name"], error.field, error.why));
            }
        }
    }
    assert!(count > 0 && wrong.is_empty(), "{count} filters: {}", wrong.join("\n"));
}
