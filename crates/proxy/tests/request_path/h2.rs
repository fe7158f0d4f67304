//! HTTP/2 on either side or both: translation, trailers, streaming, resets, shared connections.

use crate::support::*;
use bytes::Bytes;
use h2::client::SendRequest;
use serde_json::json;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("the test takes too long") })
}

async fn client(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

fn request(method: &str, path: &str) -> http::Request<()> {
    http::Request::builder().method(method).uri(format!("http://h{path}")).version(http::Version::HTTP_2).body(()).unwrap()
}

struct Got {
    head: http::response::Parts,
    body: Vec<u8>,
    trailers: Option<http::HeaderMap>,
}

async fn receive(answer: h2::client::ResponseFuture) -> Result<Got, h2::Error> {
    let (head, mut stream) = answer.await?.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    let trailers = stream.trailers().await?;
    Ok(Got { head, body, trailers })
}

async fn send(sender: &SendRequest<Bytes>, request: http::Request<()>, body: &[u8]) -> Result<Got, h2::Error> {
    let mut sender = sender.clone().ready().await?;
    let (answer, mut stream) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), true)?;
    }
    receive(answer).await
}

/// An HTTP/2 origin. `serve` answers one stream.
struct H2Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

type Incoming = http::Request<h2::RecvStream>;
type Respond = h2::server::SendResponse<Bytes>;

fn h2_origin<F: Future<Output = ()> + 'static>(serve: impl Fn(Incoming, Respond) -> F + Clone + Send + 'static) -> H2Origin {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opened, count) = (Arc::clone(&connections), Arc::clone(&requests));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                let (serve, count) = (serve.clone(), Arc::clone(&count));
                tokio::task::spawn_local(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        count.fetch_add(1, Ordering::SeqCst);
                        tokio::task::spawn_local(serve(request, respond));
                    }
                });
            }
        });
    });
    H2Origin { address, connections, requests }
}

/// Sends everything back, the path in a header, and a gRPC status in the trailers.
async fn echo(request: Incoming, mut respond: Respond) {
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let head = http::Response::builder().header("x-path", path).header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(head, false).unwrap();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        let mut rest = piece;
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let Some(Ok(granted)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            if stream.send_data(rest.split_to(granted.min(rest.len())), false).is_err() {
                return;
            }
        }
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let _ = stream.send_trailers(trailers);
}

/// Everything goes to one HTTP/2 origin.
fn h2_setup(origin: SocketAddr) -> Setup {
    let more = json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}}});
    Setup { clusters: vec![cluster("o", &[origin], more)], ..Setup::one(origin) }
}

#[test]
fn an_http2_client_reaches_an_http1_origin() {
    let origin = Origin::answering(|request, _| ok(&format!("{} {}", request.start, request.text())));
    let proxy = Setup::one(origin.address).start();
    run(async {
        let sender = client(proxy.address).await;
        let got = send(&sender, request("GET", "/a?b"), b"").await.unwrap();
        assert_eq!((got.head.status.as_u16(), got.body.as_slice()), (200, &b"GET /a?b HTTP/1.1 "[..]));
        assert_eq!(got.head.headers.get("server").unwrap(), "istio-envoy");
        let got = send(&sender, request("POST", "/"), b"body").await.unwrap();
        assert_eq!(got.body, b"POST / HTTP/1.1 body");
    });
    let sent = origin.last();
    assert_eq!((sent.header("host"), sent.header("transfer-encoding")), (Some("h"), Some("chunked")));
    assert!(proxy.log(2)[0].ends_with("HTTP/2"));
}

