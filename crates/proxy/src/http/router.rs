//! The router: sends a request to an endpoint of its cluster, again if the policy says so, and passes the answer on.
//!
//! - Reads: `plan::route::Forward`, `plan::route::RetryPolicy`, `plan::cluster::Cluster`.
//! - Twin: `kinds/src/virtual_service`.
//! - Rule: a request whose answer has begun downstream is never sent again.
//! - Rule: each attempt holds its place in circuit breakers and least-request counts by guards, whatever way it ends.
//! - Limits: retries by policy and by the cluster's retry breaker; bodies kept for them by `per_connection_buffer_limit_bytes`.
//! - Not here: one attempt's bytes (`http/exchange.rs`), connections (`cluster`, `http/h2_client.rs`).

use super::body::{BodyRx, BodyTx, H2Tx};
use super::codec::h1::{H1Tx, ReadBuffer, TxFraming};
use super::exchange::{self, Ended, Parts, Verdict};
use super::h2_client;
use super::info::Info;
use super::io::Io;
use super::local_reply::{LocalReply, ResetReason};
use super::replay::Replay;
use super::request::Protocol;
use super::responder::{AnswerBody, Responder};
use super::retry::{self, Retries};
use super::stream::Stream;
use super::timeout::{Expired, Timers};
use super::upstream::{Extra, UpstreamRx, h2_request, write_h1_request};
use crate::cluster::circuit_breaker::{Guard, Resource};
use crate::cluster::shared::{SharedCluster, SharedHost, inc};
use crate::cluster::{Cluster, ConnectError, Host, Lease, Outcome, Pick, checkout};
use lateen_base::headers;
use lateen_http1::{Known, Limits, ResponseHead};
use lateen_plan::cluster::UpstreamProtocol;
use lateen_plan::listener::Direction;
use lateen_plan::route::{Forward, Priority};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

/// What forwarding needs besides the stream: the two ways downstream.
pub(crate) struct Downstream<'p, 'a, 'b> {
    pub(crate) rx: &'p mut BodyRx<'a>,
    pub(crate) responder: &'p mut Responder<'b>,
}

/// Takes out the fields by which the caller steered this router, and those that every attempt writes anew.
fn drop_used_fields(stream: &mut Stream<'_>, target: &Target<'_>, timers: &Timers) {
    let fields = &mut stream.request.head.headers;
    if fields.known(Known::XEnvoy).is_none() {
        return;
    }
    for name in [
        &b"x-envoy-retry-on"[..],
        b"x-envoy-retry-grpc-on",
        b"x-envoy-max-retries",
        b"x-envoy-upstream-rq-timeout-ms",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
    ] {
        fields.remove(name);
    }
    if target.attempt_count {
        fields.remove(headers::ATTEMPT_COUNT.as_bytes());
    }
    if timers.has_request_deadline() {
        fields.remove(headers::EXPECTED_TIMEOUT.as_bytes());
    }
}

/// How a request is forwarded, after routing.
pub(crate) struct Target<'t> {
    pub(crate) forward: &'t Forward,
    pub(crate) cluster: Rc<Cluster>,
    pub(crate) retry: Option<&'t lateen_plan::route::RetryPolicy>,
    /// Labels the endpoint must carry.
    pub(crate) metadata: &'t [(lateen_plan::names::Name, lateen_plan::names::Name)],
    /// `x-envoy-attempt-count` is sent.
    pub(crate) attempt_count: bool,
    pub(crate) hash: Option<u64>,
    pub(crate) upgrade: bool,
}

