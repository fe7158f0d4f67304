//! AuthorizationPolicies must lower to just the RBAC filters that Istio writes for them.
//!
//! - Reads: `../shared/data/authz/index.json` beside the repository; without it the test says so and passes.

use std::path::{Path, PathBuf};

use lateen_envoy_api::envoy::extensions::filters::{http::rbac::v3::Rbac as HttpRbac, network::rbac::v3::Rbac as NetworkRbac};
use lateen_kinds::authorization_policy::{AuthorizationPolicyKind, rbac};
use lateen_kinds::decode::decode;
use serde_json::Value;

fn data() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    path.join("authz/index.json").exists().then_some(path)
}

#[test]
fn filters_are_those_of_istio() {
    let Some(data) = data() else {
        eprintln!("skipped: ../shared/data/authz is not here");
        return;
    };
    let index: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(data.join("authz/index.json")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for case in &index {
        let text = std::fs::read_to_string(data.join(case["input"].as_str().unwrap())).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let policies: Vec<_> = documents.iter().filter(|value| !value.is_null()).map(|value| decode::<AuthorizationPolicyKind>(value).unwrap()).collect();
        let policies: Vec<_> = policies.iter().collect();
        let trust_domains: Vec<String> = serde_json::from_value(case["trust_domains"].clone()).unwrap_or_default();
        let expected: Vec<Value> = case["istio_filters"].as_array().unwrap().iter().map(|filter| filter["typedConfig"].clone()).collect();
        let same = if case["protocol"] == "http" {
            let expected: Vec<HttpRbac> = expected.into_iter().map(message).collect();
            rbac::http_filters(&policies, &trust_domains) == expected
        } else {
            let expected: Vec<NetworkRbac> = expected.into_iter().map(message).collect();
            rbac::network_filters(&policies, &trust_domains) == expected
        };
        if !same {
            wrong.push(case["name"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "{} of {} cases differ", wrong.len(), index.len());
}

fn message<T: serde::de::DeserializeOwned>(mut value: Value) -> T {
    value.as_object_mut().unwrap().remove("@type");
    serde_json::from_value(value).unwrap()
}