#[test]
fn an_http1_client_reaches_an_http2_origin_over_one_connection() {
    let origin = h2_origin(echo);
    let proxy = h2_setup(origin.address).start();
    let got = proxy.send("POST /x?y HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!((got.status(), got.text().as_str(), got.header("x-path")), (200, "body", Some("/x?y")));
    assert_eq!(got.header("trailer grpc-status"), Some("0"));
    let mut conns: Vec<Conn> = (0..20).map(|_| proxy.connect()).collect();
    conns.iter_mut().for_each(|c| c.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n"));
    assert!(conns.iter_mut().all(|c| c.read(false).unwrap().status() == 200));
    assert_eq!((origin.requests.load(Ordering::SeqCst), origin.connections.load(Ordering::SeqCst)), (21, 1));
}

#[test]
fn grpc_streams_both_ways_with_trailers() {
    let origin = h2_origin(echo);
    let proxy = h2_setup(origin.address).start();
    run(async {
        let mut sender = client(proxy.address).await.ready().await.unwrap();
        let mut call = request("POST", "/pkg.Service/Method");
        call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        call.headers_mut().insert("te", "trailers".parse().unwrap());
        let (answer, mut up) = sender.send_request(call, false).unwrap();
        up.send_data(Bytes::from_static(b"\0\0\0\0\x03one"), false).unwrap();
        let (head, mut down) = answer.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        // The first message comes back while the request is still open.
        assert_eq!(down.data().await.unwrap().unwrap(), &b"\0\0\0\0\x03one"[..]);
        up.send_data(Bytes::from_static(b"\0\0\0\0\x03two"), true).unwrap();
        assert_eq!(down.data().await.unwrap().unwrap(), &b"\0\0\0\0\x03two"[..]);
        assert!(down.data().await.is_none());
        assert_eq!(down.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
    });
}

#[test]
fn large_bodies_pass_through_windows() {
    let origin = h2_origin(echo);
    let proxy = h2_setup(origin.address).start();
    run(async {
        let mut sender = client(proxy.address).await.ready().await.unwrap();
        let (answer, mut up) = sender.send_request(request("POST", "/"), false).unwrap();
        let body = Bytes::from(vec![b'x'; 3 * 1024 * 1024]);
        let mut rest = body.clone();
        let sending = async {
            while !rest.is_empty() {
                up.reserve_capacity(rest.len());
                let granted = std::future::poll_fn(|cx| up.poll_capacity(cx)).await.unwrap().unwrap();
                let piece = rest.split_to(granted.min(rest.len()));
                let last = rest.is_empty();
                up.send_data(piece, last).unwrap();
            }
        };
        let (got, ()) = tokio::join!(receive(answer), sending);
        assert!(got.unwrap().body == body);
    });
}

#[test]
fn answers_made_here_are_grpc_for_grpc_callers() {
    let proxy = Setup::one(refused()).start();
    run(async {
        let sender = client(proxy.address).await;
        let mut call = request("POST", "/s/m");
        call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let got = send(&sender, call, b"\0\0\0\0\0").await.unwrap();
        assert_eq!((got.head.status.as_u16(), got.head.headers.get("grpc-status").unwrap().as_bytes()), (200, &b"14"[..]));
        assert!(got.body.is_empty() && got.trailers.is_none());
    });
    assert!(proxy.logged().contains(" UF "));
}

#[test]
fn a_stream_reset_by_the_client_is_dc_and_ends_the_upstream() {
    let origin = Origin::answering(|_, _| {
        std::thread::park_timeout(Duration::from_secs(2));
        ok("late")
    });
    let proxy = Setup::one(origin.address).start();
    run(async {
        let mut sender = client(proxy.address).await.ready().await.unwrap();
        let (answer, mut stream) = sender.send_request(request("GET", "/"), true).unwrap();
        tokio::task::spawn_blocking(move || origin.wait_for(1)).await.unwrap();
        stream.send_reset(h2::Reason::CANCEL);
        assert!(answer.await.is_err());
        // Other streams are unharmed.
        assert_eq!(send(&sender, request("GET", "/none"), b"").await.unwrap().head.status, 200);
    });
    assert!(proxy.log(1)[0].starts_with("0 DC downstream_remote_disconnect"), "{:?}", proxy.log(1));
}

#[test]
fn an_origin_that_breaks_off_resets_the_stream() {
    let origin = Origin::raw(|conn| {
        conn.read(false);
        conn.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789");
    });
    let proxy = Setup::one(origin.address).start();
    run(async {
        let sender = client(proxy.address).await;
        assert!(send(&sender, request("GET", "/"), b"").await.is_err());
    });
    assert_eq!(proxy.logged(), "200 UC upstream_reset_after_response_started{connection_termination}");
}

#[test]
fn a_refused_stream_is_retried_and_a_reset_one_is_not() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let origin = h2_origin(move |request: Incoming, mut respond: Respond| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match (request.uri().path(), number) {
                ("/refused", 0) => respond.send_reset(h2::Reason::REFUSED_STREAM),
                ("/reset", _) => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                _ => drop(respond.send_response(http::Response::new(()), true)),
            }
        }
    });
    let policy = json!({"retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2}});
    let proxy = Setup { routes: vec![to("/", "o", policy)], ..h2_setup(origin.address) }.start();
    assert_eq!(proxy.get("/refused", "").status(), 200);
    let got = proxy.get("/reset", "");
    assert_eq!((got.status(), seen.load(Ordering::SeqCst)), (503, 3));
    assert!(proxy.log(2)[1].starts_with("503 UR upstream_reset_before_response_started{remote_reset}"), "{:?}", proxy.log(2));
}

#[test]
fn what_http1_would_misread_is_400_and_reaches_no_origin() {
    let origin = Origin::saying("x");
    let proxy = Setup::one(origin.address).start();
    run(async {
        let sender = client(proxy.address).await;
        let mut two_hosts = request("GET", "/");
        two_hosts.headers_mut().insert("host", "other".parse().unwrap());
        assert_eq!(send(&sender, two_hosts, b"").await.unwrap().head.status, 400);
        let userinfo = http::Request::builder().uri("http://u@h/").version(http::Version::HTTP_2).body(()).unwrap();
        assert_eq!(send(&sender, userinfo, b"").await.unwrap().head.status, 400);
    });
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_burst_of_resets_ends_the_connection_but_not_the_proxy() {
    let origin = Origin::saying("x");
    let proxy = Setup::one(origin.address).start();
    run(async {
        let sender = client(proxy.address).await;
        let mut ended = false;
        for _ in 0..20_000 {
            let Ok(mut ready) = sender.clone().ready().await else {
                ended = true;
                break;
            };
            let Ok((_, mut stream)) = ready.send_request(request("GET", "/"), false) else {
                ended = true;
                break;
            };
            stream.send_reset(h2::Reason::CANCEL);
            tokio::task::yield_now().await;
        }
        assert!(ended, "20,000 resets were borne");
    });
    assert_eq!(proxy.get("/", "").status(), 200);
}
