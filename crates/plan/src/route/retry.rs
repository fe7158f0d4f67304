//! Retries: which outcomes of an attempt allow another one.
//!
//! - Reads: `config.route.v3.RetryPolicy` (Envoy), written from `VirtualService.http[].retries`.
//! - Twin: `kinds/src/virtual_service/retry.rs`, which owns defaults and validation.
//! - Rule: pure; whether the request can still be replayed is the proxy's question.
//! - Not here: choosing the next endpoint (`lb`), doing it (`proxy/src/http/retry.rs`).

use crate::rejected::{Invalid, Within};
use crate::string_match::HeaderMatch;
use crate::time::{duration, duration_or_none};
use lateen_envoy_api::envoy::config::route::v3 as xroute;
use std::time::Duration;

/// How often, and on what evidence, one request may be sent again.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// What is retried.
    pub on: RetryOn,
    /// Attempts after the first; 0 turns retries off. Source: `num_retries`, default 1.
    pub retries_max: u32,
    /// Deadline of one attempt. `None`: only the route's.
    pub per_try_timeout: Option<Duration>,
    /// Idle deadline of one attempt. `None`: none.
    pub per_try_idle_timeout: Option<Duration>,
    /// Answers retried when [`RetryOn::RETRIABLE_STATUS_CODES`] is set.
    pub retriable_status_codes: Vec<u16>,
    /// Answers retried when [`RetryOn::RETRIABLE_HEADERS`] is set and one of these matches.
    pub retriable_headers: Vec<HeaderMatch>,
    /// Only requests with one of these are retried. Empty: all.
    pub retriable_request_headers: Vec<HeaderMatch>,
    /// Endpoints tried before are avoided (`previous_hosts`).
    pub avoid_previous_hosts: bool,
    /// Priorities tried before are avoided; update frequency in attempts. `None`: off.
    pub avoid_previous_priorities: Option<u32>,
    /// How often another endpoint is drawn to avoid a previous one. At least 1.
    pub host_selection_attempts_max: u32,
    /// Wait before the first retry is at most this; it doubles. Envoy's default is 25 ms.
    pub back_off_base: Duration,
    /// Ceiling of the wait. Envoy's default is ten times the base.
    pub back_off_max: Duration,
}

/// A set of conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

macro_rules! conditions {
    ($($bit:literal $name:ident $word:literal $doc:literal,)*) => {
        impl RetryOn {
            $(#[doc = $doc] pub const $name: Self = Self(1 << $bit);)*
        }
        const WORDS: &[(&str, RetryOn)] = &[$(($word, RetryOn::$name),)*];
    };
}

conditions! {
    0 FIVE_XX "5xx" "Any 5xx answer, and everything that is no answer at all.",
    1 GATEWAY_ERROR "gateway-error" "502, 503, 504, and everything that is no answer at all.",
    2 RESET "reset" "No answer: disconnect, reset or timeout.",
    3 RESET_BEFORE_REQUEST "reset-before-request" "The same before the request's head was sent.",
    4 CONNECT_FAILURE "connect-failure" "No connection.",
    5 ENVOY_RATELIMITED "envoy-ratelimited" "An answer with `x-envoy-ratelimited`.",
    6 RETRIABLE_4XX "retriable-4xx" "409.",
    7 REFUSED_STREAM "refused-stream" "HTTP/2 REFUSED_STREAM.",
    8 RETRIABLE_STATUS_CODES "retriable-status-codes" "A listed status.",
    9 RETRIABLE_HEADERS "retriable-headers" "A listed answer header.",
    10 HTTP3_POST_CONNECT_FAILURE "http3-post-connect-failure" "HTTP/3 only; never happens here.",
    11 CANCELLED "cancelled" "gRPC status 1.",
    12 DEADLINE_EXCEEDED "deadline-exceeded" "gRPC status 4.",
    13 RESOURCE_EXHAUSTED "resource-exhausted" "gRPC status 8.",
    14 INTERNAL "internal" "gRPC status 13.",
    15 UNAVAILABLE "unavailable" "gRPC status 14.",
}

impl RetryOn {
    /// No condition.
    pub const NONE: Self = Self(0);

    /// Reads comma-separated words, or gives back the first that is unknown.
    ///
    /// # Errors
    /// The unknown word.
    pub fn parse(words: &str) -> Result<Self, String> {
        let mut set = Self::NONE;
        for word in words.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let (_, bit) = WORDS.iter().find(|(name, _)| *name == word).ok_or_else(|| word.to_owned())?;
            set.0 |= bit.0;
        }
        Ok(set)
    }

    /// Whether any condition of `other` is in this set.
    #[must_use]
    pub fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// This set and `other`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether nothing is retried.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Response {
        /// Its status.
        status: u16,
        /// `grpc-status` of its head (trailers-only answers). `None`: absent.
        grpc_status: Option<u32>,
        /// It carries `x-envoy-ratelimited`.
        rate_limited: bool,
    },
    /// No connection came about.
    ConnectFailure,
    /// The connection or stream ended before an answer.
    Reset {
        /// The request's head had been sent.
        request_started: bool,
    },
    /// The endpoint refused the stream unprocessed.
    RefusedStream,
    /// `per_try_timeout` ran out.
    PerTryTimeout,
    /// A circuit breaker refused the attempt.
    Overflow,
}

