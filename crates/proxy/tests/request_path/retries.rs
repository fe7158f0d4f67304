//! Retries, per-try timeouts, mirrors, outlier detection.

use crate::support::*;
use serde_json::json;
use std::time::Duration;

const ISTIO: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

#[test]
fn a_refused_connection_is_tried_elsewhere() {
    let origin = Origin::saying("x");
    let policy = json!({"retry_policy": {"retry_on": ISTIO, "num_retries": 2, "host_selection_retry_max_attempts": 5,
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}]}});
    let setup = Setup {
        clusters: vec![cluster("o", &[refused(), origin.address], json!({}))],
        routes: vec![to("/", "o", policy)],
        virtual_host: json!({"include_request_attempt_count": true}),
        ..Setup::default()
    };
    let proxy = setup.start();
    for _ in 0..10 {
        assert_eq!(proxy.get("/", "").status(), 200);
    }
    let attempts: Vec<String> = origin.seen.lock().unwrap().iter().map(|m| m.header("x-envoy-attempt-count").unwrap().to_owned()).collect();
    assert!(attempts.contains(&"2".into()), "{attempts:?}");
}

#[test]
fn used_up_retries_are_urx_uf() {
    let policy = json!({"retry_policy": {"retry_on": ISTIO, "num_retries": 2}});
    let proxy = Setup { routes: vec![to("/", "o", policy)], ..Setup::one(refused()) }.start();
    let got = proxy.get("/", "");
    assert_eq!(got.text(), "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure");
    assert!(proxy.logged().starts_with("503 URX,UF upstream_reset_before_response_started{remote_connection_failure|"), "{}", proxy.logged());
}

#[test]
fn istios_default_passes_a_503_on_after_one_try() {
    let origin = Origin::answering(|_, _| answer(503, "app"));
    let proxy = Setup { routes: vec![to("/", "o", json!({"retry_policy": {"retry_on": ISTIO, "num_retries": 2}}))], ..Setup::one(origin.address) }.start();
    assert_eq!((proxy.get("/", "").text().as_str(), origin.count()), ("app", 1));
    assert_eq!(proxy.logged(), "503 - via_upstream");
}

#[test]
fn retry_on_5xx_ends_with_the_last_answer_and_urx() {
    let origin = Origin::answering(|_, number| answer(500, &format!("try {number}")));
    let proxy = Setup { routes: vec![to("/", "o", json!({"retry_policy": {"retry_on": "5xx", "num_retries": 2}}))], ..Setup::one(origin.address) }.start();
    let got = proxy.get("/", "");
    assert_eq!((got.status(), got.text().as_str(), origin.count()), (500, "try 3", 3));
    assert_eq!(proxy.logged(), "500 URX via_upstream");
}