/// Forwards the stream's request. `Some`: nothing was sent down yet and this is the answer.
pub(crate) async fn forward(stream: &mut Stream<'_>, target: &Target<'_>, mut down: Downstream<'_, '_, '_>, timers: &mut Timers) -> Option<LocalReply> {
    let mut retries = Retries::new(target.retry, &stream.request, stream.worker());
    drop_used_fields(stream, target, timers);
    let mirrors = !target.forward.mirrors.is_empty();
    let limit = if retries.possible() || mirrors { target.cluster.plan.per_connection_buffer_bytes_max as usize } else { 0 };
    let mut replay = Replay::new(limit);
    if down.rx.is_done() {
        timers.request_complete();
    }
    let mut tried: Vec<Rc<Host>> = Vec::new();
    loop {
        let pick = Pick {
            hash: target.hash,
            tried: if target.retry.is_some_and(|policy| policy.avoid_previous_hosts) { &tried } else { &[] },
            attempts_max: target.retry.map_or(1, |policy| policy.host_selection_attempts_max),
            original_dst: Some(stream.original_dst(target)),
            metadata: target.metadata,
        };
        let Some(host) = target.cluster.pick(stream.worker(), &pick) else { return Some(LocalReply::no_healthy_upstream()) };
        stream.info.attempts += 1;
        stream.info.host = Some(Rc::clone(&host));
        let failure = match attempt(stream, target, &host, &mut down, (&mut replay, timers, &mut retries)).await {
            Attempt::Done => {
                if mirrors {
                    super::mirror::send(stream, target, &replay);
                }
                return None;
            }
            Attempt::Failed(failure) => failure,
        };
        let worker = Rc::clone(stream.worker());
        let again = retries.next(&failure, &replay, &target.cluster, &mut stream.info, &worker);
        let Some(wait) = again else { return Some(give_up(&failure, stream)) };
        tried.push(host);
        timers.attempt_ended();
        match pause(wait, timers, &mut down).await {
            None => timers.attempt_begins(),
            Some(failure) => return Some(answer_for(&failure, &stream.info)),
        }
    }
}

/// Why an attempt brought no answer to pass on.
#[derive(Debug)]
pub(crate) enum Failure {
    Connect(ConnectError),
    Reset { reason: ResetReason, sent: bool, reused: bool },
    /// The answer's head, to be retried on.
    Unwanted,
    Expired(Expired),
    ClientGone,
    ClientProtocol(lateen_http1::ParseError),
    /// The request has no HTTP/2 form.
    Unwritable,
}

pub(crate) enum Attempt {
    Done,
    Failed(Failure),
}

/// Counts an attempt as its endpoint's work until dropped.
struct Active {
    cluster: Arc<SharedCluster>,
    host: Arc<SharedHost>,
    _request: Guard,
}

impl Active {
    fn begin(cluster: &Cluster, host: &Host, priority: usize) -> Option<Self> {
        let request = cluster.breaker(priority).take(Resource::Requests, cluster.thresholds(priority).max_requests)?;
        host.shared.rq_active.fetch_add(1, Ordering::Relaxed);
        inc(&host.shared.stats.rq_total);
        inc(&cluster.shared.stats.upstream_rq_total);
        inc(&cluster.shared.stats.upstream_rq_active);
        Some(Self { cluster: Arc::clone(&cluster.shared), host: Arc::clone(&host.shared), _request: request })
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.host.rq_active.fetch_sub(1, Ordering::Relaxed);
        self.cluster.stats.upstream_rq_active.fetch_sub(1, Ordering::Relaxed);
    }
}

type Keep<'k, 'r> = (&'k mut Replay, &'k mut Timers, &'k mut Retries<'r>);

async fn attempt(stream: &mut Stream<'_>, target: &Target<'_>, host: &Rc<Host>, down: &mut Downstream<'_, '_, '_>, keep: Keep<'_, '_>) -> Attempt {
    let priority = priority_index(target.forward.priority);
    let Some(_active) = Active::begin(&target.cluster, host, priority) else {
        return Attempt::Failed(Failure::Connect(ConnectError::Overflow));
    };
    let (replay, timers, retries) = keep;
    let key = stream.pool_key(target);
    let h2 = match target.cluster.plan.http.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::UseDownstream => stream.request.protocol == Protocol::Http2,
        UpstreamProtocol::Auto => false,
    };
    let auto = target.cluster.plan.http.protocol == UpstreamProtocol::Auto;
    let worker = Rc::clone(stream.worker());
    let connecting = async {
        if h2 || (auto && h2_client::has_connection(host, &key)) {
            return h2_client::checkout(&worker, &target.cluster, host, &key, priority).await.map(Upstream::H2);
        }
        let mut lease = checkout(&worker, &target.cluster, host, &key, priority).await?;
        if auto && lease.connection().stream.alpn() == Some(b"h2") {
            return h2_client::adopt(host, &key, lease.detach()).await.map(Upstream::H2);
        }
        Ok(Upstream::H1(lease))
    };
    let upstream = match or_cut_off(connecting, timers, down).await {
        Err(failure) => return Attempt::Failed(failure),
        Ok(Err(error)) => {
            report_failure(stream, target, host, &error);
            stream.info.transport_failure = error.transport_failure_reason().to_owned().into();
            return Attempt::Failed(Failure::Connect(error));
        }
        Ok(Ok(upstream)) => upstream,
    };
    let extra = Extra {
        attempt_count: target.attempt_count.then_some(stream.info.attempts),
        expected_timeout_ms: timers.expected_ms(),
        upgrade: None,
    };
    let work = Work { host, target, down, replay, timers, retries };
    match upstream {
        Upstream::H1(lease) => over_h1(stream, work, lease, extra).await,
        Upstream::H2(connection) => over_h2(stream, work, connection, extra).await,
    }
}

