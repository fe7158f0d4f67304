//! HTTP: one downstream connection after it was accepted, decrypted and matched to its filter chain.
//!
//! ```text
//! serve ─► HTTP/1 (downstream_h1) ─┐                      ┌─► exchange ─► HTTP/1 (pool)
//!      └─► HTTP/2 (downstream_h2) ─┴► stream ─► router ───┴─► exchange ─► HTTP/2 (h2_client)
//! ```
//!
//! - Reads: `plan::http::Hcm`, `plan::route::RouteTable`, `plan::cluster::Cluster`.
//! - Twin: `compile/src/listener/http_connection_manager.rs`.
//! - Rule: the request path is `stream.rs`, read top-down; everything else is a step of it.
//! - Not here: accepting and TLS (`listener`, `transport`), TCP (`network`), filters (`filters`).

mod answer;
mod body;
mod client_cert;
mod codec;
mod downstream_h1;
mod downstream_h2;
pub(crate) mod exchange;
mod forwarded;
mod grpc;
mod h2_client;
pub(crate) mod info;
mod io;
pub(crate) mod local_reply;
pub(crate) mod log;
mod mirror;
mod prefixed;
mod replay;
pub(crate) mod request;
mod request_id;
mod responder;
mod retry;
pub(crate) mod router;
mod serving;
pub(crate) mod stream;
mod timeout;
pub(crate) mod upstream;

use crate::connection::Downstream;
use codec::h1::{READ_ROOM, ReadBuffer};
use io::{Duplex, Io};
use lateen_plan::http::{Codec, Hcm};
use prefixed::Prefixed;
use serving::Serving;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use stream::Origin;

/// The first bytes of every HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection to its end.
pub async fn serve(downstream: Downstream, hcm: Arc<Hcm>) {
    let Downstream { mut stream, worker, facts, listener, chain, generation, .. } = downstream;
    let tls = stream.tls().map(Rc::clone);
    let opened = facts.opened;
    let by_alpn = stream.alpn().map(<[u8]>::to_vec);
    let origin = Origin { worker, facts, tls, alpn: crate::filters::alpn::Lists::default() };
    let codec = hcm.codec;
    let mut serving = Serving::new(origin, hcm, listener, chain, (generation, opened));
    let mut buffer = ReadBuffer::default();
    let speaks_h2 = match (codec, by_alpn.as_deref()) {
        (Codec::Http1, _) => false,
        (Codec::Http2, _) => true,
        (Codec::Auto, Some(b"h2" | b"istio-h2")) => true,
        (Codec::Auto, Some(b"http/1.1" | b"istio-http/1.1" | b"http/1.0" | b"istio-http/1.0")) => false,
        (Codec::Auto, Some(_) | None) => starts_h2(&mut serving, &mut stream, &mut buffer).await,
    };
    if speaks_h2 {
        Box::pin(downstream_h2::serve(serving, Prefixed::new(buffer.take_memory(), stream))).await;
    } else {
        downstream_h1::serve(&mut serving, &mut stream, buffer).await;
    }
}

/// Reads until it is clear whether the client starts with HTTP/2's preface. What was read stays in `buffer`.
async fn starts_h2(serving: &mut Serving, stream: &mut crate::transport::Stream, buffer: &mut ReadBuffer) -> bool {
    let io = Io::new(stream);
    let io: &dyn Duplex = &io;
    let worker = Rc::clone(&serving.origin.worker);
    let mut sniff = pin!(async {
        if io.readable().await.is_err() {
            return false;
        }
        *buffer = ReadBuffer::new(worker.buffers.take());
        loop {
            let seen = buffer.unread();
            if seen.starts_with(PREFACE) {
                return true;
            }
            if !seen.is_empty() && !PREFACE.starts_with(seen) {
                return false;
            }
            buffer.make_room(READ_ROOM);
            if !matches!(io.read(&mut buffer.bytes).await, Ok(read) if read > 0) {
                return false;
            }
        }
    });
    serving.begin_idle(0);
    poll_fn(|cx| match sniff.as_mut().poll(cx) {
        Poll::Ready(found) => Poll::Ready(found),
        Poll::Pending => serving.poll_idle(cx).map(|()| false),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_output<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_stays_small() {
        let bytes = size_of_output(serve);
        assert!(bytes < 2048, "{bytes} bytes for each connection");
    }
}
