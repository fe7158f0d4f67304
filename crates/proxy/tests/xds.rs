//! Live configuration over real sockets: listeners, endpoints, secrets, refusals.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;

use serde_json::{Value, json};
use support::{
    CLUSTER, ControlPlane, ENDPOINTS, LISTENER, Proxy, address, connect, echo, eventually, get, listener, network_rbac, say, tcp_proxy, typed,
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
