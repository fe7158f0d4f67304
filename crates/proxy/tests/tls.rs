//! Mutual TLS over real sockets: both directions, identities, server names, ALPN.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};

use serde_json::{Value, json};
use support::{Ca, Proxy, any_port, cluster, connect, downstream_tls, echo, get, listener, say, tcp_proxy, upstream_tls, with};

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/frontend";
const SERVER: &str = "spiffe://cluster.local/ns/default/sa/backend";

fn tls_inspector(listener: Value) -> Value {
    with(listener, "listener_filters", json!([
        {"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}]))
}

/// A proxy that takes mutual TLS and forwards to `name`.
fn server(ca: &Ca, accepts: Option<&str>) -> Proxy {
    let chain = json!({"filters": [tcp_proxy("app")], "transport_socket": downstream_tls(ca.context(SERVER, accepts, &["istio"]), true)});
    Proxy::start(vec![listener("in", any_port(), json!([chain]))], vec![cluster("app", &[echo("app")])])
}

/// A proxy that dials `upstream` with mutual TLS.
fn client(ca: &Ca, upstream: std::net::SocketAddr, expects: &str) -> Proxy {
    let up = with(cluster("up", &[upstream]), "transport_socket", upstream_tls(ca.context(CLIENT, Some(expects), &["istio"]), "outbound_.80_._.backend.default.svc.cluster.local"));
    Proxy::start(vec![listener("out", any_port(), json!([{"filters": [tcp_proxy("up")]}]))], vec![up])
}

fn refused(proxy: &Proxy) -> bool {
    let mut tcp = connect(proxy.at("out"));
    let _ = tcp.write_all(b"x");
    !matches!(tcp.read(&mut [0u8; 1]), Ok(n) if n > 0)
}

#[test]
fn two_proxies_speak_mutual_tls() {
    let ca = Ca::new();
    let inbound = server(&ca, Some(CLIENT));
    let outbound = client(&ca, inbound.at("in"), SERVER);
    assert_eq!(say(&mut connect(outbound.at("out")), "hi"), "app:hi");
    assert!(get(outbound.admin(), "/stats").contains("cluster.up.ssl.handshake: 1"));
}

#[test]
fn a_server_with_another_identity_is_refused() {
    let ca = Ca::new();
    let inbound = server(&ca, None);
    let outbound = client(&ca, inbound.at("in"), "spiffe://cluster.local/ns/default/sa/someone-else");
    assert!(refused(&outbound));
    assert!(get(outbound.admin(), "/stats").contains("cluster.up.ssl.fail_verify_san: 1"));
}

#[test]
fn a_client_with_another_identity_is_refused() {
    let ca = Ca::new();
    let inbound = server(&ca, Some("spiffe://cluster.local/ns/default/sa/someone-else"));
    let outbound = client(&ca, inbound.at("in"), SERVER);
    assert!(refused(&outbound));
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let inbound = server(&theirs, None);
    let outbound = client(&ours, inbound.at("in"), SERVER);
    assert!(refused(&outbound));
}

#[test]
fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let ca = Ca::new();
    let inbound = server(&ca, None);
    let context = json!({"alpn_protocols": ["istio"], "validation_context": {"trusted_ca": {"inline_string": ca.pem()}}});
    let up = with(cluster("up", &[inbound.at("in")]), "transport_socket", upstream_tls(context, "x"));
    let outbound = Proxy::start(vec![listener("out", any_port(), json!([{"filters": [tcp_proxy("up")]}]))], vec![up]);
    assert!(refused(&outbound));
}

#[test]
fn plaintext_to_a_tls_only_listener_is_reset() {
    let ca = Ca::new();
    let chain = json!({"filter_chain_match": {"transport_protocol": "tls"}, "filters": [tcp_proxy("app")], "transport_socket": downstream_tls(ca.context(SERVER, None, &[]), true)});
    let proxy = Proxy::start(vec![tls_inspector(listener("in", any_port(), json!([chain])))], vec![cluster("app", &[echo("app")])]);
    let mut tcp = connect(proxy.at("in"));
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(tcp.read(&mut [0u8; 1]).is_err(), "a reset, not an orderly end");
}

#[test]
fn the_server_name_and_alpn_choose_the_chain() {
    let ca = Ca::new();
    let chain = |cluster: &str, matches: Value| json!({"filter_chain_match": matches, "filters": [tcp_proxy(cluster)], "transport_socket": downstream_tls(ca.context(SERVER, None, &["istio", "other"]), true)});
    let chains = json!([
        chain("named", json!({"transport_protocol": "tls", "server_names": ["a.example"]})),
        chain("alpn", json!({"transport_protocol": "tls", "application_protocols": ["istio"]})),
        chain("rest", json!({"transport_protocol": "tls"})),
        {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [tcp_proxy("plain")]}]);
    let inbound = Proxy::start(
        vec![tls_inspector(listener("in", any_port(), chains))],
        ["named", "alpn", "rest", "plain"].map(|n| cluster(n, &[echo(n)])).into(),
    );
    let through = |sni: &str, alpn: &str| {
        let up = with(cluster("up", &[inbound.at("in")]), "transport_socket", upstream_tls(ca.context(CLIENT, None, &[alpn]), sni));
        let outbound = Proxy::start(vec![listener("out", any_port(), json!([{"filters": [tcp_proxy("up")]}]))], vec![up]);
        say(&mut connect(outbound.at("out")), "x")
    };
    assert_eq!(through("a.example", "istio"), "named:x");
    assert_eq!(through("b.example", "istio"), "alpn:x");
    assert_eq!(through("b.example", "other"), "rest:x");
    assert_eq!(say(&mut connect(inbound.at("in")), "x"), "plain:x");
}
