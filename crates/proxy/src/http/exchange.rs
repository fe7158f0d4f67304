//! One attempt: request up and answer down, both at once, until the answer is complete or the attempt has failed.
//!
//! ```text
//! downstream ──rx──► upload ──► up_tx ──► upstream          (goes on while the answer already flows)
//! downstream ◄─ responder ◄── relay ◄── up_rx ◄── upstream
//! ```
//!
//! - Rule: the answer's head is judged before anything of it is sent down; until then the attempt can be repeated.
//! - Rule: what goes wrong after that ends both streams at once; a broken answer is never made to look complete.
//! - Not here: choosing the endpoint and repeating (`http/router.rs`), connections (`cluster/pool.rs`).

use super::body::{BodyError, BodyRx, BodyTx, PumpError, pump};
use super::info::Info;
use super::local_reply::ResetReason;
use super::replay::Replay;
use super::responder::{AnswerBody, Responder};
use super::timeout::{Expired, Timers};
use super::upstream::{UpstreamRx, broken_body};
use lateen_telemetry::ResponseFlags;
use lateen_http1::{BodyDecoder, Framing, Headers, ParseError, ResponseHead};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The answer was passed on completely. `reusable`: both connections can carry on.
    Answered { reusable: bool },
    /// The answer had begun when something broke; both streams were ended.
    Broken,
    /// The answer's head is one to retry on; nothing of it was sent down.
    Unwanted,
    /// No answer.
    Reset(ResetReason),
    /// No answer in time.
    Expired(Expired),
    /// The client went away.
    ClientGone,
    /// The client sent a malformed body.
    ClientProtocol(ParseError),
}

/// What the head of an answer leads to.
pub(crate) enum Verdict {
    /// It is sent down with this body.
    Pass(AnswerBody),
    /// Another attempt is made instead.
    Retry,
}

/// The parts of a request that an attempt works on.
pub(crate) struct Parts<'p, 'a, 'b> {
    pub(crate) rx: &'p mut BodyRx<'a>,
    pub(crate) responder: &'p mut Responder<'b>,
    pub(crate) replay: &'p mut Replay,
    pub(crate) timers: &'p mut Timers,
    pub(crate) info: &'p mut Info,
    pub(crate) response: &'p mut ResponseHead,
    /// Method of the request.
    pub(crate) method: &'p [u8],
    /// The request asks to switch protocols.
    pub(crate) upgrade: bool,
    /// The client waits for `100-continue`.
    pub(crate) expects_continue: bool,
    /// Told of each piece, both ways (gRPC message counts).
    pub(crate) watch: &'p dyn Watch,
}

/// Sees body pieces as they pass.
pub(crate) trait Watch {
    /// A piece of the request.
    fn request_piece(&self, piece: &[u8]);
    /// A piece of the answer.
    fn response_piece(&self, piece: &[u8]);
    /// Trailers of the answer.
    fn response_trailers(&self, trailers: &Headers);
}

enum Event {
    Head(Result<(), ResetReason>),
    Upload(Result<(), PumpError>),
    ClientGone,
    Expired(Expired),
}

/// Sees the final answer's head; is told whether the request could still be sent again.
pub(crate) type Judge<'j> = dyn FnMut(&mut ResponseHead, &mut Info, bool) -> Verdict + 'j;

