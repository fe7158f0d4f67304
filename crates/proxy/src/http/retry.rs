//! Retries: sending a failed request again, to another endpoint.
//!
//! - Reads: `plan::route::RetryPolicy`; `x-envoy-retry-on` and `x-envoy-max-retries` of requests from inside.
//! - Twin: `kinds/src/virtual_service/retry.rs`.
//! - Rule: what counts as a reason is `plan::route::should_retry`; here is only how often and when.
//! - Rule: a 503 that a proxy of ours marked as never having reached the application counts as a refused stream.
//! - Limits: `num_retries`, the cluster's retry breaker or budget; back-off with full jitter.
//! - Not here: keeping the body (`http/replay.rs`), choosing the endpoint (`cluster`).

use super::info::Info;
use super::local_reply::ResetReason;
use super::replay::Replay;
use super::request::Request;
use super::router::Failure;
use super::timeout::Expired;
use crate::cluster::circuit_breaker::{Guard, Resource};
use crate::cluster::shared::inc;
use crate::cluster::{Cluster, ConnectError};
use crate::worker::Worker;
use lateen_base::headers;
use lateen_http1::{Known, ResponseHead};
use lateen_plan::request::RequestView;
use lateen_plan::route::retry::{Outcome, RetryOn};
use lateen_plan::route::{RetryPolicy, should_retry};
use lateen_telemetry::ResponseFlags;
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

/// What is left of a request's retries.
pub(crate) struct Retries<'r> {
    policy: Option<Cow<'r, RetryPolicy>>,
    left: u32,
    used: u32,
    /// Another connection may be tried once, whatever the policy: the pooled one had been closed while idle.
    stale_left: bool,
    safe_method: bool,
    breaker: Option<Guard>,
}

impl<'r> Retries<'r> {
    pub(crate) fn new(policy: Option<&'r RetryPolicy>, request: &Request, worker: &Rc<Worker>) -> Self {
        let _ = worker;
        let mut policy = policy.map(Cow::Borrowed);
        if request.head.headers.known(Known::XEnvoy).is_some() {
            policy = asked_for(policy, request);
        }
        if policy.as_ref().is_some_and(|policy| !policy.retriable_request_headers.is_empty() && !policy.retriable_request_headers.iter().any(|h| h.is_match(request))) {
            policy = None;
        }
        let left = policy.as_ref().map_or(0, |policy| policy.retries_max);
        let safe_method = matches!(request.head.method(), b"GET" | b"HEAD" | b"OPTIONS");
        Self { policy, left, used: 0, stale_left: true, safe_method, breaker: None }
    }

    /// Whether the body is worth keeping.
    pub(crate) fn possible(&self) -> bool {
        self.left > 0 && self.policy.as_ref().is_some_and(|policy| !policy.on.is_empty())
    }

    /// Whether an answer's head calls for another attempt that can be made.
    pub(crate) fn wants(&mut self, head: &ResponseHead, repeatable: bool, cluster: &Cluster, info: &mut Info) -> bool {
        let Some(policy) = &self.policy else { return false };
        let unprocessed = head.status == 503 && head.headers.get(headers::UNPROCESSED.as_bytes()).is_some();
        let outcome = if unprocessed { Outcome::RefusedStream } else { Outcome::Response {
            status: head.status,
            grpc_status: super::upstream::grpc_status(&head.headers),
            rate_limited: head.headers.get(b"x-envoy-ratelimited").is_some(),
        } };
        let matches = |want: &lateen_plan::string_match::HeaderMatch| want.is_match(&AnswerView(head));
        should_retry(policy, outcome, matches) && repeatable && self.take(cluster, info)
    }

