//! Bodies and connections: framing both ways, keep-alive, pipelining, 100-continue, upgrades.

use crate::support::*;
use serde_json::json;
use std::sync::atomic::Ordering;

#[test]
fn a_connection_carries_many_requests_and_so_does_the_upstreams() {
    let origin = Origin::saying("x");
    let proxy = Setup::one(origin.address).start();
    let mut conn = proxy.connect();
    for _ in 0..20 {
        conn.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        assert_eq!(conn.read(false).unwrap().status(), 200);
    }
    assert_eq!((origin.count(), origin.connections.load(Ordering::SeqCst)), (20, 1));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::answering(|request, _| ok(&request.start));
    let proxy = Setup::one(origin.address).start();
    let mut conn = proxy.connect();
    let requests: String = (0..5).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: h\r\n\r\n")).collect();
    conn.send(requests);
    for n in 0..5 {
        assert_eq!(conn.read(false).unwrap().text(), format!("GET /{n} HTTP/1.1"));
    }
}

#[test]
fn connection_close_is_obeyed() {
    let origin = Origin::saying("x");
    let proxy = Setup::one(origin.address).start();
    let mut conn = proxy.connect();
    conn.send("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    let got = conn.read(false).unwrap();
    assert_eq!((got.status(), got.header("connection")), (200, Some("close")));
    assert!(conn.closed());
    assert_eq!(origin.last().header("connection"), None);
}

#[test]
fn large_bodies_pass_both_ways() {
    let origin = Origin::answering(|request, _| ok(&request.text()));
    let proxy = Setup::one(origin.address).start();
    let body = "0123456789abcdef".repeat(128 * 1024);
    let mut conn = proxy.connect();
    let mut writer = conn.stream.try_clone().unwrap();
    let sent = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, sent.as_bytes()));
    let got = conn.read(false).unwrap();
    sending.join().unwrap().unwrap();
    assert!(got.text() == body, "{} bytes of {}", got.body.len(), body.len());
    assert!(proxy.log(1)[0].starts_with(&format!("200 - via_upstream {0} {0} POST", body.len())));
}

#[test]
fn chunked_bodies_and_trailers_pass_both_ways() {
    let origin = Origin::raw(|conn| {
        let request = conn.read(false).unwrap();
        assert_eq!(request.text(), "hello world");
        assert_eq!(request.header("trailer x-t"), Some("1"));
        conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nx-r: 2\r\n\r\n");
        conn.read(false);
    });
    let proxy = Setup::one(origin.address).start();
    let mut conn = proxy.connect();
    for piece in ["POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel", "lo\r\n6\r\n world\r", "\n0\r\nx-t: 1\r\n\r\n"] {
        conn.send(piece);
    }
    let got = conn.read(false).unwrap();
    assert_eq!((got.text().as_str(), got.header("trailer x-r")), ("abcde", Some("2")));
}

#[test]
fn an_answer_until_close_becomes_chunked() {
    let origin = Origin::raw(|conn| {
        conn.read(false);
        conn.send("HTTP/1.1 200 OK\r\n\r\nall of it");
    });
    let proxy = Setup::one(origin.address).start();
    let got = proxy.get("/", "");
    assert_eq!((got.text().as_str(), got.header("transfer-encoding"), got.cut), ("all of it", Some("chunked"), false));
}

#[test]
fn head_and_304_have_no_body_and_keep_their_length() {
    let origin = Origin::answering(|request, _| {
        let status = if request.start.starts_with("HEAD") { 200 } else { 304 };
        format!("HTTP/1.1 {status} X\r\ncontent-length: 7\r\n\r\n").into_bytes()
    });
    let proxy = Setup::one(origin.address).start();
    let mut conn = proxy.connect();
    conn.send("HEAD / HTTP/1.1\r\nhost: h\r\n\r\n");
    let got = conn.read(true).unwrap();
    assert_eq!((got.status(), got.header("content-length")), (200, Some("7")));
    conn.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    let got = conn.read(false).unwrap();
    assert_eq!((got.status(), got.header("content-length")), (304, Some("7")));
}

#[test]
fn the_proxy_says_100_continue_itself_or_passes_the_origins() {
    let request = "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let origin = Origin::answering(|request, _| ok(&request.text()));
    let proxy = Setup::one(origin.address).start();
    let mut conn = proxy.connect();
    conn.send(request);
    assert_eq!(conn.read(false).unwrap().status(), 100);
    conn.send("ab");
    assert_eq!(conn.read(false).unwrap().text(), "ab");
    assert_eq!(origin.last().header("expect"), None);

    let origin = Origin::raw(|conn| {
        let head = conn.read_head().unwrap();
        assert_eq!(head.header("expect"), Some("100-continue"));
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        while conn.unread.len() < 2 && conn.more() {}
        conn.send(ok("yes"));
    });
    let proxy = Setup { hcm: json!({"proxy_100_continue": true}), ..Setup::one(origin.address) }.start();
    let mut conn = proxy.connect();
    conn.send(request);
    assert_eq!(conn.read(false).unwrap().status(), 100);
    conn.send("ab");
    assert_eq!(conn.read(false).unwrap().text(), "yes");
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let origin = Origin::raw(|conn| {
        conn.read_head();
        conn.send("HTTP/1.1 413 X\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig");
    });
    let proxy = Setup::one(origin.address).start();
    let mut conn = proxy.connect();
    conn.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\nstart");
    let got = conn.read(false).unwrap();
    assert_eq!((got.status(), got.text().as_str()), (413, "big"));
    assert!(conn.closed());
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

fn echo_after_upgrade(conn: &mut Conn) {
    let head = conn.read_head().unwrap();
    assert_eq!((head.header("connection"), head.header("upgrade")), (Some("upgrade"), Some("websocket")));
    // Nothing of the tunnel may come before the answer.
    assert!(conn.unread.is_empty());
    conn.send("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nhi ");
    while conn.unread.len() < 5 && conn.more() {}
    let bytes = std::mem::take(&mut conn.unread);
    conn.send(bytes);
    while conn.more() {}
}

#[test]
fn a_websocket_is_tunnelled_and_early_bytes_wait() {
    let origin = Origin::raw(echo_after_upgrade);
    let proxy = Setup::one(origin.address).start();
    let mut conn = proxy.connect();
    conn.send(format!("{UPGRADE}hel"));
    let got = conn.read(false).unwrap();
    assert_eq!((got.status(), got.header("upgrade"), got.header("connection")), (101, Some("websocket"), Some("upgrade")));
    conn.send("lo");
    while conn.unread.len() < 8 && conn.more() {}
    assert_eq!(conn.unread, b"hi hello");
    conn.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(conn.closed());
    assert!(proxy.log(1)[0].starts_with("101 - via_upstream 5 8 GET"), "{:?}", proxy.log(1));
}

#[test]
fn other_upgrades_are_refused_and_h2c_is_ignored() {
    let origin = Origin::saying("plain");
    let proxy = Setup::one(origin.address).start();
    assert_eq!(proxy.get("/", "connection: upgrade\r\nupgrade: other\r\n").status(), 403);
    assert_eq!(origin.count(), 0);
    let got = proxy.get("/", "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: x\r\n");
    assert_eq!((got.status(), got.text().as_str()), (200, "plain"));
    assert_eq!((origin.last().header("upgrade"), origin.last().header("http2-settings")), (None, None));
}
