//! An HTTP/1 client's connection: one request after the other, pipelined ones included.
//!
//! ```text
//! idle (no buffers) ──bytes──► head ──► stream ──► answer ──keep-alive──► idle or next head
//!                                └─ malformed ─► answer ─► close
//! ```
//!
//! - Reads: `plan::http::Hcm`: limits, idle and head timeouts.
//! - Rule: before every request the connection is judged by the plan in force; one that would not be let in now is closed.
//! - Rule: an idle connection holds no buffer.
//! - Limits: head size and count, `request_headers_timeout`, `idle_timeout`, requests per connection.
//! - Not here: one request (`http/stream.rs`).

use super::body::{BodyRx, H1Rx};
use super::codec::h1::{H1Tx, READ_ROOM, ReadBuffer, TxFraming};
use super::io::{Duplex, Io};
use super::local_reply::LocalReply;
use super::request::{Protocol, Request};
use super::responder::Responder;
use super::serving::Serving;
use super::stream::Stream;
use super::timeout::Timer;
use lateen_http1::{BodyDecoder, Limits, ParseError, RequestHead, ResponseHead, Version, parse_request};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What follows a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    Close,
    /// The client may still be sending: it is given time to read the answer before the socket goes.
    CloseAfterClient,
}

/// Serves the connection to its end. `buffer` holds what was read already.
pub(crate) async fn serve(serving: &mut Serving, stream: &mut crate::transport::Stream, mut buffer: ReadBuffer) {
    let mut spare = Spare::default();
    let ending = {
        let io = Io::new(stream);
        let io: &dyn Duplex = &io;
        let worker = Rc::clone(&serving.origin.worker);
        let mut draining = pin!(worker.drain_begun());
        loop {
            if buffer.is_empty() {
                serving.origin.worker.buffers.give(buffer.take_memory());
                if !idle(serving, io, draining.as_mut(), spare.requests).await {
                    break Ending::Quiet;
                }
                buffer = ReadBuffer::new(serving.origin.worker.buffers.take());
            }
            // On the heap, so that an idle connection does not hold the room that a request needs.
            if let Some(ending) = Box::pin(busy(serving, io, &mut buffer, &mut spare)).await {
                break ending;
            }
        }
    };
    serving.origin.worker.buffers.give(buffer.take_memory());
    if ending == Ending::Abrupt
        && let Some(tcp) = stream.tcp()
    {
        crate::transport::raw::reset_on_close(tcp);
    }
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Quiet,
    /// By a reset: an answer broke off, or policy refuses the connection now.
    Abrupt,
}