/// Runs one attempt. The request's head already waits in `up_tx`. `judge` sees the final answer's head and may change it.
pub(crate) async fn run<'u>(
    parts: Parts<'_, '_, '_>,
    mut up_tx: BodyTx<'u>,
    up_rx: UpstreamRx<'u>,
    judge: &mut Judge<'_>,
) -> Ended {
    let Parts { rx, responder, replay, timers, info, response, method, upgrade, expects_continue, watch } = parts;
    let (received, complete) = (Cell::new(0_u64), Cell::new(false));
    let room = replay.room();
    let mut up_rx = Some(up_rx);
    let ended = {
        let mut upload = pin!(upload(rx, &mut up_tx, replay, upgrade, &complete, |piece| {
            received.set(received.get() + piece.len() as u64);
            watch.request_piece(piece);
        }));
        let first = loop {
            match wait_head(&mut upload, up_rx.as_mut(), (method, &mut *response), responder, (timers, &complete)).await {
                Event::Head(Ok(())) if response.is_informational() => {
                    let wanted = response.status != 100 || expects_continue;
                    if wanted && responder.informational(response.status, &response.headers).await.is_err() {
                        break Event::ClientGone;
                    }
                }
                other => break other,
            }
        };
        match first {
            Event::Head(Err(reason)) => Ended::Reset(reason),
            // Nobody asked to switch protocols.
            Event::Head(Ok(())) if response.status == 101 && !upgrade => Ended::Reset(ResetReason::ProtocolError),
            Event::Expired(which) => Ended::Expired(which),
            Event::ClientGone => Ended::ClientGone,
            Event::Upload(result) => upload_failed(result),
            Event::Head(Ok(())) => {
                timers.answer_begun();
                let switches = response.switches || (upgrade && matches!(up_rx, Some(UpstreamRx::H2Body(_))) && response.status == 200);
                let repeatable = room.is_some_and(|room| received.get() <= room);
                match judge(response, info, repeatable) {
                    Verdict::Retry => Ended::Unwanted,
                    Verdict::Pass(_) if upgrade && switches => Ended::Answered { reusable: false },
                    Verdict::Pass(body) => {
                        let Some(up_rx) = up_rx.take() else { return Ended::Broken };
                        let mut answer = up_rx.into_answer(response, false);
                        let reusable = answer.reusable;
                        match relay(&mut upload, &mut answer.body, responder, (response, body), (timers, &complete), info, watch).await {
                            Ended::Answered { .. } => {
                                let finished = answer.body.is_done() && complete.get();
                                info.bytes_received += received.get();
                                return Ended::Answered { reusable: reusable && finished };
                            }
                            other => other,
                        }
                    }
                }
            }
        }
    };
    info.bytes_received += received.get();
    if let (Ended::Answered { .. }, Some(up_rx)) = (&ended, up_rx) {
        return tunnel(rx, responder, (up_tx, up_rx), response, timers, info).await;
    }
    if !matches!(ended, Ended::Answered { .. }) {
        up_tx.reset(h2::Reason::CANCEL);
    }
    ended
}

/// Sends the request to its end, then watches the client. Comes back only when something is wrong on the client's side.
async fn upload(
    rx: &mut BodyRx<'_>,
    up_tx: &mut BodyTx<'_>,
    replay: &mut Replay,
    upgrade: bool,
    complete: &Cell<bool>,
    look: impl FnMut(&[u8]),
) -> Result<(), PumpError> {
    let sent = if upgrade {
        // Bytes after the head belong to the other protocol: they wait for the answer.
        up_tx.flush().await.map_err(|_| PumpError::To)
    } else {
        replay.send(rx, up_tx, look).await
    };
    match sent {
        Ok(()) => complete.set(true),
        // The upstream stopped reading; what it answered, or that it closed, shows on its other half.
        Err(PumpError::To) => std::future::pending::<()>().await,
        Err(from) => return Err(from),
    }
    if upgrade {
        std::future::pending::<()>().await;
    }
    Err(PumpError::From(rx.gone().await))
}

fn upload_failed(result: Result<(), PumpError>) -> Ended {
    match result {
        Err(PumpError::From(BodyError::Protocol(error))) => Ended::ClientProtocol(error),
        Err(PumpError::From(_) | PumpError::To) | Ok(()) => Ended::ClientGone,
    }
}

async fn wait_head<U: Future<Output = Result<(), PumpError>>>(
    upload: &mut Pin<&mut U>,
    up_rx: Option<&mut UpstreamRx<'_>>,
    (method, response): (&[u8], &mut ResponseHead),
    responder: &mut Responder<'_>,
    (timers, complete): (&mut Timers, &Cell<bool>),
) -> Event {
    let Some(up_rx) = up_rx else { return Event::ClientGone };
    let mut head = pin!(up_rx.head(method, response));
    let mut uploading = true;
    poll_fn(|cx| {
        if uploading && let Poll::Ready(result) = upload.as_mut().poll(cx) {
            uploading = false;
            return Poll::Ready(Event::Upload(result));
        }
        if complete.get() {
            timers.request_complete();
        }
        if let Poll::Ready(result) = head.as_mut().poll(cx) {
            return Poll::Ready(Event::Head(result));
        }
        if responder.poll_gone(cx).is_ready() {
            return Poll::Ready(Event::ClientGone);
        }
        timers.poll(cx).map(Event::Expired)
    })
    .await
}