enum Upstream {
    H1(Lease),
    H2(h2_client::Slot),
}

struct Work<'w, 'p, 'a, 'b, 'r> {
    host: &'w Rc<Host>,
    target: &'w Target<'w>,
    down: &'w mut Downstream<'p, 'a, 'b>,
    replay: &'w mut Replay,
    timers: &'w mut Timers,
    retries: &'w mut Retries<'r>,
}

async fn over_h1(stream: &mut Stream<'_>, work: Work<'_, '_, '_, '_, '_>, mut lease: Lease, mut extra: Extra<'_>) -> Attempt {
    let worker = Rc::clone(stream.worker());
    let reused = lease.reused;
    if !reused {
        inc(&work.target.cluster.shared.stats.upstream_cx_http1_total);
    }
    note_connection(&mut stream.info, lease.connection());
    let options = &work.target.cluster.plan.http;
    let work_age = options.max_connection_duration;
    let limits = Limits { head_bytes: options.response_headers_bytes_max, headers_max: options.response_headers_count_max };
    let (mut buffer, mut out) = (ReadBuffer::new(worker.buffers.take()), worker.buffers.take());
    let protocol = stream.request.head.headers.known(Known::Upgrade).map(<[u8]>::to_vec);
    extra.upgrade = protocol.as_deref().filter(|_| work.target.upgrade);
    write_h1_request(&mut out, &stream.request.head, &extra);
    let sent_before = out.len() as u64;
    let (ended, clean) = {
        let io = Io::new(&mut lease.connection().stream);
        let framing = TxFraming::from(stream.request.head.framing);
        let tx = BodyTx::H1(H1Tx { io: &io, out: &mut out, framing });
        let rx = UpstreamRx::H1 { io: &io, buffer: &mut buffer, limits };
        let ended = run(stream, work, tx, rx, (sent_before, reused)).await;
        (ended, buffer.is_empty())
    };
    worker.buffers.give(buffer.take_memory());
    worker.buffers.give(out);
    let (ended, max_requests) = ended;
    match ended {
        Ok(reusable) => {
            let too_old = work_age.is_some_and(|age| lease.connection().opened.elapsed() >= age);
            if reusable && clean && !too_old {
                lease.give_back(max_requests, Instant::now());
            }
            Attempt::Done
        }
        Err(failure) => Attempt::Failed(failure),
    }
}

async fn over_h2(stream: &mut Stream<'_>, work: Work<'_, '_, '_, '_, '_>, mut slot: h2_client::Slot, extra: Extra<'_>) -> Attempt {
    stream.info.upstream_protocol = Protocol::Http2;
    stream.info.upstream_local = slot.connection.local_addr;
    stream.info.upstream_tls = slot.connection.tls.clone();
    let https = slot.connection.tls.is_some() || stream.request.https;
    let Some(request) = h2_request(&stream.request.head, &extra, https) else { return Attempt::Failed(Failure::Unwritable) };
    let ended = work.down.rx.is_done() && work.down.rx.trailers().is_none() && work.replay.whole().is_none_or(|body| body.is_empty()) && !work.target.upgrade;
    let (future, send) = match slot.sender.send_request(request, ended) {
        Ok(sent) => sent,
        Err(error) => {
            slot.connection.closing.set(true);
            let reason = super::upstream::reset_reason(&error);
            return Attempt::Failed(Failure::Reset { reason, sent: false, reused: true });
        }
    };
    let tx = BodyTx::H2(H2Tx { stream: (!ended).then_some(send) });
    let (ended, _) = run(stream, work, tx, UpstreamRx::H2(future), (0, true)).await;
    match ended {
        Ok(_) => Attempt::Done,
        Err(failure) => Attempt::Failed(failure),
    }
}