#[test]
fn a_retried_request_carries_its_body_again() {
    let origin = Origin::answering(|request, number| if number < 3 { answer(503, "") } else { ok(&request.text()) });
    let proxy = Setup { routes: vec![to("/", "o", json!({"retry_policy": {"retry_on": "5xx", "num_retries": 3}}))], ..Setup::one(origin.address) }.start();
    let got = proxy.send("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!((got.status(), got.text().as_str()), (200, "abcde"));
    assert!(origin.seen.lock().unwrap().iter().all(|m| m.text() == "abcde"));
}

#[test]
fn a_body_over_the_limit_is_not_retried() {
    let origin = Origin::answering(|_, _| answer(503, "no"));
    let limits = json!({"per_connection_buffer_limit_bytes": 1000});
    let setup = Setup {
        clusters: vec![cluster("o", &[origin.address], limits)],
        routes: vec![to("/", "o", json!({"retry_policy": {"retry_on": "5xx", "num_retries": 3}}))],
        ..Setup::default()
    };
    let proxy = setup.start();
    let got = proxy.send(format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2000\r\n\r\n{}", "x".repeat(2000)));
    assert_eq!((got.text().as_str(), origin.count()), ("no", 1));
}

#[test]
fn a_per_try_timeout_is_ut_and_retried_when_asked() {
    let origin = Origin::answering(|_, _| {
        std::thread::park_timeout(Duration::from_secs(3));
        ok("late")
    });
    let policy = |words: &str| json!({"retry_policy": {"retry_on": words, "num_retries": 2, "per_try_timeout": "0.1s"}});
    let routes = vec![to("/default", "o", policy(ISTIO)), to("/5xx", "o", policy("5xx"))];
    let proxy = Setup { routes, ..Setup::one(origin.address) }.start();
    let got = proxy.get("/default", "");
    assert_eq!((got.status(), got.text().as_str(), origin.count()), (504, "upstream request timeout", 1));
    assert!(proxy.log(1)[0].starts_with("504 UT upstream_per_try_timeout"), "{:?}", proxy.log(1));
    proxy.get("/5xx", "");
    assert_eq!(origin.count(), 4);
    assert!(proxy.log(2)[1].starts_with("504 URX,UT upstream_per_try_timeout"), "{:?}", proxy.log(2));
}

#[test]
fn a_pooled_connection_that_the_origin_closed_fails_nobody() {
    let origin = Origin::raw(|conn| {
        conn.read(false);
        conn.send(ok("x"));
    });
    let proxy = Setup::one(origin.address).start();
    for _ in 0..10 {
        assert_eq!(proxy.get("/", "").status(), 200);
    }
}

#[test]
fn mirrors_get_copies_and_never_matter() {
    let (origin, shadow) = (Origin::saying("primary"), Origin::answering(|_, _| answer(500, "shadow")));
    let mirrors = json!({"request_mirror_policies": [{"cluster": "shadow"}, {"cluster": "dead"}]});
    let setup = Setup {
        clusters: vec![cluster("o", &[origin.address], json!({})), cluster("shadow", &[shadow.address], json!({})), cluster("dead", &[refused()], json!({}))],
        routes: vec![to("/", "o", mirrors)],
        ..Setup::default()
    };
    let proxy = setup.start();
    for _ in 0..5 {
        let got = proxy.send("POST /m HTTP/1.1\r\nhost: h:80\r\ncontent-length: 4\r\n\r\nbody");
        assert_eq!(got.text(), "primary");
    }
    shadow.wait_for(5);
    let copy = shadow.last();
    assert_eq!((copy.start.as_str(), copy.text().as_str(), copy.header("host")), ("POST /m HTTP/1.1", "body", Some("h-shadow:80")));
}

#[test]
fn consecutive_errors_eject_the_endpoint() {
    let origin = Origin::answering(|_, _| answer(500, "bad"));
    let outlier = json!({"outlier_detection": {"consecutive_5xx": 2, "interval": "10s", "base_ejection_time": "30s", "max_ejection_percent": 100},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}}});
    let proxy = Setup { clusters: vec![cluster("o", &[origin.address], outlier)], ..Setup::one(origin.address) }.start();
    assert_eq!([proxy.get("/", "").status(), proxy.get("/", "").status()], [500, 500]);
    let got = proxy.get("/", "");
    assert_eq!((got.status(), got.text().as_str(), origin.count()), (503, "no healthy upstream", 2));
}

const PEER: &str = "io.istio.http.peer_metadata.Config";

#[test]
fn a_mesh_client_is_told_when_its_request_reached_nobody() {
    let filters = vec![filter("p", PEER, json!({"downstream_discovery": [{"istio_headers": {}}], "downstream_propagation": [{"istio_headers": {}}]}))];
    let inbound = |filters| Setup { filters, listener: json!({"traffic_direction": "INBOUND"}), ..Setup::one(refused()) };
    let proxy = inbound(filters).start();
    let got = proxy.get("/", "x-envoy-peer-metadata-id: sidecar~2\r\nx-envoy-peer-metadata: CgA=\r\n");
    assert_eq!((got.status(), got.header("x-lateen-unprocessed")), (503, Some("1")));
    assert_eq!(got.header("x-envoy-peer-metadata-id"), Some("sidecar~1"));
    assert_eq!(proxy.get("/", "").header("x-lateen-unprocessed"), None);
}

#[test]
fn a_request_that_reached_nobody_is_sent_elsewhere() {
    let origin = Origin::answering(|_, number| match number {
        1 => b"HTTP/1.1 503 X\r\nx-lateen-unprocessed: 1\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => ok("x"),
    });
    let routes = vec![to("/retry", "o", json!({"retry_policy": {"retry_on": ISTIO, "num_retries": 2}})), to("/", "o", json!({}))];
    let proxy = Setup { routes, ..Setup::one(origin.address) }.start();
    assert_eq!((proxy.get("/retry", "").status(), origin.count()), (200, 2));
}

#[test]
fn the_mark_never_reaches_an_application() {
    let origin = Origin::answering(|_, _| b"HTTP/1.1 503 X\r\nx-lateen-unprocessed: 1\r\ncontent-length: 0\r\n\r\n".to_vec());
    let proxy = Setup::one(origin.address).start();
    let got = proxy.get("/", "");
    assert_eq!((got.status(), got.header("x-lateen-unprocessed")), (503, None));
}