/// Serves requests while bytes are there. `None`: the connection is idle again.
async fn busy(serving: &mut Serving, io: &(dyn Duplex + '_), buffer: &mut ReadBuffer, spare: &mut Spare) -> Option<Ending> {
    loop {
        if !serving.still_admitted() {
            return Some(Ending::Abrupt);
        }
        spare.requests += 1;
        match one(serving, io, buffer, spare).await {
            Next::Request if buffer.is_empty() => return None,
            Next::Request => {}
            Next::Close if spare.broken => return Some(Ending::Abrupt),
            Next::Close => return Some(Ending::Quiet),
            Next::CloseAfterClient => {
                linger(io, buffer, serving.hcm.delayed_close_timeout).await;
                return Some(Ending::Quiet);
            }
        }
    }
}

/// Memory that one connection's requests reuse.
#[derive(Default)]
struct Spare {
    head: RequestHead,
    response: ResponseHead,
    timer: Timer,
    /// Requests so far.
    requests: u32,
    /// An answer broke off: closing must say so.
    broken: bool,
}

/// Waits for the next request. False: the connection ends.
async fn idle(serving: &mut Serving, io: &(dyn Duplex + '_), mut draining: Pin<&mut impl Future<Output = ()>>, requests: u32) -> bool {
    if serving.origin.worker.is_draining() && requests > 0 {
        return false;
    }
    serving.begin_idle(requests);
    poll_fn(|cx| {
        if let Poll::Ready(result) = io.poll_readable(cx) {
            return Poll::Ready(result.is_ok());
        }
        if serving.poll_idle(cx).is_ready() || (requests > 0 && draining.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
}

async fn one(serving: &Serving, io: &(dyn Duplex + '_), buffer: &mut ReadBuffer, spare: &mut Spare) -> Next {
    let worker = Rc::clone(&serving.origin.worker);
    let limits = Limits { head_bytes: serving.hcm.headers_bytes_max, headers_max: serving.hcm.headers_count_max };
    let mut head = std::mem::take(&mut spare.head);
    let read = read_head(serving, io, buffer, limits, &mut head).await;
    let mut out = worker.buffers.take();
    let request = Request { protocol: protocol(&head), head, https: false };
    let mut stream = Stream::new(&serving.origin, serving.hcm.clone(), serving.listener.clone(), request, std::mem::take(&mut spare.response));
    stream.timer = spare.timer.take();
    let next = match read {
        Ok(()) => {
            let head = &stream.request.head;
            let last = !head.keep_alive || worker.is_draining() || serving.requests_used_up(spare.requests);
            let http10 = head.version == Version::Http10;
            let rx = H1Rx { io, buffer, decoder: BodyDecoder::new(head.framing), closed: false };
            let mut rx = BodyRx::H1(rx);
            let tx = H1Tx { io, out: &mut out, framing: TxFraming::Plain };
            let mut responder = Responder::h1(tx, http10, last);
            stream.serve(&mut rx, &mut responder).await;
            let (started, close) = (responder.started, responder.close);
            spare.broken = responder.was_reset;
            match (close, rx.is_done()) {
                _ if responder.was_reset || !started => Next::Close,
                (false, true) => Next::Request,
                (true, true) => Next::Close,
                (_, false) => Next::CloseAfterClient,
            }
        }
        Err(HeadError::Gone) => {
            give_back(stream, spare);
            worker.buffers.give(out);
            return Next::Close;
        }
        Err(HeadError::Malformed(error)) => refuse(&mut stream, io, &mut out, LocalReply::protocol_error(error.status(), error.details())).await,
        Err(HeadError::TooSlow) => refuse(&mut stream, io, &mut out, LocalReply::request_timeout("request_header_timeout")).await,
    };
    give_back(stream, spare);
    worker.buffers.give(out);
    next
}

fn give_back(stream: Stream<'_>, spare: &mut Spare) {
    spare.head = stream.request.head;
    spare.response = stream.response;
    spare.timer = stream.timer;
}

async fn refuse(stream: &mut Stream<'_>, io: &(dyn Duplex + '_), out: &mut Vec<u8>, reply: LocalReply) -> Next {
    stream.request.head.clear();
    let tx = H1Tx { io, out, framing: TxFraming::Plain };
    let mut responder = Responder::h1(tx, false, true);
    stream.refuse(reply, &mut responder).await;
    Next::CloseAfterClient
}

fn protocol(head: &RequestHead) -> Protocol {
    match head.version {
        Version::Http10 => Protocol::Http10,
        Version::Http11 => Protocol::Http11,
    }
}

enum HeadError {
    /// The client closed, between requests or in the middle of a head.
    Gone,
    Malformed(ParseError),
    TooSlow,
}

async fn read_head(serving: &Serving, io: &(dyn Duplex + '_), buffer: &mut ReadBuffer, limits: Limits, head: &mut RequestHead) -> Result<(), HeadError> {
    let begun = Instant::now();
    let mut seen = 0;
    loop {
        // A head can only become complete with a line feed; the first look catches what is no HTTP at all.
        let fresh = buffer.unread().get(seen..).unwrap_or_default();
        let worth_parsing = seen == 0 || memchr::memchr(b'\n', fresh).is_some() || buffer.unread().len() >= limits.head_bytes;
        if !buffer.is_empty()
            && worth_parsing
            && let Some(length) = parse_request(buffer.unread(), limits, head).map_err(HeadError::Malformed)?
        {
            buffer.consume(length);
            return Ok(());
        }
        seen = buffer.unread().len();
        buffer.make_room(READ_ROOM);
        let read = match serving.hcm.request_headers_timeout {
            None => io.read(&mut buffer.bytes).await,
            Some(limit) => {
                let left = limit.saturating_sub(begun.elapsed());
                tokio::time::timeout(left, io.read(&mut buffer.bytes)).await.map_err(|_| HeadError::TooSlow)?
            }
        };
        match read {
            Ok(0) | Err(_) => return Err(HeadError::Gone),
            Ok(_) => {}
        }
    }
}

/// After an answer that ends the connection early: sends the end, then reads and forgets what the client still sends,
/// because closing with unread bytes would reset the connection and take the answer with it.
async fn linger(io: &(dyn Duplex + '_), buffer: &mut ReadBuffer, limit: Duration) {
    let drained = async {
        io.shutdown().await?;
        loop {
            buffer.consume(buffer.unread().len());
            buffer.make_room(READ_ROOM);
            if io.read(&mut buffer.bytes).await? == 0 {
                return io::Result::Ok(());
            }
        }
    };
    let _ = tokio::time::timeout(limit.min(LINGER_MAX), drained).await;
}

/// No client needs longer to read an answer that is already in its socket.
const LINGER_MAX: Duration = Duration::from_secs(1);
