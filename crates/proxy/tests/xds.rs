//! Live configuration over real sockets: listeners, endpoints, secrets, refusals.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;

use serde_json::{Value, json};
use support::{
    CLUSTER, Ca, ControlPlane, ENDPOINTS, LISTENER, Proxy, SECRET, address, any_port, cluster, connect, downstream_tls, echo, eventually, get, listener,
    network_rbac, say, tcp_proxy, typed, upstream_tls, with,
};

fn eds_cluster(name: &str) -> Value {
    typed(CLUSTER, json!({"name": name, "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}}}))
}

fn endpoints(name: &str, at: &[SocketAddr]) -> Value {
    let list: Vec<Value> = at.iter().map(|a| json!({"endpoint": {"address": address(*a)}})).collect();
    typed(ENDPOINTS, json!({"cluster_name": name, "endpoints": [{"lb_endpoints": list}]}))
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn live(proxy: &Proxy) {
    proxy.wait_admin("/ready", |text| text.contains("LIVE").then_some(()));
}

fn serving(at: SocketAddr, text: &str) -> Option<()> {
    use std::io::{Read, Write};
    let mut tcp = std::net::TcpStream::connect(at).ok()?;
    tcp.write_all(b"x").ok()?;
    let mut buffer = [0u8; 64];
    let n = tcp.read(&mut buffer).ok()?;
    (&buffer[..n] == format!("{text}:x").as_bytes()).then_some(())
}

fn plane_with_one_listener(at: SocketAddr) -> ControlPlane {
    let plane = ControlPlane::start();
    plane.set("up", &eds_cluster("up"));
    plane.set("up", &endpoints("up", &[echo("one")]));
    plane.set("l", &typed(LISTENER, listener("l", at, json!([{"filters": [tcp_proxy("up")]}]))));
    plane.publish("1");
    plane
}

fn endpoint_update(api_type: &str) {
    let at = free_port();
    let plane = plane_with_one_listener(at);
    let proxy = Proxy::from_json(plane.bootstrap(api_type));
    live(&proxy);
    let mut kept = connect(at);
    assert_eq!(say(&mut kept, "x"), "one:x");
    plane.set("up", &endpoints("up", &[echo("two")]));
    plane.publish("2");
    eventually(|| serving(at, "two"));
    assert_eq!(say(&mut kept, "y"), "one:y", "an open connection outlives its endpoint's removal");
}

#[test]
fn endpoints_change_under_way_with_delta() {
    endpoint_update("DELTA_GRPC");
}

#[test]
fn endpoints_change_under_way_with_state_of_the_world() {
    endpoint_update("GRPC");
}

#[test]
fn a_changed_listener_drops_no_connection_and_a_removed_one_stops_listening() {
    let at = free_port();
    let plane = plane_with_one_listener(at);
    let proxy = Proxy::from_json(plane.bootstrap("DELTA_GRPC"));
    live(&proxy);
    let mut kept = connect(at);
    assert_eq!(say(&mut kept, "x"), "one:x");
    plane.set("other", &eds_cluster("other"));
    plane.set("other", &endpoints("other", &[echo("other")]));
    plane.set("l", &typed(LISTENER, listener("l", at, json!([{"filters": [tcp_proxy("other")]}]))));
    plane.publish("2");
    eventually(|| serving(at, "other"));
    assert_eq!(say(&mut kept, "y"), "one:y");
    plane.remove(lateen_xds::types::LISTENER, "l");
    plane.publish("3");
    eventually(|| std::net::TcpStream::connect(at).is_err().then_some(()));
    assert_eq!(say(&mut kept, "z"), "one:z");
}

#[test]
fn a_refused_listener_is_nacked_and_the_last_good_one_serves() {
    let at = free_port();
    let plane = plane_with_one_listener(at);
    let proxy = Proxy::from_json(plane.bootstrap("DELTA_GRPC"));
    live(&proxy);
    let unknown = json!({"name": "envoy.filters.network.moon", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}});
    plane.set("l", &typed(LISTENER, listener("l", at, json!([{"filters": [unknown]}]))));
    plane.publish("2");
    let why = plane.refusal();
    assert!(why.contains("Listener l") && why.contains("filter"), "{why}");
    assert_eq!(say(&mut connect(at), "x"), "one:x");
    assert!(get(proxy.admin(), "/config_dump").contains("error_state"));
}

#[test]
fn a_new_deny_policy_closes_an_open_connection() {
    let at = free_port();
    let plane = plane_with_one_listener(at);
    let proxy = Proxy::from_json(plane.bootstrap("DELTA_GRPC"));
    live(&proxy);
    let mut kept = connect(at);
    assert_eq!(say(&mut kept, "x"), "one:x");
    let deny = network_rbac("DENY", json!([{"any": true}]));
    plane.set("l", &typed(LISTENER, listener("l", at, json!([{"filters": [deny, tcp_proxy("up")]}]))));
    plane.publish("2");
    let ended = std::io::Read::read(&mut kept, &mut [0u8; 1]);
    assert!(!matches!(ended, Ok(n) if n > 0), "{ended:?}");
}

/// The secret `name` with the identity `spiffe`.
fn certificate(ca: &Ca, name: &str, spiffe: &str) -> Value {
    let (chain, key) = ca.issue(spiffe);
    typed(SECRET, json!({"name": name, "tls_certificate": {"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}}))
}

#[test]
fn a_rotated_certificate_is_shown_in_the_next_handshake_and_open_connections_stay() {
    const OLD: &str = "spiffe://cluster.local/ns/default/sa/old";
    const NEW: &str = "spiffe://cluster.local/ns/default/sa/new";
    let (ca, at, plane) = (Ca::new(), free_port(), ControlPlane::start());
    let sds = json!({"name": "default", "sds_config": {"ads": {}, "resource_api_version": "V3"}});
    let trust = json!({"name": "ROOTCA", "sds_config": {"ads": {}, "resource_api_version": "V3"}});
    let common = json!({"tls_certificate_sds_secret_configs": [sds], "validation_context_sds_secret_config": trust});
    let chain = json!({"filters": [tcp_proxy("up")], "transport_socket": downstream_tls(common, true)});
    plane.set("up", &eds_cluster("up"));
    plane.set("up", &endpoints("up", &[echo("one")]));
    plane.set("l", &typed(LISTENER, listener("l", at, json!([chain]))));
    plane.set("default", &certificate(&ca, "default", OLD));
    plane.set("ROOTCA", &typed(SECRET, json!({"name": "ROOTCA", "validation_context": {"trusted_ca": {"inline_string": ca.pem()}}})));
    plane.publish("1");
    let server = Proxy::from_json(plane.bootstrap("DELTA_GRPC"));
    live(&server);
    let client = |expects: &str| {
        let up = with(cluster("up", &[at]), "transport_socket", upstream_tls(ca.context("spiffe://cluster.local/ns/default/sa/client", Some(expects), &[]), "x"));
        Proxy::start(vec![listener("out", any_port(), json!([{"filters": [tcp_proxy("up")]}]))], vec![up])
    };
    let (before, after) = (client(OLD), client(NEW));
    let mut kept = connect(before.at("out"));
    assert_eq!(say(&mut kept, "x"), "one:x");
    assert!(serving(after.at("out"), "one").is_none(), "the new name is not shown yet");
    plane.set("default", &certificate(&ca, "default", NEW));
    plane.publish("2");
    eventually(|| serving(after.at("out"), "one"));
    assert_eq!(say(&mut kept, "y"), "one:y");
    assert!(serving(before.at("out"), "one").is_none(), "the old name is shown no more");
    assert!(get(server.admin(), "/certs").contains(NEW));
    assert!(!get(server.admin(), "/config_dump").contains("PRIVATE KEY"));
}

#[test]
fn a_broken_secret_is_refused_and_the_last_good_one_stays() {
    let plane = ControlPlane::start();
    let (ca, at) = (Ca::new(), free_port());
    let sds = json!({"name": "default", "sds_config": {"ads": {}, "resource_api_version": "V3"}});
    let common = json!({"tls_certificate_sds_secret_configs": [sds]});
    let chain = json!({"filters": [tcp_proxy("up")], "transport_socket": downstream_tls(common, false)});
    plane.set("up", &eds_cluster("up"));
    plane.set("up", &endpoints("up", &[echo("one")]));
    plane.set("l", &typed(LISTENER, listener("l", at, json!([chain]))));
    plane.set("default", &certificate(&ca, "default", "spiffe://a/b"));
    plane.publish("1");
    let server = Proxy::from_json(plane.bootstrap("DELTA_GRPC"));
    live(&server);
    let broken = json!({"name": "default", "tls_certificate": {"certificate_chain": {"inline_string": "no"}, "private_key": {"inline_string": "no"}}});
    plane.set("default", &typed(SECRET, broken));
    plane.publish("2");
    let why = plane.refusal();
    assert!(why.starts_with("Secret default: certificate_chain"), "{why}");
    assert!(get(server.admin(), "/certs").contains("spiffe://a/b"));
}

#[test]
fn the_proxy_serves_on_when_the_control_plane_is_gone() {
    let at = free_port();
    let plane = plane_with_one_listener(at);
    let proxy = Proxy::from_json(plane.bootstrap("DELTA_GRPC"));
    live(&proxy);
    drop(plane);
    assert_eq!(say(&mut connect(at), "x"), "one:x");
    assert!(get(proxy.admin(), "/ready").contains("LIVE"));
}

#[test]
fn config_dump_shows_what_arrived_in_envoys_shape() {
    let at = free_port();
    let plane = plane_with_one_listener(at);
    let proxy = Proxy::from_json(plane.bootstrap("DELTA_GRPC"));
    live(&proxy);
    let text = get(proxy.admin(), "/config_dump?include_eds");
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let dump: Value = serde_json::from_str(body).unwrap();
    let section = |name: &str| dump["configs"].as_array().unwrap().iter().find(|c| c["@type"].as_str().unwrap().ends_with(name)).unwrap().clone();
    assert_eq!(section("ListenersConfigDump")["dynamic_listeners"][0]["active_state"]["listener"]["name"], "l");
    assert_eq!(section("ClustersConfigDump")["dynamic_active_clusters"][0]["cluster"]["name"], "up");
    assert_eq!(section("ClustersConfigDump")["static_clusters"][0]["cluster"]["name"], "xds-grpc");
    assert_eq!(section("EndpointsConfigDump")["dynamic_endpoint_configs"][0]["endpoint_config"]["cluster_name"], "up");
}

#[test]
fn a_listener_on_a_unix_socket_is_refused_by_name() {
    let plane = plane_with_one_listener(free_port());
    let proxy = Proxy::from_json(plane.bootstrap("DELTA_GRPC"));
    live(&proxy);
    let piped = json!({"name": "p", "address": {"pipe": {"path": "/tmp/never"}}, "filter_chains": [{"filters": [tcp_proxy("up")]}]});
    plane.set("p", &typed(LISTENER, piped));
    plane.publish("2");
    let why = plane.refusal();
    assert!(why.contains("listener p: address.pipe"), "{why}");
}
