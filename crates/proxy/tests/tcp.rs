//! TCP proxying over real sockets: both ways, half-close, failures, server-first protocols, network RBAC.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;

use serde_json::json;
use support::{Proxy, any_port, cluster, connect, echo, get, greeter, hear, listener, network_rbac, say, tcp_proxy, with};

#[test]
fn bytes_go_both_ways_and_a_half_close_is_passed_on() {
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [tcp_proxy("up")]}]))], vec![cluster("up", &[echo("a")])]);
    let mut tcp = connect(proxy.at("l"));
    assert_eq!(say(&mut tcp, "hello"), "a:hello");
    tcp.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear(&mut tcp), "bye from a");
    assert_eq!(hear(&mut tcp), "");
}

#[test]
fn a_large_transfer_arrives_whole() {
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [tcp_proxy("up")]}]))], vec![cluster("up", &[greeter("ready")])]);
    let mut tcp = connect(proxy.at("l"));
    assert_eq!(hear(&mut tcp), "ready");
    tcp.write_all(&[b'x'; 64]).unwrap();
    let mut all = Vec::new();
    tcp.read_to_end(&mut all).unwrap();
    assert_eq!(all, [b'x'; 64]);
}

#[test]
fn a_refused_upstream_resets_the_client() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [tcp_proxy("up")]}]))], vec![cluster("up", &[dead])]);
    let mut tcp = connect(proxy.at("l"));
    let error = tcp.read(&mut [0u8; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let clusters = get(proxy.admin(), "/clusters");
    assert!(clusters.contains(&format!("up::{dead}::cx_connect_fail::1")), "{clusters}");
}

#[test]
fn weighted_clusters_get_their_shares() {
    let two = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp",
        "weighted_clusters": {"clusters": [{"name": "a", "weight": 50}, {"name": "b", "weight": 50}]}}});
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [two]}]))], vec![cluster("a", &[echo("a")]), cluster("b", &[echo("b")])]);
    let to_a = (0..60).filter(|_| say(&mut connect(proxy.at("l")), "x") == "a:x").count();
    // 4 sigma of 60 draws at one half.
    assert!((14..=46).contains(&to_a), "{to_a} of 60");
}

/// Inspectors on a listener whose plaintext chain is TCP.
fn inspected(chains: serde_json::Value) -> serde_json::Value {
    with(listener("l", any_port(), chains), "listener_filters", json!([
        {"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}},
        {"name": "envoy.filters.listener.http_inspector", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"}}]))
}

#[test]
fn a_server_that_speaks_first_does_not_hang_behind_inspectors() {
    let listener = with(inspected(json!([{"filters": [tcp_proxy("up")]}])), "listener_filters_timeout", json!("0s"));
    let proxy = Proxy::start(vec![listener], vec![cluster("up", &[greeter("220 ready\r\n")])]);
    for _ in 0..3 {
        let mut tcp = connect(proxy.at("l"));
        assert_eq!(hear(&mut tcp), "220 ready\r\n");
        assert_eq!(say(&mut tcp, "HELO x\r\n"), "HELO x\r\n");
    }
}

#[test]
fn a_client_that_is_slow_to_speak_is_still_inspected() {
    let chains = json!([
        {"filter_chain_match": {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1"]}, "filters": [tcp_proxy("http")]},
        {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [tcp_proxy("tcp")]}]);
    let proxy = Proxy::start(
        vec![with(inspected(chains), "listener_filters_timeout", json!("0s"))],
        vec![cluster("http", &[echo("http")]), cluster("tcp", &[echo("tcp")])],
    );
    let mut tcp = connect(proxy.at("l"));
    // The early upstream connection is opened while the client is silent; only then does the client speak.
    proxy.wait_admin("/clusters", |text| text.lines().any(|l| l.starts_with("tcp::") && l.ends_with("cx_active::1")).then_some(()));
    assert!(say(&mut tcp, "GET / HTTP/1.1\r\n\r\n").starts_with("http:GET"));
    let mut other = connect(proxy.at("l"));
    assert_eq!(say(&mut other, "\x00\x01binary"), "tcp:\x00\x01binary");
}

#[test]
fn network_rbac_refuses_connections() {
    let deny = network_rbac("DENY", json!([{"any": true}]));
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [deny, tcp_proxy("up")]}]))], vec![cluster("up", &[echo("a")])]);
    let mut tcp = connect(proxy.at("l"));
    let refused = match tcp.read(&mut [0u8; 1]) {
        Ok(n) => n == 0,
        Err(_) => true,
    };
    assert!(refused);
}

#[test]
fn the_connection_limit_refuses_the_second_connection() {
    let limited = with(cluster("up", &[echo("a")]), "circuit_breakers", json!({"thresholds": [{"max_connections": 1}]}));
    let proxy = Proxy::start(vec![listener("l", any_port(), json!([{"filters": [tcp_proxy("up")]}]))], vec![limited]);
    let mut first = connect(proxy.at("l"));
    assert_eq!(say(&mut first, "1"), "a:1");
    let mut second = connect(proxy.at("l"));
    assert!(second.read(&mut [0u8; 1]).is_err());
    assert!(get(proxy.admin(), "/stats").contains("cluster.up.upstream_cx_overflow: 1"));
}

#[test]
fn istios_tcp_metrics_count_connections_and_bytes() {
    let stats = json!({"name": "istio.stats", "typed_config": {"@type": "type.googleapis.com/stats.PluginConfig"}});
    let inbound = with(listener("l", any_port(), json!([{"filters": [stats, tcp_proxy("up")]}])), "traffic_direction", json!("INBOUND"));
    let proxy = Proxy::start(vec![inbound], vec![cluster("up", &[echo("a")])]);
    let mut tcp = connect(proxy.at("l"));
    assert_eq!(say(&mut tcp, "hello"), "a:hello");
    drop(tcp);
    let metric = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name))?.to_owned();
        line.contains("reporter=\"destination\"").then(|| line.rsplit(' ').next().unwrap().to_owned())
    };
    proxy.wait_admin("/stats/prometheus", |text| (metric(text, "istio_tcp_connections_closed_total")? == "1").then_some(()));
    let text = get(proxy.admin(), "/stats/prometheus");
    assert_eq!(metric(&text, "istio_tcp_connections_opened_total").as_deref(), Some("1"));
    assert_eq!(metric(&text, "istio_tcp_received_bytes_total").as_deref(), Some("5"));
    assert!(text.contains("envoy_cluster_upstream_cx_total{cluster_name=\"up\"} 1"), "{text}");
}

#[test]
fn socket_options_are_set_by_number_and_a_refused_one_fails_the_connection() {
    let bound = |name: i64| with(cluster("up", &[echo("a")]), "upstream_bind_config", json!({
        "source_address": {"address": "127.0.0.6", "port_value": 0},
        "socket_options": [{"level": 1, "name": name, "int_value": 1, "state": "STATE_PREBIND"}]}));
    let start = |name| Proxy::start(vec![listener("l", any_port(), json!([{"filters": [tcp_proxy("up")]}]))], vec![bound(name)]);
    // SO_KEEPALIVE (9) is there, 999 is not.
    let good = start(9);
    assert_eq!(say(&mut connect(good.at("l")), "x"), "a:x");
    let bad = start(999);
    assert!(connect(bad.at("l")).read(&mut [0u8; 1]).is_err());
    assert!(get(bad.admin(), "/stats").contains("cluster.up.upstream_cx_connect_fail: 1"));
}
