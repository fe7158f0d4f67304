//! Deadlines of one request: route timeout, per-try timeout, idle and longest duration.
//!
//! - Reads: `RouteAction.timeout`, `RetryPolicy.per_try_timeout`, `stream_idle_timeout`, `max_stream_duration`.
//! - Twin: `kinds/src/virtual_service/timeout.rs`.
//! - Rule: route and per-try time run from the end of the request, so injected delays and slow uploads do not count.
//! - Rule: a request without deadlines costs no timer; the others share one.
//! - Not here: the answers (`http/local_reply.rs`).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Which deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    Route,
    PerTry,
    Idle,
    MaxDuration,
    /// The request itself did not arrive in time.
    Request,
}

/// The deadlines of one request.
#[derive(Default)]
pub(crate) struct Timers {
    /// Route timeout; `None`: none.
    pub(crate) route: Option<Duration>,
    /// Timeout of each attempt.
    pub(crate) per_try: Option<Duration>,
    /// Time without bytes either way.
    pub(crate) idle: Option<Duration>,
    /// End of the longest allowed duration.
    pub(crate) max_duration: Option<Instant>,
    /// When the whole request must have arrived.
    pub(crate) request_until: Option<Instant>,
    route_from: Option<Instant>,
    try_from: Option<Instant>,
    active_at: Option<Instant>,
    /// Kept by the connection between requests.
    pub(crate) sleep: Timer,
}

impl Timers {
    /// The request is complete: its time runs from now, if it does not yet.
    pub(crate) fn request_complete(&mut self) {
        self.request_until = None;
        if self.route.is_some() || self.per_try.is_some() {
            let now = Instant::now();
            self.route_from.get_or_insert(now);
            self.try_from.get_or_insert(now);
        }
    }

    /// An attempt has ended: while waiting for the next one no attempt's time runs.
    pub(crate) fn attempt_ended(&mut self) {
        self.try_from = None;
    }

    /// A new attempt begins; its time runs from the end of the request or from now.
    pub(crate) fn attempt_begins(&mut self) {
        self.try_from = self.route_from.map(|_| Instant::now());
    }

    /// The answer has begun: the attempt's own time no longer counts.
    pub(crate) fn answer_begun(&mut self) {
        self.per_try = None;
    }

    /// Bytes moved.
    pub(crate) fn touch(&mut self) {
        if self.idle.is_some() {
            self.active_at = Some(Instant::now());
        }
    }

    /// What of the route timeout is left, in milliseconds, for the next hop to know.
    pub(crate) fn expected_ms(&self) -> Option<u64> {
        let left = self.route.map(|route| route.saturating_sub(self.route_from.map_or(Duration::ZERO, |from| from.elapsed())));
        let least = match (left, self.per_try) {
            (Some(left), Some(per_try)) => left.min(per_try),
            (left, per_try) => left.or(per_try)?,
        };
        u64::try_from(least.as_millis()).ok()
    }

    /// Whether the next hop is told a time.
    pub(crate) fn has_request_deadline(&self) -> bool {
        self.route.is_some() || self.per_try.is_some()
    }

    fn next(&mut self) -> Option<(Instant, Expired)> {
        let route = self.route_from.zip(self.route).map(|(from, time)| (from + time, Expired::Route));
        let per_try = self.try_from.zip(self.per_try).map(|(from, time)| (from + time, Expired::PerTry));
        let idle = self.idle.map(|time| (*self.active_at.get_or_insert_with(Instant::now) + time, Expired::Idle));
        let longest = self.max_duration.map(|end| (end, Expired::MaxDuration));
        let request = self.request_until.map(|end| (end, Expired::Request));
        [route, per_try, idle, longest, request].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Ready when the next deadline has passed. Registers for waking.
    ///
    /// The timer may stand earlier than the deadline, left there by an earlier request of the connection: then it is moved
    /// when it fires, which costs one wake-up now and then instead of a registration for every request.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            let Some((at, which)) = self.next() else { return Poll::Pending };
            let at = tokio::time::Instant::from_std(at);
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if sleep.deadline() > at {
                sleep.as_mut().reset(at);
            }
            match sleep.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if sleep.deadline() >= at => return Poll::Ready(which),
                Poll::Ready(()) => sleep.as_mut().reset(at),
            }
        }
    }

    /// The timer, for the connection's next request.
    pub(crate) fn into_timer(self) -> Timer {
        self.sleep
    }
}

/// A timer that outlives its request.
pub(crate) type Timer = Option<Pin<Box<Sleep>>>;

/// Reads `grpc-timeout`: up to eight digits and a unit. Saturates.
#[must_use]
pub fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number.saturating_mul(3600)),
        b'M' => Duration::from_secs(number.saturating_mul(60)),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_have_a_unit_and_eight_digits_at_most() {
        assert_eq!(grpc_timeout(b"100m"), Some(Duration::from_millis(100)));
        assert_eq!(grpc_timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in [&b""[..], b"m", b"100", b"123456789S", b"-1S", b"1x"] {
            assert_eq!(grpc_timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn time_runs_only_from_the_end_of_the_request() {
        let mut timers = Timers { route: Some(Duration::from_secs(1)), ..Timers::default() };
        assert!(timers.next().is_none());
        timers.request_complete();
        assert_eq!(timers.next().map(|(_, which)| which), Some(Expired::Route));
    }

    #[test]
    fn the_next_hop_is_told_the_shorter_time() {
        let timers = Timers { route: Some(Duration::from_secs(5)), per_try: Some(Duration::from_secs(2)), ..Timers::default() };
        assert_eq!(timers.expected_ms(), Some(2000));
        assert_eq!(Timers::default().expected_ms(), None);
    }
}
