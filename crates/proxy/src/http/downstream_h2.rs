//! An HTTP/2 client's connection: many streams at once, each a task of this worker.
//!
//! - Reads: `plan::http::Http2Options`; limits and timeouts of `plan::http::Hcm`.
//! - Rule: each stream is judged by the plan in force when it opens; a connection that would not be let in now is ended.
//! - Limits: streams at once, header list size, resets and pings (`h2`'s own budgets), idle time.
//! - Not here: one request (`http/stream.rs`), frames (`h2`).

use super::body::{BodyRx, H2Rx};
use super::codec::h2 as codec;
use super::local_reply::LocalReply;
use super::prefixed::Prefixed;
use super::request::{Protocol, Request};
use super::responder::Responder;
use super::serving::Serving;
use super::stream::{Origin, Stream};
use bytes::Bytes;
use lateen_http1::{RequestHead, ResponseHead};
use lateen_plan::http::Hcm;
use lateen_plan::listener::Listener;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// Stream window in bytes, so that one upload can run at full speed on a local link.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Connection window in bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams at once. Envoy's default is 1024, its advice for the edge 100.
const STREAMS_MAX: u32 = 1024;
/// Streams reset by the client and not yet forgotten; more is a rapid-reset attack.
const PENDING_RESETS_MAX: usize = 64;
/// Resets provoked by malformed frames before the connection is ended.
const LOCAL_RESETS_MAX: usize = 256;
/// Bytes buffered for sending, per stream.
const SEND_BUFFER: usize = 256 * 1024;

/// Serves the connection to its end.
pub(crate) async fn serve(serving: Serving, stream: Prefixed) {
    let options = serving.hcm.http2.clone();
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(options.initial_stream_window_size.unwrap_or(STREAM_WINDOW))
        .initial_connection_window_size(options.initial_connection_window_size.unwrap_or(CONNECTION_WINDOW))
        .max_concurrent_streams(options.max_concurrent_streams.unwrap_or(STREAMS_MAX))
        .max_header_list_size(u32::try_from(serving.hcm.headers_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(LOCAL_RESETS_MAX))
        .max_send_buffer_size(SEND_BUFFER);
    if options.allow_connect {
        builder.enable_connect_protocol();
    }
    let handshake = builder.handshake::<_, Bytes>(stream);
    let handshake = match serving.hcm.request_headers_timeout {
        Some(limit) => tokio::time::timeout(limit, handshake).await.ok(),
        None => Some(handshake.await),
    };
    if let Some(Ok(connection)) = handshake {
        accept(serving, connection).await;
    }
}

async fn accept(mut serving: Serving, mut connection: h2::server::Connection<Prefixed, Bytes>) {
    let origin = Rc::clone(&serving.origin);
    let active = Rc::new(Cell::new(0_u32));
    let (mut requests, mut leaving) = (0_u32, false);
    loop {
        let event = next(&mut serving, &origin, &mut connection, &active, leaving).await;
        match event {
            Event::Request(request, respond) => {
                if !serving.still_admitted() {
                    connection.abrupt_shutdown(h2::Reason::NO_ERROR);
                    leaving = true;
                    continue;
                }
                requests += 1;
                if serving.requests_used_up(requests) && !leaving {
                    connection.graceful_shutdown();
                    leaving = true;
                }
                active.set(active.get() + 1);
                let guard = Streaming(Rc::clone(&active));
                let work = one(Rc::clone(&origin), (Arc::clone(&serving.hcm), Arc::clone(&serving.listener)), request, respond);
                tokio::task::spawn_local(async move {
                    work.await;
                    drop(guard);
                });
            }
            Event::Leave => {
                connection.graceful_shutdown();
                leaving = true;
            }
            Event::End => return,
        }
    }
}

/// Counts a stream in work until dropped.
struct Streaming(Rc<Cell<u32>>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[expect(clippy::large_enum_variant, reason = "lives on the stack for one match")]
enum Event {
    Request(http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>),
    /// Drain, or idle for too long: no new streams.
    Leave,
    End,
}

async fn next(
    serving: &mut Serving,
    origin: &Origin,
    connection: &mut h2::server::Connection<Prefixed, Bytes>,
    active: &Cell<u32>,
    leaving: bool,
) -> Event {
    serving.begin_idle(1);
    let mut draining = pin!(origin.worker.drain_begun());
    poll_fn(|cx| {
        match connection.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, respond)))) => return Poll::Ready(Event::Request(request, respond)),
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Event::End),
            Poll::Pending => {}
        }
        if leaving {
            return Poll::Pending;
        }
        let idle_now = active.get() == 0 && serving.poll_idle(cx).is_ready();
        if idle_now || draining.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Leave);
        }
        Poll::Pending
    })
    .await
}

async fn one(origin: Rc<Origin>, (hcm, listener): (Arc<Hcm>, Arc<Listener>), request: http::Request<h2::RecvStream>, respond: h2::server::SendResponse<Bytes>) {
    let (parts, body) = request.into_parts();
    let ended = body.is_end_stream();
    let mut head = RequestHead::default();
    let read = codec::read_request(&parts, ended, hcm.headers_count_max, &mut head);
    let request = Request { head, protocol: Protocol::Http2, https: false };
    let mut stream = Stream::new(&origin, hcm, listener, request, ResponseHead::default());
    let mut responder = Responder::h2(respond);
    match read {
        Ok(()) => {
            let mut rx = BodyRx::H2(Box::new(H2Rx::new(body)));
            stream.serve(&mut rx, &mut responder).await;
        }
        Err(malformed) => {
            let status = if malformed.0 == "http2.too_many_headers" { 431 } else { 400 };
            stream.refuse(LocalReply::protocol_error(status, malformed.0), &mut responder).await;
        }
    }
}