/// Runs the exchange and reports to outlier detection and statistics. `Ok(reusable)` when the answer went down.
async fn run<'u>(
    stream: &mut Stream<'_>,
    work: Work<'_, '_, '_, '_, '_>,
    tx: BodyTx<'u>,
    rx: UpstreamRx<'u>,
    (head_bytes, reused): (u64, bool),
) -> (Result<bool, Failure>, u32) {
    let Work { host, target, down, replay, timers, retries } = work;
    let max_requests = target.cluster.plan.http.max_requests_per_connection;
    let begun = Instant::now();
    let Stream { request, response, info, rules, watch, .. } = stream;
    let worker = Rc::clone(rules.worker());
    let mut judge = |head: &mut ResponseHead, info: &mut Info, repeatable: bool| {
        info.upstream_service_time = Some(begun.elapsed());
        note_answer(&worker, target, host, head);
        if retries.wants(head, repeatable, &target.cluster, info) {
            return Verdict::Retry;
        }
        if info.attempts > 1 && head.status < 500 {
            inc(&target.cluster.shared.stats.upstream_rq_retry_success);
        }
        rules.finish_answer(request, head, info);
        Verdict::Pass(answer_body(request.head.method(), head))
    };
    let parts = Parts {
        rx: down.rx,
        responder: down.responder,
        replay,
        timers,
        info,
        response,
        method: request.head.method(),
        upgrade: target.upgrade,
        expects_continue: request.head.expect_continue,
        watch,
    };
    let ended = exchange::run(parts, tx, rx, &mut judge).await;
    let stats = &target.cluster.shared.stats;
    stats.upstream_cx_tx_bytes_total.fetch_add(stream.info.request_head_bytes + stream.info.bytes_received, Ordering::Relaxed);
    stats.upstream_cx_rx_bytes_total.fetch_add(stream.info.response_head_bytes + stream.info.bytes_sent, Ordering::Relaxed);
    let outcome = match ended {
        Ended::Answered { reusable } => Ok(reusable),
        Ended::Broken => Ok(false),
        Ended::Unwanted => Err(Failure::Unwanted),
        Ended::Reset(reason) => {
            target.cluster.report(&worker, host, Outcome::LocalOriginFailure);
            Err(Failure::Reset { reason, sent: head_bytes > 0, reused })
        }
        Ended::Expired(which) => {
            note_timeout(&worker, target, host, which);
            Err(Failure::Expired(which))
        }
        Ended::ClientGone => Err(Failure::ClientGone),
        Ended::ClientProtocol(error) => Err(Failure::ClientProtocol(error)),
    };
    (outcome, max_requests)
}

/// Waits for `work`, unless the client goes away or a deadline passes first.
async fn or_cut_off<T>(work: impl Future<Output = T>, timers: &mut Timers, down: &mut Downstream<'_, '_, '_>) -> Result<T, Failure> {
    let mut work = pin!(work);
    let watching = down.rx.is_done();
    let Downstream { rx, responder } = down;
    let mut gone = pin!(rx.gone());
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        if responder.poll_gone(cx).is_ready() || (watching && gone.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        timers.poll(cx).map(|which| Err(Failure::Expired(which)))
    })
    .await
}

/// The wait of an injected delay. True: the client went away meanwhile.
pub(crate) async fn wait_out(wait: std::time::Duration, rx: &mut BodyRx<'_>, responder: &mut Responder<'_>) -> bool {
    or_cut_off(tokio::time::sleep(wait), &mut Timers::default(), &mut Downstream { rx, responder }).await.is_err()
}

/// The wait before a retry. `Some`: something else ended the request meanwhile.
async fn pause(wait: std::time::Duration, timers: &mut Timers, down: &mut Downstream<'_, '_, '_>) -> Option<Failure> {
    or_cut_off(tokio::time::sleep(wait), timers, down).await.err()
}

