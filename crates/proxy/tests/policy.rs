//! Policy is judged per request by the plan in force, on idle connections too.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use support::{CLUSTER, ControlPlane, LISTENER, Proxy, cluster, connect, eventually, get, http_backend, listener, say, typed};

const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";

/// A listener whose authorization has this action and no policies: `ALLOW` refuses everything, `DENY` nothing.
fn with_action(at: std::net::SocketAddr, action: &str) -> Value {
    let hcm = json!({"name": "hcm", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "t",
        "http_filters": [
            {"name": "rbac", "typed_config": {"@type": RBAC, "rules": {"action": action}}},
            {"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
        ],
        "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}]},
    }});
    typed(LISTENER, listener("l", at, json!([{"filters": [hcm]}])))
}

fn free_port() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[test]
fn idle_connections_obey_the_new_policy_with_their_next_request() {
    let at = free_port();
    let plane = ControlPlane::start();
    plane.set("up", &typed(CLUSTER, cluster("up", &[http_backend("one")])));
    plane.set("l", &with_action(at, "DENY"));
    plane.publish("1");
    let proxy = Proxy::from_json(plane.bootstrap("DELTA_GRPC"));
    proxy.wait_admin("/ready", |text| text.contains("LIVE").then_some(()));
    eventually(|| get(at, "/").starts_with("HTTP/1.1 200").then_some(()));
    let mut idle: Vec<_> = (0..10).map(|_| connect(at)).collect();
    assert!(idle.iter_mut().all(|tcp| say(tcp, REQUEST).starts_with("HTTP/1.1 200")));
    plane.set("l", &with_action(at, "ALLOW"));
    plane.publish("2");
    eventually(|| get(at, "/").starts_with("HTTP/1.1 403").then_some(()));
    for tcp in &mut idle {
        let answer = say(tcp, REQUEST);
        assert!(answer.starts_with("HTTP/1.1 403") && answer.ends_with("RBAC: access denied"), "{answer}");
    }
}

#[test]
fn connections_that_would_not_be_let_in_now_are_closed_unanswered() {
    let at = free_port();
    let plane = ControlPlane::start();
    plane.set("up", &typed(CLUSTER, cluster("up", &[http_backend("one")])));
    plane.set("l", &with_action(at, "DENY"));
    plane.publish("1");
    let proxy = Proxy::from_json(plane.bootstrap("DELTA_GRPC"));
    proxy.wait_admin("/ready", |text| text.contains("LIVE").then_some(()));
    eventually(|| get(at, "/").starts_with("HTTP/1.1 200").then_some(()));
    let mut idle = connect(at);
    assert!(say(&mut idle, REQUEST).starts_with("HTTP/1.1 200"));
    // From now on the only chain takes TLS, as under STRICT.
    let mut strict = with_action(at, "DENY");
    strict["filter_chains"][0]["filter_chain_match"] = json!({"transport_protocol": "tls"});
    strict["listener_filters"] = json!([{"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}]);
    plane.set("l", &strict);
    plane.publish("2");
    eventually(|| (!get(at, "/").starts_with("HTTP/1.1 200")).then_some(()));
    idle.write_all(REQUEST.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = idle.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}