    /// Whether, and after which wait, to try again after a failure.
    pub(crate) fn next(&mut self, failure: &Failure, replay: &Replay, cluster: &Cluster, info: &mut Info, worker: &Worker) -> Option<Duration> {
        if let Failure::Reset { reason: ResetReason::ConnectionTermination, reused: true, .. } = failure
            && self.safe_method
            && replay.is_possible()
            && std::mem::take(&mut self.stale_left)
        {
            info.attempts -= 1;
            return Some(Duration::ZERO);
        }
        if matches!(failure, Failure::Unwanted) {
            return Some(self.back_off(worker));
        }
        let outcome = match failure {
            Failure::Connect(ConnectError::Overflow) => Outcome::Overflow,
            Failure::Connect(_) => Outcome::ConnectFailure,
            Failure::Reset { reason: ResetReason::RefusedStream, .. } => Outcome::RefusedStream,
            Failure::Reset { sent, .. } => Outcome::Reset { request_started: *sent },
            Failure::Expired(Expired::PerTry) => Outcome::PerTryTimeout,
            Failure::Expired(_) | Failure::ClientGone | Failure::ClientProtocol(_) | Failure::Unwritable | Failure::Unwanted => return None,
        };
        let wanted = self.policy.as_ref().is_some_and(|policy| should_retry(policy, outcome, |_| false));
        if !wanted || !replay.is_possible() || !self.take(cluster, info) {
            return None;
        }
        Some(self.back_off(worker))
    }

    /// Takes one of the retries that are left, within the cluster's limit.
    fn take(&mut self, cluster: &Cluster, info: &mut Info) -> bool {
        if self.left == 0 {
            info.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
            return false;
        }
        if self.breaker.is_none() {
            self.breaker = cluster.breaker(0).take(Resource::Retries, retries_at_once(cluster));
            if self.breaker.is_none() {
                info.flags.insert(ResponseFlags::UPSTREAM_OVERFLOW);
                return false;
            }
        }
        self.left -= 1;
        self.used += 1;
        inc(&cluster.shared.stats.upstream_rq_retry);
        true
    }

    fn back_off(&self, worker: &Worker) -> Duration {
        self.policy.as_ref().map_or(Duration::ZERO, |policy| policy.back_off(self.used, worker.draw()))
    }
}

/// The limit on retries at once: fixed, or a share of the requests at once.
fn retries_at_once(cluster: &Cluster) -> u32 {
    let thresholds = cluster.thresholds(0);
    match thresholds.retry_budget {
        None => thresholds.max_retries,
        Some(budget) => {
            let active = u64::from(cluster.breaker(0).in_use(Resource::Requests) + cluster.breaker(0).in_use(Resource::PendingRequests));
            let share = active * u64::from(budget.budget_percent_hundredths) / 10_000;
            u32::try_from(share).unwrap_or(u32::MAX).max(budget.min_retry_concurrency)
        }
    }
}

/// The policy with what the request itself asks for. At the edge such fields were dropped before.
fn asked_for<'r>(policy: Option<Cow<'r, RetryPolicy>>, request: &Request) -> Option<Cow<'r, RetryPolicy>> {
    let text = |name: &[u8]| request.head.headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
    let words = text(b"x-envoy-retry-on").into_iter().chain(text(b"x-envoy-retry-grpc-on")).flat_map(|list| list.split(','));
    let on = words.filter_map(|word| RetryOn::parse(word).ok()).fold(RetryOn::NONE, RetryOn::and);
    let most: Option<u32> = text(b"x-envoy-max-retries").and_then(|number| number.trim().parse().ok());
    if on.is_empty() && most.is_none() {
        return policy;
    }
    let mut own = policy?.into_owned();
    own.on = own.on.and(on);
    own.retries_max = most.unwrap_or(own.retries_max).min(ASKED_RETRIES_MAX);
    Some(Cow::Owned(own))
}

/// A caller may not multiply its load without end.
const ASKED_RETRIES_MAX: u32 = 10;

/// Envoy's word for a connection that did not come about.
pub(crate) fn reset_reason(error: &ConnectError) -> ResetReason {
    match error {
        ConnectError::Overflow => ResetReason::Overflow,
        ConnectError::Timeout => ResetReason::ConnectionTimeout,
        ConnectError::Refused(_) | ConnectError::Tls(_) => ResetReason::ConnectionFailure,
    }
}

/// An answer's fields, for matchers that look at requests.
struct AnswerView<'a>(&'a ResponseHead);

impl RequestView for AnswerView<'_> {
    fn method(&self) -> &[u8] {
        b""
    }
    fn path(&self) -> &[u8] {
        b""
    }
    fn authority(&self) -> &[u8] {
        b""
    }
    fn scheme(&self) -> &[u8] {
        b""
    }
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.0.headers.get_all(name.as_bytes())
    }
}