async fn relay<U: Future<Output = Result<(), PumpError>>>(
    upload: &mut Pin<&mut U>,
    body: &mut BodyRx<'_>,
    responder: &mut Responder<'_>,
    (response, answer_body): (&ResponseHead, AnswerBody),
    (timers, complete): (&mut Timers, &Cell<bool>),
    info: &mut Info,
    watch: &dyn Watch,
) -> Ended {
    if responder.head(response.status, &response.headers, answer_body).is_err() {
        return client_gone(responder, info);
    }
    let (sent, moved) = (Cell::new(0_u64), Cell::new(false));
    let outcome = {
        let mut relaying = pin!(pump(body, responder.body(), |piece| {
            sent.set(sent.get() + piece.len() as u64);
            moved.set(true);
            watch.response_piece(piece);
        }));
        let mut uploading = true;
        poll_fn(|cx| {
            if let Poll::Ready(result) = relaying.as_mut().poll(cx) {
                return Poll::Ready(Ok(result));
            }
            if uploading && let Poll::Ready(result) = upload.as_mut().poll(cx) {
                uploading = false;
                return Poll::Ready(Err(Event::Upload(result)));
            }
            if complete.get() {
                timers.request_complete();
            }
            if moved.replace(false) {
                timers.touch();
            }
            timers.poll(cx).map(|which| Err(Event::Expired(which)))
        })
        .await
    };
    info.bytes_sent += sent.get();
    if let Some(trailers) = body.trailers() {
        watch.response_trailers(trailers);
    }
    match outcome {
        Ok(Ok(())) => Ended::Answered { reusable: true },
        Ok(Err(PumpError::To)) | Err(Event::Upload(_) | Event::ClientGone | Event::Head(_)) => client_gone(responder, info),
        Ok(Err(PumpError::From(error))) => {
            let reason = broken_body(&error);
            info.flags.insert(if reason == ResetReason::ConnectionTermination { ResponseFlags::UPSTREAM_CONNECTION_TERMINATION } else { reason.flag() });
            info.details = format!("upstream_reset_after_response_started{{{}}}", reason.text().replace(' ', "_")).into();
            responder.reset(h2::Reason::INTERNAL_ERROR);
            Ended::Broken
        }
        Err(Event::Expired(which)) => {
            expired_after_start(which, info);
            responder.reset(h2::Reason::CANCEL);
            Ended::Broken
        }
    }
}

fn client_gone(responder: &mut Responder<'_>, info: &mut Info) -> Ended {
    info.flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
    info.details = "downstream_remote_disconnect".into();
    responder.reset(h2::Reason::CANCEL);
    Ended::Broken
}

fn expired_after_start(which: Expired, info: &mut Info) {
    let (flag, details) = match which {
        Expired::Route | Expired::PerTry => (ResponseFlags::UPSTREAM_REQUEST_TIMEOUT, "response_timeout"),
        Expired::Request => (ResponseFlags::NONE, "request_overall_timeout"),
        Expired::Idle => (ResponseFlags::STREAM_IDLE_TIMEOUT, "stream_idle_timeout"),
        Expired::MaxDuration => (ResponseFlags::DURATION_TIMEOUT, "max_duration_timeout"),
    };
    info.flags.insert(flag);
    info.details = details.into();
}

/// After the upstream switched protocols: bytes both ways until both ends are done.
async fn tunnel<'u>(
    rx: &mut BodyRx<'_>,
    responder: &mut Responder<'_>,
    (mut up_tx, up_rx): (BodyTx<'u>, UpstreamRx<'u>),
    response: &ResponseHead,
    timers: &mut Timers,
    info: &mut Info,
) -> Ended {
    let mut answer = up_rx.into_answer(response, true);
    if responder.head(response.status, &response.headers, AnswerBody::Tunnel).is_err() {
        return client_gone(responder, info);
    }
    if let BodyRx::H1(rx) = &mut *rx {
        rx.decoder = BodyDecoder::new(Framing::UntilClose);
    }
    responder.close = true;
    let (up, down, moved) = (Cell::new(0_u64), Cell::new(0_u64), Cell::new(true));
    let add = |counter: &Cell<u64>, piece: &[u8]| {
        counter.set(counter.get() + piece.len() as u64);
        moved.set(true);
    };
    let outcome = {
        let mut upwards = pin!(one_way(rx, &mut up_tx, |piece| add(&up, piece)));
        let mut downwards = pin!(one_way(&mut answer.body, responder.body(), |piece| add(&down, piece)));
        let (mut up_done, mut down_done) = (false, false);
        poll_fn(|cx| {
            if !up_done && let Poll::Ready(result) = upwards.as_mut().poll(cx) {
                if result.is_err() {
                    return Poll::Ready(None);
                }
                up_done = true;
            }
            if !down_done && let Poll::Ready(result) = downwards.as_mut().poll(cx) {
                if result.is_err() {
                    return Poll::Ready(None);
                }
                down_done = true;
            }
            if up_done && down_done {
                return Poll::Ready(None);
            }
            if moved.replace(false) {
                timers.touch();
            }
            timers.poll(cx).map(Some)
        })
        .await
    };
    info.bytes_received += up.get();
    info.bytes_sent += down.get();
    if let Some(which) = outcome {
        expired_after_start(which, info);
    }
    up_tx.reset(h2::Reason::NO_ERROR);
    Ended::Answered { reusable: false }
}

async fn one_way(rx: &mut BodyRx<'_>, tx: &mut BodyTx<'_>, look: impl FnMut(&[u8])) -> Result<(), PumpError> {
    pump(rx, tx, look).await?;
    tx.end_stream().await.map_err(|_| PumpError::To)
}