/// Whether another attempt is allowed after `outcome`; `header` answers which of the answer's headers match. Pure.
/// The caller counts attempts against [`RetryPolicy::retries_max`].
#[must_use]
pub fn should_retry(policy: &RetryPolicy, outcome: Outcome, header: impl Fn(&HeaderMatch) -> bool) -> bool {
    let on = policy.on;
    match outcome {
        Outcome::Overflow => false,
        Outcome::Response { status, grpc_status, rate_limited } => {
            // Envoy does not retry what a rate limiter refused, unless told to.
            if rate_limited {
                return on.any(RetryOn::ENVOY_RATELIMITED);
            }
            (on.any(RetryOn::FIVE_XX) && (500..600).contains(&status))
                || (on.any(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status))
                || (on.any(RetryOn::RETRIABLE_4XX) && status == 409)
                || (on.any(RetryOn::RETRIABLE_STATUS_CODES) && policy.retriable_status_codes.contains(&status))
                || (on.any(RetryOn::RETRIABLE_HEADERS) && policy.retriable_headers.iter().any(header))
                || grpc_status.is_some_and(|code| on.any(grpc_condition(code)))
        }
        Outcome::ConnectFailure => on.any(
            RetryOn::CONNECT_FAILURE.and(RetryOn::RESET).and(RetryOn::RESET_BEFORE_REQUEST).and(RetryOn::FIVE_XX).and(RetryOn::GATEWAY_ERROR),
        ),
        Outcome::Reset { request_started } => {
            on.any(RetryOn::RESET.and(RetryOn::FIVE_XX).and(RetryOn::GATEWAY_ERROR))
                || (!request_started && on.any(RetryOn::RESET_BEFORE_REQUEST))
        }
        Outcome::RefusedStream => on.any(RetryOn::REFUSED_STREAM.and(RetryOn::RESET).and(RetryOn::FIVE_XX).and(RetryOn::GATEWAY_ERROR)),
        Outcome::PerTryTimeout => on.any(RetryOn::RESET.and(RetryOn::FIVE_XX).and(RetryOn::GATEWAY_ERROR)),
    }
}

fn grpc_condition(code: u32) -> RetryOn {
    match code {
        1 => RetryOn::CANCELLED,
        4 => RetryOn::DEADLINE_EXCEEDED,
        8 => RetryOn::RESOURCE_EXHAUSTED,
        13 => RetryOn::INTERNAL,
        14 => RetryOn::UNAVAILABLE,
        _ => RetryOn::NONE,
    }
}

impl RetryPolicy {
    /// The wait before retry number `retry` (from 1), full jitter by `draw`. Pure.
    #[must_use]
    pub fn back_off(&self, retry: u32, draw: u64) -> Duration {
        let doubled = self.back_off_base.saturating_mul(1u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX));
        let ceiling = doubled.min(self.back_off_max).as_nanos().max(1);
        let nanos = u128::from(draw) % ceiling;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// An unknown condition or predicate, a negative duration, a base above its ceiling.
    pub fn from_xds(policy: &xroute::RetryPolicy) -> Result<Self, Invalid> {
        let on = RetryOn::parse(&policy.retry_on).map_err(|word| Invalid::unsupported("retry_on", format!("`{word}`")))?;
        let avoid_previous_hosts = host_predicates(policy)?;
        let avoid_previous_priorities = priority_predicate(policy)?;
        if let Some(extension) = policy.retry_options_predicates.first() {
            return Err(Invalid::unsupported("retry_options_predicates", &extension.name));
        }
        let (back_off_base, back_off_max) = back_off(policy)?;
        let retriable_status_codes = policy.retriable_status_codes.iter().filter_map(|c| u16::try_from(*c).ok()).collect();
        let matchers = |list: &[xroute::HeaderMatcher], field: &str| {
            list.iter().map(HeaderMatch::from_xds).collect::<Result<Vec<_>, _>>().within(field)
        };
        Ok(Self {
            on,
            retries_max: policy.num_retries.as_ref().map_or(1, |n| n.value),
            per_try_timeout: duration_or_none(policy.per_try_timeout.as_ref()).within("per_try_timeout")?,
            per_try_idle_timeout: duration_or_none(policy.per_try_idle_timeout.as_ref()).within("per_try_idle_timeout")?,
            retriable_status_codes,
            retriable_headers: matchers(&policy.retriable_headers, "retriable_headers")?,
            retriable_request_headers: matchers(&policy.retriable_request_headers, "retriable_request_headers")?,
            avoid_previous_hosts,
            avoid_previous_priorities,
            host_selection_attempts_max: u32::try_from(policy.host_selection_retry_max_attempts).unwrap_or(0).max(1),
            back_off_base,
            back_off_max,
        })
    }
}

const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";
const PREVIOUS_PRIORITIES: &str = "envoy.retry_priorities.previous_priorities";

