//! HTTP through the whole proxy, over real sockets: what the parts on their own cannot show.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::{Proxy, any_port, cluster, connect, get, http_backend, http_to, listener, say, with};

#[test]
fn requests_on_one_connection_reach_the_backend() {
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [http_to("up")]}]))], vec![cluster("up", &[http_backend("one")])]);
    let mut tcp = connect(proxy.at("l"));
    for _ in 0..3 {
        let answer = say(&mut tcp, "GET /a HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("one"), "{answer}");
    }
    let stats = get(proxy.admin(), "/stats?usedonly");
    assert!(stats.contains("cluster.up.upstream_rq_total: 3"), "{stats}");
    assert!(stats.contains("cluster.up.upstream_cx_total: 1"), "{stats}");
}

#[test]
fn round_robin_takes_turns() {
    let up = with(cluster("up", &[http_backend("one"), http_backend("two"), http_backend("three")]), "lb_policy", json!("ROUND_ROBIN"));
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [http_to("up")]}]))], vec![up]);
    let mut tcp = connect(proxy.at("l"));
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..30 {
        let answer = say(&mut tcp, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        *counts.entry(answer.rsplit("\r\n").next().unwrap().to_owned()).or_default() += 1;
    }
    assert!(counts.values().all(|n| *n == 10) && counts.len() == 3, "{counts:?}");
}

#[test]
fn no_endpoint_is_503() {
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [http_to("up")]}]))], vec![cluster("up", &[])]);
    let answer = get(proxy.at("l"), "/");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("no healthy upstream"), "{answer}");
}

#[test]
fn a_name_is_resolved() {
    let backend = http_backend("named");
    let up = json!({"name": "up", "type": "STRICT_DNS", "connect_timeout": "5s", "dns_lookup_family": "V4_ONLY",
        "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "localhost", "port_value": backend.port()}}}}]}]}});
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [http_to("up")]}]))], vec![up]);
    let answer = support::eventually(|| Some(get(proxy.at("l"), "/")).filter(|a| a.starts_with("HTTP/1.1 200")));
    assert!(answer.ends_with("named"), "{answer}");
}

#[test]
fn quitquitquit_ends_the_proxy_and_needs_post() {
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [http_to("up")]}]))], vec![cluster("up", &[http_backend("one")])]);
    assert!(get(proxy.admin(), "/quitquitquit").starts_with("HTTP/1.1 405"));
    assert!(support::post(proxy.admin(), "/quitquitquit").ends_with("OK\n"));
    let at = proxy.at("l");
    support::eventually(|| std::net::TcpStream::connect(at).is_err().then_some(()));
}
