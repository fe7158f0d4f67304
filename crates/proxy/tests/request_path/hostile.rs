//! Malformed requests: the required answer, a closed connection, nothing at the origin, one log line with DPE.

use crate::support::*;
use serde_json::json;

/// Sends `bytes`; the status of the answer (0: none), and whether the connection ended.
fn status(proxy: &Proxy, bytes: &[u8]) -> (u16, bool) {
    let mut conn = proxy.connect();
    conn.send(bytes);
    let _ = conn.stream.shutdown(std::net::Shutdown::Write);
    let status = conn.read(false).map_or(0, |m| m.status());
    (status, conn.closed())
}

#[test]
fn smuggled_requests_never_reach_the_origin() {
    let origin = Origin::saying("x");
    let proxy = Setup::one(origin.address).start();
    let fields = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "transfer_encoding: chunked",
        "Content-Length: +5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: 18446744073709551616",
        "X: a\rb",
        "X : a",
        "X: a\0",
        " X: a",
        "Host: other",
        "no colon",
    ];
    for field in fields {
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(status(&proxy, request.as_bytes()), (400, true), "{field:?}");
    }
    assert_eq!(origin.count(), 0);
    let log = proxy.log(fields.len());
    assert!(log.iter().all(|line| line.starts_with("400 DPE ")), "{log:?}");
}

#[test]
fn broken_request_lines_are_refused() {
    let origin = Origin::saying("x");
    let proxy = Setup::one(origin.address).start();
    let lines: [(&[u8], u16); 10] = [
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET /", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET relative HTTP/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"CONNECT / HTTP/1.1", 400),
        (b"CONNECT h:443 HTTP/1.1", 404),
        (b"OPTIONS * HTTP/1.1", 404),
    ];
    for (line, want) in lines {
        let request = [line, b"\r\nHost: h\r\n\r\n"].concat();
        assert_eq!(status(&proxy, &request).0, want, "{:?}", String::from_utf8_lossy(line));
    }
    assert_eq!(status(&proxy, b"GET / HTTP/1.1\r\n\r\n").0, 400);
    assert_eq!(status(&proxy, b"GET / HTTP/1.1\nHost: h\n\n").0, 400);
    assert_eq!(origin.count(), 0);
}

#[test]
fn heads_over_the_limits_are_431() {
    let origin = Origin::saying("x");
    let proxy = Setup::one(origin.address).start();
    let padded = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: h\r\nx: {}\r\n\r\n", "a".repeat(bytes));
    assert_eq!(proxy.send(padded(50 * 1024)).status(), 200);
    assert_eq!(status(&proxy, padded(61 * 1024).as_bytes()).0, 431);
    let many = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(proxy.send(many(99)).status(), 200);
    assert_eq!(status(&proxy, many(101).as_bytes()).0, 431);
    let log = proxy.log(4);
    assert!(log.iter().any(|l| l.starts_with("431 DPE http1.headers_too_large")) && log.iter().any(|l| l.starts_with("431 DPE http1.too_many_headers")));
}

#[test]
fn broken_chunks_are_400_and_never_complete_at_the_origin() {
    let origin = Origin::answering(|request, _| ok(if request.cut { "cut" } else { "whole" }));
    let proxy = Setup::one(origin.address).start();
    for body in ["0x3\r\nabc\r\n0\r\n\r\n", "+3\r\nabc\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabcdef\r\n0\r\n\r\n", "3\r\nabc0\r\n\r\n", "11111111111111111\r\n", "\r\n0\r\n\r\n", "0\r\nbad trailer\r\n\r\n"] {
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let got = status(&proxy, request.as_bytes());
        assert_eq!(got, (400, true), "{body:?}");
    }
    assert!(origin.seen.lock().unwrap().iter().all(|m| m.cut));
}

#[test]
fn heads_arriving_byte_by_byte_are_served_and_slow_ones_end() {
    let origin = Origin::saying("x");
    let proxy = Setup { hcm: json!({"request_headers_timeout": "0.3s"}), ..Setup::one(origin.address) }.start();
    let mut conn = proxy.connect();
    for byte in b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n" {
        conn.send([*byte]);
    }
    assert_eq!(conn.read(false).unwrap().status(), 200);
    let mut slow = proxy.connect();
    slow.send("GET / HTTP/1.1\r\nHost:");
    assert_eq!(slow.read(false).unwrap().status(), 408);
    assert!(slow.closed());
}

#[test]
fn the_authority_of_an_absolute_target_wins() {
    let origin = Origin::saying("x");
    let proxy = Setup::one(origin.address).start();
    assert_eq!(proxy.send("GET http://real/p HTTP/1.1\r\nHost: claimed\r\n\r\n").status(), 200);
    assert_eq!((origin.last().start.as_str(), origin.last().header("host")), ("GET /p HTTP/1.1", Some("real")));
}