/// The answer to the client for what ended the last attempt.
fn answer_for(failure: &Failure, info: &Info) -> LocalReply {
    let retried = info.attempts > 1;
    match failure {
        Failure::Connect(error) => {
            let reason = retry::reset_reason(error);
            LocalReply::upstream_reset(reason, &info.transport_failure, retried)
        }
        Failure::Reset { reason, .. } => LocalReply::upstream_reset(*reason, "", retried),
        Failure::Unwanted => LocalReply::upstream_reset(ResetReason::ConnectionTermination, "", retried),
        Failure::Expired(Expired::Route) => LocalReply::response_timeout(),
        Failure::Expired(Expired::PerTry) => LocalReply::per_try_timeout(),
        Failure::Expired(Expired::Idle) => LocalReply::stream_idle_timeout(),
        Failure::Expired(Expired::MaxDuration) => LocalReply::max_duration_reached(),
        Failure::Expired(Expired::Request) => LocalReply::request_timeout("request_overall_timeout"),
        Failure::ClientGone => LocalReply::client_gone(),
        Failure::ClientProtocol(error) => LocalReply::protocol_error(error.status(), error.details()),
        Failure::Unwritable => LocalReply::protocol_error(400, "http2.unwritable_request"),
    }
}

fn report_failure(stream: &Stream<'_>, target: &Target<'_>, host: &Host, error: &ConnectError) {
    match error {
        ConnectError::Overflow => {}
        ConnectError::Timeout => target.cluster.report(stream.worker(), host, Outcome::LocalOriginTimeout),
        ConnectError::Refused(_) | ConnectError::Tls(_) => target.cluster.report(stream.worker(), host, Outcome::LocalOriginFailure),
    }
}

/// Statistics and outlier detection of a deadline that passed. What the client was slow with is not the endpoint's fault.
fn note_timeout(worker: &crate::worker::Worker, target: &Target<'_>, host: &Host, which: Expired) {
    let stats = &target.cluster.shared.stats;
    match which {
        Expired::PerTry => inc(&stats.upstream_rq_per_try_timeout),
        Expired::Route => inc(&stats.upstream_rq_timeout),
        Expired::Idle | Expired::MaxDuration | Expired::Request => return,
    }
    inc(&host.shared.stats.rq_timeout);
    target.cluster.report(worker, host, Outcome::LocalOriginTimeout);
}

/// Statistics and outlier detection of an answer.
fn note_answer(worker: &crate::worker::Worker, target: &Target<'_>, host: &Host, head: &ResponseHead) {
    let stats = &target.cluster.shared.stats;
    inc(match head.status {
        200..300 => &stats.upstream_rq_2xx,
        300..400 => &stats.upstream_rq_3xx,
        400..500 => &stats.upstream_rq_4xx,
        _ => &stats.upstream_rq_5xx,
    });
    inc(if head.status < 500 { &host.shared.stats.rq_success } else { &host.shared.stats.rq_error });
    let status = super::upstream::grpc_status(&head.headers).map_or(head.status, super::grpc::http_of_status);
    target.cluster.report(worker, host, Outcome::Answered(status));
}

fn answer_body(method: &[u8], head: &ResponseHead) -> AnswerBody {
    if method == b"HEAD" || head.status == 304 { AnswerBody::None } else { AnswerBody::Framed(head.framing) }
}

fn note_connection(info: &mut Info, connection: &crate::cluster::Connection) {
    info.upstream_protocol = Protocol::Http11;
    info.upstream_local = connection.local_addr;
    info.upstream_tls = connection.stream.tls().map(Rc::clone);
}

/// Nothing of the request reached the application behind this proxy.
fn is_unprocessed(failure: &Failure) -> bool {
    match failure {
        Failure::Connect(ConnectError::Overflow) => false,
        Failure::Connect(_) => true,
        Failure::Reset { sent, .. } => !sent,
        Failure::Unwanted | Failure::Expired(_) | Failure::ClientGone | Failure::ClientProtocol(_) | Failure::Unwritable => false,
    }
}

/// The answer to the client; a mesh client is told when sending the request elsewhere is safe.
fn give_up(failure: &Failure, stream: &Stream<'_>) -> LocalReply {
    let mut reply = answer_for(failure, &stream.info);
    if is_unprocessed(failure) && stream.rules.notes.peer_asked && stream.rules.listener.direction == Direction::Inbound {
        reply.headers.push((headers::UNPROCESSED, b"1".to_vec()));
    }
    reply
}

/// Index of a priority's limits.
pub(crate) fn priority_index(priority: Priority) -> usize {
    match priority {
        Priority::Default => 0,
        Priority::High => 1,
    }
}
