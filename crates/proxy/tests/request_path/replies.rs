//! Answers the proxy makes itself: status, body, flag and detail as Envoy gives them.

use crate::support::*;
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn an_answer_passes_with_envoys_fields() {
    let origin = Origin::saying("hello");
    let proxy = Setup::one(origin.address).start();
    let got = proxy.get("/x?y", "x-a: 1\r\n");
    assert_eq!((got.status(), got.text().as_str()), (200, "hello"));
    assert_eq!(got.header("server"), Some("istio-envoy"));
    assert!(got.header("x-envoy-upstream-service-time").is_some() && got.header("date").is_some());
    let sent = origin.last();
    assert_eq!(sent.start, "GET /x?y HTTP/1.1");
    assert_eq!((sent.header("host"), sent.header("x-a"), sent.header("x-forwarded-proto")), (Some("h"), Some("1"), Some("http")));
    assert_eq!(sent.header("x-request-id").map(str::len), Some(36));
    assert_eq!(proxy.log(1)[0], "200 - via_upstream 0 5 GET /x?y o HTTP/1.1");
}

#[test]
fn no_route_is_404_nr() {
    let proxy = Setup { routes: vec![to("/a", "o", json!({}))], ..Setup::default() }.start();
    let got = proxy.get("/b", "");
    assert_eq!((got.status(), got.text().as_str(), got.header("content-length")), (404, "", Some("0")));
    assert_eq!(proxy.logged(), "404 NR route_not_found");
}

#[test]
fn an_unknown_cluster_is_503_nc() {
    let proxy = Setup { routes: vec![to("/", "none", json!({}))], ..Setup::default() }.start();
    let got = proxy.get("/", "");
    assert_eq!((got.status(), got.text().as_str()), (503, ""));
    assert_eq!(proxy.logged(), "503 NC cluster_not_found");
}

#[test]
fn no_endpoint_is_503_uh() {
    let proxy = Setup { clusters: vec![cluster("o", &[], json!({}))], routes: vec![to("/", "o", json!({}))], ..Setup::default() }.start();
    let got = proxy.get("/", "");
    assert_eq!((got.status(), got.text().as_str(), got.header("content-type")), (503, "no healthy upstream", Some("text/plain")));
    assert_eq!(proxy.logged(), "503 UH no_healthy_upstream");
}

#[test]
fn a_refused_connection_is_503_uf() {
    let proxy = Setup::one(refused()).start();
    let got = proxy.get("/", "");
    assert_eq!(got.status(), 503);
    assert_eq!(got.text(), "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure");
    assert_eq!(proxy.logged(), "503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}");
}

