//! The xDS relay: carries the proxy's xDS streams to the control plane, adding the token; the messages pass unread.
//!
//! - Reads: HTTP/2 requests on a unix socket.
//! - Rule: a stream waits until the control plane can be reached. When the way up breaks, the proxy's stream ends, and its
//!   reconnection waits here in the same manner; the proxy keeps what it has meanwhile.
//! - Rule: each stream has its own connection up, so a broken one takes nothing else with it.
//! - Limits: `STREAMS_MAX` concurrent streams per connection.

use crate::schedule;
use crate::upstream::Upstream;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use lateen_xds::backoff::Backoff;
use lateen_xds::client;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;

/// Streams one proxy may have open.
const STREAMS_MAX: u32 = 16;
/// HTTP/2 flow-control window: a full configuration of a large mesh arrives without pauses.
const WINDOW_BYTES: u32 = 1 << 20;

type Body = http_body_util::Either<Incoming, http_body_util::Empty<bytes::Bytes>>;

/// Serves `listener` for ever.
pub async fn serve(listener: UnixListener, upstream: Upstream) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting on the xDS relay socket");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let upstream = upstream.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let upstream = upstream.clone();
                async move { Ok::<_, Infallible>(relay(&upstream, request).await) }
            });
            let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES * 2)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "the proxy's xDS connection ended");
            }
        });
    }
}

/// Waits for the control plane and joins the two streams.
async fn relay(upstream: &Upstream, request: Request<Incoming>) -> Response<Body> {
    let started = Instant::now();
    let mut backoff = Backoff::new(schedule::RETRY_FIRST, schedule::RECONNECT_MAX);
    let sender = loop {
        let error = match open(upstream).await {
            Ok(sender) => break sender,
            Err(error) => error,
        };
        tracing::debug!(error, "the control plane cannot be reached yet");
        // Dropped by hyper when the proxy gives the stream up.
        tokio::time::sleep(backoff.next(client::jitter()).min(schedule::retry_max(false, started.elapsed()))).await;
    };
    match forward(sender, upstream, request).await {
        Ok(response) => response.map(http_body_util::Either::Left),
        Err(error) => {
            tracing::info!(error, "the control plane did not take the stream");
            unavailable(&error)
        }
    }
}

type Sender = hyper::client::conn::http2::SendRequest<Incoming>;

async fn open(upstream: &Upstream) -> Result<Sender, String> {
    let stream = upstream.connect().await.map_err(|e| e.to_string())?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES * 2)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the control plane ended");
        }
    });
    Ok(sender)
}

async fn forward(mut sender: Sender, upstream: &Upstream, request: Request<Incoming>) -> Result<Response<Incoming>, String> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    head.uri = format!("https://{}{path}", upstream.authority()).parse().map_err(|e| format!("{e}"))?;
    head.headers.remove(header::HOST);
    let bearer = upstream.bearer().map_err(|e| e.to_string())?;
    head.headers.insert(header::AUTHORIZATION, bearer.parse().map_err(|_| "the token is not ASCII".to_owned())?);
    sender.send_request(Request::from_parts(head, body)).await.map_err(|e| e.to_string())
}

/// gRPC's form of "try again later": status 14 without a body.
fn unavailable(reason: &str) -> Response<Body> {
    let message: String = reason.chars().map(|c| if c.is_ascii_graphic() && c != '%' { c } else { '_' }).collect();
    let mut response = Response::new(http_body_util::Either::Right(http_body_util::Empty::new()));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", header::HeaderValue::from_static("14"));
    if let Ok(value) = message.parse() {
        headers.insert("grpc-message", value);
    }
    response
}