fn host_predicates(policy: &xroute::RetryPolicy) -> Result<bool, Invalid> {
    for predicate in &policy.retry_host_predicate {
        if predicate.name != PREVIOUS_HOSTS {
            return Err(Invalid::unsupported("retry_host_predicate", &predicate.name));
        }
    }
    Ok(!policy.retry_host_predicate.is_empty())
}

fn priority_predicate(policy: &xroute::RetryPolicy) -> Result<Option<u32>, Invalid> {
    use lateen_envoy_api::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
    use xroute::retry_policy::retry_priority::ConfigType;
    let Some(priority) = &policy.retry_priority else { return Ok(None) };
    if priority.name != PREVIOUS_PRIORITIES {
        return Err(Invalid::unsupported("retry_priority", &priority.name));
    }
    let Some(ConfigType::TypedConfig(any)) = &priority.config_type else {
        return Err(Invalid::new("retry_priority.typed_config", "is empty"));
    };
    let config: PreviousPrioritiesConfig = crate::any::unpack(any).within("retry_priority.typed_config")?;
    Ok(Some(u32::try_from(config.update_frequency).unwrap_or(0).max(1)))
}

fn back_off(policy: &xroute::RetryPolicy) -> Result<(Duration, Duration), Invalid> {
    let Some(given) = &policy.retry_back_off else {
        return Ok((BACK_OFF_BASE, BACK_OFF_BASE * BACK_OFF_FACTOR));
    };
    let base = match &given.base_interval {
        Some(base) => duration(base).within("retry_back_off.base_interval")?,
        None => return Err(Invalid::new("retry_back_off.base_interval", "is required")),
    };
    let max = duration_or_none(given.max_interval.as_ref()).within("retry_back_off.max_interval")?.unwrap_or(base * BACK_OFF_FACTOR);
    if max < base {
        return Err(Invalid::new("retry_back_off.max_interval", format!("{max:?} is below base_interval {base:?}")));
    }
    Ok((base, max))
}

/// Envoy's `upstream.base_retry_backoff_ms`.
const BACK_OFF_BASE: Duration = Duration::from_millis(25);
/// Envoy's ceiling is ten times the base.
const BACK_OFF_FACTOR: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(words: &str) -> RetryPolicy {
        RetryPolicy::from_xds(&xroute::RetryPolicy { retry_on: words.into(), ..Default::default() }).unwrap()
    }

    fn answer(status: u16) -> Outcome {
        Outcome::Response { status, grpc_status: None, rate_limited: false }
    }

    const ISTIO_DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

    #[test]
    fn istios_default_does_not_retry_a_503_answer() {
        assert!(!should_retry(&policy(ISTIO_DEFAULT), answer(503), |_| false));
    }

    #[test]
    fn istios_default_retries_a_refused_connection() {
        assert!(should_retry(&policy(ISTIO_DEFAULT), Outcome::ConnectFailure, |_| false));
    }

    #[test]
    fn istios_default_does_not_retry_a_per_try_timeout() {
        assert!(!should_retry(&policy(ISTIO_DEFAULT), Outcome::PerTryTimeout, |_| false));
    }

    #[test]
    fn istios_default_does_not_retry_a_reset() {
        assert!(!should_retry(&policy(ISTIO_DEFAULT), Outcome::Reset { request_started: true }, |_| false));
    }

    #[test]
    fn reset_before_request_ends_with_the_first_byte_sent() {
        let policy = policy("reset-before-request");
        assert!(should_retry(&policy, Outcome::Reset { request_started: false }, |_| false));
        assert!(!should_retry(&policy, Outcome::Reset { request_started: true }, |_| false));
    }

    #[test]
    fn five_xx_covers_answers_resets_and_timeouts() {
        let policy = policy("5xx");
        assert!(should_retry(&policy, answer(500), |_| false));
        assert!(should_retry(&policy, Outcome::Reset { request_started: true }, |_| false));
        assert!(should_retry(&policy, Outcome::PerTryTimeout, |_| false));
        assert!(!should_retry(&policy, answer(404), |_| false));
    }

    #[test]
    fn grpc_words_look_at_the_grpc_status() {
        let outcome = Outcome::Response { status: 200, grpc_status: Some(14), rate_limited: false };
        assert!(should_retry(&policy("unavailable"), outcome, |_| false));
        assert!(!should_retry(&policy("cancelled"), outcome, |_| false));
    }

    #[test]
    fn an_overflow_is_never_retried() {
        assert!(!should_retry(&policy("5xx,reset,connect-failure"), Outcome::Overflow, |_| false));
    }

    #[test]
    fn an_unknown_word_is_refused_by_name() {
        let error = RetryPolicy::from_xds(&xroute::RetryPolicy { retry_on: "5xx,moon".into(), ..Default::default() }).unwrap_err();
        assert!(error.why.contains("`moon`"), "{error:?}");
    }

    #[test]
    fn waits_double_up_to_the_ceiling() {
        let policy = policy("5xx");
        let longest = |retry| policy.back_off(retry, u64::MAX);
        assert!(longest(1) < Duration::from_millis(25));
        assert!((0..1000u64).all(|draw| policy.back_off(30, draw * 7_919_000) < Duration::from_millis(250)));
    }
}
