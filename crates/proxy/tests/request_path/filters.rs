//! Faults, cross-origin rules, authorization.

use crate::support::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

fn always() -> Value {
    json!({"numerator": 100, "denominator": "HUNDRED"})
}

fn with_fault(origin: &Origin, fault: Value, action: Value) -> Proxy {
    let mut route = to("/", "o", action);
    let mut config = fault;
    config["@type"] = json!(format!("type.googleapis.com/{FAULT}"));
    route["typed_per_filter_config"] = json!({"envoy.filters.http.fault": config});
    Setup { routes: vec![route], filters: vec![filter("envoy.filters.http.fault", FAULT, json!({}))], ..Setup::one(origin.address) }.start()
}

#[test]
fn an_abort_is_fi_and_reaches_no_origin() {
    let origin = Origin::saying("x");
    let proxy = with_fault(&origin, json!({"abort": {"http_status": 418, "percentage": always()}}), json!({}));
    let got = proxy.get("/", "");
    assert_eq!((got.status(), got.text().as_str(), origin.count()), (418, "fault filter abort", 0));
    assert_eq!(proxy.logged(), "418 FI fault_filter_abort");
}

#[test]
fn a_delay_does_not_count_against_the_timeout() {
    let origin = Origin::saying("x");
    let proxy = with_fault(&origin, json!({"delay": {"fixed_delay": "0.4s", "percentage": always()}}), json!({"timeout": "0.2s"}));
    let begun = Instant::now();
    assert_eq!(proxy.get("/", "").status(), 200);
    assert!(begun.elapsed() >= Duration::from_millis(395), "{:?}", begun.elapsed());
    assert_eq!(proxy.logged(), "200 DI via_upstream");
}

#[test]
fn a_grpc_abort_is_200_with_a_status() {
    let origin = Origin::saying("x");
    let proxy = with_fault(&origin, json!({"abort": {"grpc_status": 14, "percentage": always()}}), json!({}));
    let plain = proxy.get("/", "");
    assert_eq!((plain.status(), plain.text().as_str()), (200, "fault filter abort"));
    let grpc = proxy.get("/", "content-type: application/grpc\r\n");
    assert_eq!((grpc.status(), grpc.header("grpc-status"), grpc.header("grpc-message")), (200, Some("14"), Some("fault filter abort")));
}

#[test]
fn preflights_are_answered_and_answers_marked() {
    let origin = Origin::saying("x");
    let mut route = to("/", "o", json!({}));
    route["typed_per_filter_config"] = json!({"envoy.filters.http.cors": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": "http://a"}], "allow_methods": "GET,POST", "max_age": "60", "allow_credentials": true, "expose_headers": "x-e"}});
    let filters = vec![filter("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors", json!({}))];
    let proxy = Setup { routes: vec![route], filters, ..Setup::one(origin.address) }.start();
    let preflight = proxy.send("OPTIONS / HTTP/1.1\r\nhost: h\r\norigin: http://a\r\naccess-control-request-method: POST\r\n\r\n");
    assert_eq!((preflight.status(), preflight.header("access-control-allow-methods"), origin.count()), (200, Some("GET,POST"), 0));
    assert_eq!((preflight.header("access-control-allow-origin"), preflight.header("access-control-max-age")), (Some("http://a"), Some("60")));
    let got = proxy.get("/", "origin: http://a\r\n");
    assert_eq!((got.header("access-control-allow-origin"), got.header("access-control-expose-headers")), (Some("http://a"), Some("x-e")));
    assert_eq!(got.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(proxy.get("/", "origin: http://b\r\n").header("access-control-allow-origin"), None);
}

fn rbac(action: &str, policies: Value) -> Value {
    filter("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", json!({"rules": {"action": action, "policies": policies}}))
}

#[test]
fn a_denied_request_is_403_and_names_the_policy() {
    let origin = Origin::saying("x");
    let policy = json!({"ns[a]-policy[p]-rule[0]": {"permissions": [{"url_path": {"path": {"prefix": "/admin"}}}], "principals": [{"any": true}]}});
    let proxy = Setup { filters: vec![rbac("DENY", policy)], ..Setup::one(origin.address) }.start();
    assert_eq!(proxy.get("/public", "").status(), 200);
    for path in ["/admin", "/x/../admin", "/%61dmin/x?y"] {
        let got = proxy.get(path, "");
        assert_eq!((got.status(), got.text().as_str()), (403, "RBAC: access denied"), "{path}");
    }
    assert_eq!(origin.count(), 1);
    assert!(proxy.log(4)[1].starts_with("403 - rbac_access_denied_matched_policy[ns[a]-policy[p]-rule[0]]"));
}

#[test]
fn allow_nothing_refuses_everything() {
    let origin = Origin::saying("x");
    let proxy = Setup { filters: vec![rbac("ALLOW", json!({}))], ..Setup::one(origin.address) }.start();
    assert_eq!(proxy.get("/", "").status(), 403);
    assert_eq!(proxy.logged(), "403 - rbac_access_denied_matched_policy[none]");
}
