//! What routes do to requests and answers: rewrites, header changes, hashing, forwarding fields.

use crate::support::*;
use serde_json::json;

#[test]
fn paths_and_hosts_are_rewritten_and_remembered() {
    let origin = Origin::saying("x");
    let routes = vec![
        to("/old/", "o", json!({"prefix_rewrite": "/new/", "host_rewrite_literal": "other"})),
        to("/re", "o", json!({"regex_rewrite": {"pattern": {"regex": "^/re/(\\w+)/(\\w+)"}, "substitution": "/\\2/\\1"}})),
    ];
    let proxy = Setup { routes, ..Setup::one(origin.address) }.start();
    proxy.get("/old/a?b", "");
    let sent = origin.last();
    assert_eq!((sent.start.as_str(), sent.header("host")), ("GET /new/a?b HTTP/1.1", Some("other")));
    assert_eq!(sent.header("x-envoy-original-path"), Some("/old/a?b"));
    proxy.get("/re/one/two?q", "");
    assert_eq!(origin.last().start, "GET /two/one?q HTTP/1.1");
    assert!(proxy.log(2)[0].contains(" GET /old/a?b "));
}

#[test]
fn header_changes_apply_both_ways() {
    let origin = Origin::answering(|_, _| b"HTTP/1.1 200 OK\r\nx-gone: 1\r\nx-set: old\r\ncontent-length: 0\r\n\r\n".to_vec());
    let header = |key: &str, value: &str, action: &str| json!({"header": {"key": key, "value": value}, "append_action": action});
    let mut route = to("/", "o", json!({}));
    route["request_headers_to_add"] = json!([
        header("X-Add", "1", "APPEND_IF_EXISTS_OR_ADD"),
        header("x-set", "new", "OVERWRITE_IF_EXISTS_OR_ADD"),
        header("x-from", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "OVERWRITE_IF_EXISTS_OR_ADD"),
    ]);
    route["request_headers_to_remove"] = json!(["x-secret"]);
    route["response_headers_to_add"] = json!([header("x-set", "new", "OVERWRITE_IF_EXISTS_OR_ADD")]);
    route["response_headers_to_remove"] = json!(["x-gone"]);
    let proxy = Setup { routes: vec![route], ..Setup::one(origin.address) }.start();
    let got = proxy.get("/", "x-add: 0\r\nx-set: old\r\nx-secret: s\r\n");
    let sent = origin.last();
    let values = |name: &str| sent.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    assert_eq!((values("x-add"), values("x-set"), values("x-secret")), (vec!["0".into(), "1".into()], vec!["new".into()], vec![]));
    assert_eq!(sent.header("x-from"), Some("127.0.0.1"));
    assert_eq!((got.header("x-set"), got.header("x-gone")), (Some("new"), None));
}

#[test]
fn the_path_is_normalised_before_routing() {
    let origin = Origin::saying("x");
    let proxy = Setup { routes: vec![to("/public", "o", json!({}))], ..Setup::one(origin.address) }.start();
    assert_eq!(proxy.get("/public/../admin", "").status(), 404);
    assert_eq!(proxy.get("/admin/%2e%2e/public/x#frag", "").status(), 200);
    assert_eq!(origin.last().start, "GET /public/x HTTP/1.1");
    assert_eq!(proxy.get("/public%00", "").status(), 400);
}

#[test]
fn the_edge_forgets_what_outsiders_claim() {
    let origin = Origin::saying("x");
    let proxy = Setup { hcm: json!({"use_remote_address": true}), ..Setup::one(origin.address) }.start();
    proxy.get("/", "x-request-id: mine\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-envoy-retry-on: 5xx\r\nx-forwarded-client-cert: By=x\r\n");
    let sent = origin.last();
    assert_eq!((sent.header("x-forwarded-for"), sent.header("x-forwarded-proto")), (Some("1.2.3.4,127.0.0.1"), Some("http")));
    assert_eq!((sent.header("x-envoy-retry-on"), sent.header("x-forwarded-client-cert")), (None, None));
    assert_eq!(sent.header("x-envoy-external-address"), Some("127.0.0.1"));
    assert_eq!(sent.header("x-request-id").map(str::len), Some(36));
}

#[test]
fn a_cookie_made_by_the_proxy_keeps_the_endpoint() {
    let origins: Vec<Origin> = (0..4).map(|_| Origin::saying("x")).collect();
    let addresses: Vec<_> = origins.iter().map(|o| o.address).collect();
    let hash = json!({"hash_policy": [{"cookie": {"name": "who", "path": "/", "ttl": "60s"}}]});
    let setup = Setup { clusters: vec![cluster("o", &addresses, json!({"lb_policy": "RING_HASH"}))], routes: vec![to("/", "o", hash)], ..Setup::default() };
    let proxy = setup.start();
    let got = proxy.get("/", "");
    let cookie = got.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("; Max-Age=60") && cookie.contains("; Path=/") && cookie.ends_with("; HttpOnly"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    for _ in 0..20 {
        assert_eq!(proxy.get("/", &format!("cookie: {pair}\r\n")).header("set-cookie"), None);
    }
    let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
    assert_eq!(counts.iter().filter(|c| **c > 0).count(), 1, "{counts:?}");
}

#[test]
fn the_trace_operation_is_named_only_where_envoy_does() {
    let origin = Origin::answering(|_, _| b"HTTP/1.1 200 OK\r\nx-envoy-decorator-operation: theirs\r\ncontent-length: 0\r\n\r\n".to_vec());
    let mut route = to("/", "o", json!({}));
    route["decorator"] = json!({"operation": "op/*"});
    let proxy = Setup { routes: vec![route], hcm: json!({"tracing": {}}), ..Setup::one(origin.address) }.start();
    let got = proxy.get("/", "");
    assert_eq!(origin.last().header("x-envoy-decorator-operation"), Some("op/*"));
    assert_eq!(got.header("x-envoy-decorator-operation"), None);
}

#[test]
fn fields_that_steer_the_router_are_obeyed_and_taken_out() {
    let origin = Origin::answering(|_, number| if number < 3 { answer(500, "") } else { ok("x") });
    let routes = vec![to("/", "o", json!({"timeout": "5s", "retry_policy": {"retry_on": "connect-failure", "num_retries": 1}}))];
    let setup = Setup { routes, virtual_host: json!({"include_request_attempt_count": true}), ..Setup::one(origin.address) };
    let proxy = setup.start();
    let steering = "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3\r\nx-envoy-attempt-count: 9\r\nx-envoy-expected-rq-timeout-ms: 1\r\n";
    assert_eq!(proxy.get("/", steering).status(), 200);
    let sent = origin.last();
    let values = |name: &str| sent.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    assert_eq!((values("x-envoy-retry-on").len(), values("x-envoy-max-retries").len()), (0, 0));
    assert_eq!((values("x-envoy-attempt-count"), values("x-envoy-expected-rq-timeout-ms").len()), (vec!["3".to_owned()], 1));
}