#[test]
fn an_origin_that_hangs_up_is_503_uc() {
    let origin = Origin::answering(|_, _| Vec::new());
    let proxy = Setup::one(origin.address).start();
    let got = proxy.get("/", "");
    assert_eq!(got.text(), "upstream connect error or disconnect/reset before headers. reset reason: connection termination");
    assert_eq!(proxy.logged(), "503 UC upstream_reset_before_response_started{connection_termination}");
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_malformed_answer_is_502_upe() {
    let origin = Origin::answering(|_, _| b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n".to_vec());
    let proxy = Setup::one(origin.address).start();
    let got = proxy.get("/", "");
    assert_eq!(got.status(), 502);
    assert_eq!(proxy.logged(), "502 UPE upstream_reset_before_response_started{protocol_error}");
}

#[test]
fn the_route_timeout_is_504_ut() {
    let origin = Origin::answering(|_, _| {
        std::thread::park_timeout(Duration::from_secs(3));
        ok("late")
    });
    let proxy = Setup { routes: vec![to("/", "o", json!({"timeout": "0.2s"}))], ..Setup::one(origin.address) }.start();
    let begun = Instant::now();
    let got = proxy.get("/", "");
    assert_eq!((got.status(), got.text().as_str()), (504, "upstream request timeout"));
    assert!((Duration::from_millis(190)..Duration::from_millis(1500)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(proxy.logged(), "504 UT response_timeout");
}

#[test]
fn the_origin_is_told_how_long_the_caller_waits() {
    let origin = Origin::saying("x");
    let proxy = Setup { routes: vec![to("/", "o", json!({"timeout": "5s"}))], ..Setup::one(origin.address) }.start();
    proxy.get("/", "");
    let sent: u32 = origin.last().header("x-envoy-expected-rq-timeout-ms").unwrap().parse().unwrap();
    assert!((4900..=5000).contains(&sent), "{sent}");
}

#[test]
fn a_full_breaker_is_503_uo() {
    let origin = Origin::answering(|_, _| {
        std::thread::park_timeout(Duration::from_millis(500));
        ok("x")
    });
    let limits = json!({"circuit_breakers": {"thresholds": [{"max_connections": 1, "max_pending_requests": 1}]}});
    let proxy = Setup { clusters: vec![cluster("o", &[origin.address], limits)], ..Setup::one(origin.address) }.start();
    let mut conns: Vec<Conn> = (0..8).map(|_| proxy.connect()).collect();
    for conn in &mut conns {
        conn.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        // The connection is open before the others come, so that exactly one of them is pending.
        origin.wait_for(1);
    }
    let answers: Vec<Message> = conns.iter_mut().map(|c| c.read(false).unwrap()).collect();
    let (good, bad): (Vec<&Message>, Vec<&Message>) = answers.iter().partition(|a| a.status() == 200);
    assert_eq!((good.len(), bad.len()), (2, 6));
    assert!(bad.iter().all(|a| a.header("x-envoy-overloaded") == Some("true") && a.text().ends_with("reset reason: overflow")));
    let overflows = proxy.log(8).iter().filter(|l| l.starts_with("503 UO upstream_reset_before_response_started{overflow}")).count();
    assert_eq!(overflows, 6);
}

#[test]
fn a_client_that_goes_away_is_dc() {
    let origin = Origin::answering(|_, _| {
        std::thread::park_timeout(Duration::from_secs(2));
        ok("late")
    });
    let proxy = Setup::one(origin.address).start();
    let mut conn = proxy.connect();
    conn.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    origin.wait_for(1);
    drop(conn);
    assert_eq!(proxy.logged(), "0 DC downstream_remote_disconnect");
}

#[test]
fn http10_is_told_to_upgrade() {
    let origin = Origin::saying("x");
    let proxy = Setup::one(origin.address).start();
    let got = proxy.send("GET / HTTP/1.0\r\nhost: h\r\n\r\n");
    assert_eq!((got.status(), got.text().as_str()), (426, "Upgrade Required"));
    assert_eq!(proxy.logged(), "426 DPE low_version");
    assert_eq!(origin.count(), 0);
}

#[test]
fn an_origin_that_dies_in_mid_body_cuts_the_answer_at_once() {
    let origin = Origin::raw(|conn| {
        conn.read(false);
        conn.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789");
    });
    let proxy = Setup::one(origin.address).start();
    let begun = Instant::now();
    let got = proxy.get("/", "");
    assert!(got.cut && got.text() == "0123456789", "{got:?}");
    assert!(begun.elapsed() < Duration::from_millis(500));
    assert_eq!(proxy.logged(), "200 UC upstream_reset_after_response_started{connection_termination}");
}

#[test]
fn direct_answers_and_redirects_come_from_the_route() {
    let routes = vec![
        json!({"match": {"prefix": "/direct"}, "direct_response": {"status": 451, "body": {"inline_string": "no"}}}),
        json!({"match": {"prefix": "/old"}, "redirect": {"host_redirect": "other.example", "path_redirect": "/new", "response_code": "FOUND"}}),
    ];
    let proxy = Setup { routes, ..Setup::default() }.start();
    let got = proxy.get("/direct", "");
    assert_eq!((got.status(), got.text().as_str()), (451, "no"));
    let got = proxy.get("/old?x=1", "");
    assert_eq!((got.status(), got.header("location")), (302, Some("http://other.example/new?x=1")));
    assert!(proxy.log(2).iter().all(|l| l.contains(" - direct_response ")));
}
