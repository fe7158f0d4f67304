//! Retries: sending a failed request again, to another endpoint.
//!
//! - Reads: `VirtualService.http[].retries`, `MeshConfig.defaultHttpRetryPolicy`.
//! - Writes: `config.route.v3.RetryPolicy`.
//! - Twin: `proxy/src/http/retry.rs`, which performs them; `plan/src/route/retry.rs`.
//! - Rule: a rule that says nothing gets [`RETRIES_DEFAULT`] retries on [`RETRY_ON_DEFAULT`]; `attempts: 0` turns retries off.
//! - Rule: the default conditions hold no 5xx: an answered request is not sent again unless `retryOn` says so.

use lateen_base::{Code, Finding};
use lateen_envoy_api::envoy::config::route::v3::{self as route, retry_policy};
use lateen_envoy_api::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use lateen_envoy_api::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use lateen_istio_api::HTTPRetry;

use crate::check::Check;
use crate::wire;

/// Retries of a rule that says nothing. Source: Istio's default policy.
pub const RETRIES_DEFAULT: u32 = 2;
/// Conditions of a rule that names none. Source: Istio 1.32, which no longer lists 503.
pub const RETRY_ON_DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// How often another endpoint is drawn to avoid those already tried. Source: Istio's default policy.
const HOST_SELECTIONS_MAX: i64 = 5;
const STATUS_CODES: &str = "retriable-status-codes";

/// Words of `retryOn` that Envoy knows.
const CONDITIONS: [&str; 19] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    STATUS_CODES,
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "unknown",
    "unauthenticated",
    "retry-after",
];

/// Checks the policy at `path`.
pub fn validate(retries: &HTTPRetry, path: &str, check: &mut Check<'_>) {
    let attempts = retries.attempts;
    if attempts < 0 {
        check.error(format!("{path}.attempts"), format!("{attempts} is negative"), "use 0 to turn retries off");
    }
    if attempts == 0 && (!retries.retry_on.is_empty() || retries.per_try_timeout.is_some() || retries.retry_remote_localities.is_some()) {
        check.error(path, "attempts is 0 while other fields are set", "set attempts to the number of retries, or remove the other fields");
    }
    check.duration(&format!("{path}.perTryTimeout"), retries.per_try_timeout);
    check.duration(&format!("{path}.backoff"), retries.backoff);
    for word in words(&retries.retry_on) {
        if !CONDITIONS.contains(&word) && status_code(word).is_none() {
            check.error(format!("{path}.retryOn"), format!("\"{word}\" is no retry condition"), "use Envoy's words, such as 5xx or connect-failure, or status codes");
        }
    }
}

/// Adds the hint that retries do not cover 5xx answers, when attempts are asked for without conditions.
pub fn hint(retries: &HTTPRetry, path: &str, check: &mut Check<'_>) {
    if retries.attempts > 0 && retries.retry_on.is_empty() {
        let message = "retries without retryOn do not cover 5xx answers: they act on failed connections and refused streams only";
        let remedy = "add retryOn: 5xx,connect-failure,refused-stream to retry those as well";
        check.add(Finding::new(Code::RetryDoesNotCover5xx, message).with_path(path).with_remedy(remedy));
    }
}

/// Envoy's policy for a route; `None` means no retries. `mesh_default` is `MeshConfig.defaultHttpRetryPolicy`.
#[must_use]
pub fn lower(retries: Option<&HTTPRetry>, mesh_default: Option<&HTTPRetry>) -> Option<route::RetryPolicy> {
    let Some(retries) = retries.or(mesh_default) else { return Some(default_policy()) };
    if retries.attempts <= 0 {
        return None;
    }
    let mut policy = route::RetryPolicy { num_retries: wire::positive(retries.attempts), ..default_policy() };
    if !retries.retry_on.is_empty() {
        (policy.retry_on, policy.retriable_status_codes) = conditions(&retries.retry_on);
    }
    policy.per_try_timeout = retries.per_try_timeout.map(wire::duration);
    policy.retry_back_off = retries.backoff.map(|span| retry_policy::RetryBackOff { base_interval: Some(wire::duration(span)), max_interval: None });
    if retries.retry_remote_localities == Some(true) {
        policy.retry_priority = Some(previous_priorities());
    }
    if retries.retry_ignore_previous_hosts == Some(false) {
        policy.retry_host_predicate.clear();
    }
    Some(policy)
}

/// What a rule gets that says nothing about retries.
#[must_use]
pub fn default_policy() -> route::RetryPolicy {
    let typed = retry_policy::retry_host_predicate::ConfigType::TypedConfig(lateen_envoy_api::pack(&PreviousHostsPredicate {}));
    let predicate = retry_policy::RetryHostPredicate { name: "envoy.retry_host_predicates.previous_hosts".into(), config_type: Some(typed) };
    route::RetryPolicy {
        retry_on: RETRY_ON_DEFAULT.into(),
        num_retries: Some(wire::uint32(RETRIES_DEFAULT)),
        retry_host_predicate: vec![predicate],
        host_selection_retry_max_attempts: HOST_SELECTIONS_MAX,
        ..Default::default()
    }
}

fn previous_priorities() -> retry_policy::RetryPriority {
    // Every second retry goes to the next priority. Source: Istio.
    let typed = lateen_envoy_api::pack(&PreviousPrioritiesConfig { update_frequency: 2 });
    retry_policy::RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".into(),
        config_type: Some(retry_policy::retry_priority::ConfigType::TypedConfig(typed)),
    }
}

/// `retryOn` taken apart: Envoy's words, and the status codes among them.
fn conditions(retry_on: &str) -> (String, Vec<u32>) {
    let codes: Vec<u32> = words(retry_on).filter_map(status_code).collect();
    let mut kept: Vec<&str> = words(retry_on).filter(|word| status_code(word).is_none()).collect();
    if !codes.is_empty() && !kept.contains(&STATUS_CODES) {
        kept.push(STATUS_CODES);
    }
    (kept.join(","), codes)
}

fn words(retry_on: &str) -> impl Iterator<Item = &str> {
    retry_on.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn status_code(word: &str) -> Option<u32> {
    word.parse().ok().filter(|code| (100..600).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(json: serde_json::Value) -> HTTPRetry {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn silence_means_two_retries_without_5xx() {
        let policy = lower(None, None).unwrap();
        assert_eq!(policy.num_retries.unwrap().value, 2);
        assert!(!policy.retry_on.contains("5xx") && !policy.retry_on.contains("503"));
    }

    #[test]
    fn zero_attempts_turns_retries_off() {
        assert_eq!(lower(Some(&retries(serde_json::json!({"attempts": 0}))), None), None);
    }

    #[test]
    fn numbers_in_retry_on_become_status_codes() {
        let policy = lower(Some(&retries(serde_json::json!({"attempts": 3, "retryOn": "gateway-error,503"}))), None).unwrap();
        assert_eq!((policy.retry_on.as_str(), policy.retriable_status_codes.as_slice()), ("gateway-error,retriable-status-codes", &[503][..]));
    }

    #[test]
    fn the_mesh_default_serves_silent_rules_only() {
        let mesh = retries(serde_json::json!({"attempts": 7}));
        assert_eq!(lower(None, Some(&mesh)).unwrap().num_retries.unwrap().value, 7);
        let own = retries(serde_json::json!({"attempts": 1}));
        assert_eq!(lower(Some(&own), Some(&mesh)).unwrap().num_retries.unwrap().value, 1);
    }
}
