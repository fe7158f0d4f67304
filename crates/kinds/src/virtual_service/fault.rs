//! Fault injection: answers that are delayed or refused on purpose, before any backend sees the request.
//!
//! - Reads: `VirtualService.http[].fault`.
//! - Writes: `extensions.filters.http.fault.v3.HTTPFault`, as a route's own configuration of [`FILTER`].
//! - Twin: `proxy/src/filters/fault.rs`, which performs it; `plan/src/fault.rs`.
//! - Rule: no percentage means no faults at all; delay and abort are drawn independently.

use lateen_envoy_api::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use lateen_envoy_api::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType};
use lateen_envoy_api::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use lateen_istio_api::{Abort, Delay, HTTPFaultInjection};

use crate::check::Check;
use crate::wire;

/// Name of Envoy's filter, the key of the route's configuration.
pub const FILTER: &str = "envoy.filters.http.fault";

/// gRPC status names in the order of their numbers. Source: the gRPC specification.
const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Checks the fault at `path`.
pub fn validate(fault: &HTTPFaultInjection, path: &str, check: &mut Check<'_>) {
    if fault.delay.is_none() && fault.abort.is_none() {
        check.error(path, "the fault injects nothing", "add delay or abort, or remove fault");
    }
    if let Some(delay) = &fault.delay {
        validate_delay(delay, &format!("{path}.delay"), check);
    }
    if let Some(abort) = &fault.abort {
        validate_abort(abort, &format!("{path}.abort"), check);
    }
}

fn validate_delay(delay: &Delay, path: &str, check: &mut Check<'_>) {
    if delay.percentage.is_none() && !(0..=100).contains(&delay.percent) {
        check.percent(&format!("{path}.percent"), f64::from(delay.percent));
    }
    if let Some(percentage) = &delay.percentage {
        check.percent(&format!("{path}.percentage.value"), percentage.value);
    }
    check.duration(&format!("{path}.fixedDelay"), delay.fixed_delay);
    if delay.exponential_delay.is_some() {
        check.error(format!("{path}.exponentialDelay"), "exponentialDelay was never implemented by any proxy", "use fixedDelay");
    } else if delay.fixed_delay.is_none() {
        check.error(path, "the delay has no length", "add fixedDelay, such as 2s");
    }
    if delay.percentage.is_none() && delay.percent == 0 {
        check.warn(path, "the delay has no percentage, so no request is delayed", "add percentage: {value: 100}");
    }
}

fn validate_abort(abort: &Abort, path: &str, check: &mut Check<'_>) {
    if let Some(percentage) = &abort.percentage {
        check.percent(&format!("{path}.percentage.value"), percentage.value);
    } else {
        check.warn(path, "the abort has no percentage, so no request is aborted", "add percentage: {value: 100}");
    }
    match (abort.http_status, abort.grpc_status.as_deref(), &abort.http2_error) {
        (Some(status), None, None) if (200..600).contains(&status) => {}
        (Some(status), None, None) => check.error(format!("{path}.httpStatus"), format!("HTTP status {status} is out of range"), "use a status from 200 to 599"),
        (None, Some(status), None) if grpc_status(status).is_some() => {}
        (None, Some(status), None) => {
            check.error(format!("{path}.grpcStatus"), format!("\"{status}\" is no gRPC status"), format!("use one of: {}", GRPC_STATUS.join(", ")));
        }
        (None, None, Some(_)) => check.error(format!("{path}.http2Error"), "http2Error was never implemented by any proxy", "use httpStatus or grpcStatus"),
        (None, None, None) => check.error(path, "the abort has no status", "add httpStatus, such as 503"),
        _ => check.error(path, "the abort has several statuses", "keep one of httpStatus and grpcStatus"),
    }
}

/// Envoy's form; `None` when nothing is injected.
#[must_use]
pub fn lower(fault: &HTTPFaultInjection) -> Option<HttpFault> {
    let delay = fault.delay.as_ref().and_then(lower_delay);
    let abort = fault.abort.as_ref().and_then(lower_abort);
    (delay.is_some() || abort.is_some()).then(|| HttpFault { delay, abort, ..Default::default() })
}

fn lower_delay(delay: &Delay) -> Option<FaultDelay> {
    let percentage = match &delay.percentage {
        Some(percentage) => wire::fraction(percentage.value),
        None => FractionalPercent { numerator: u32::try_from(delay.percent).unwrap_or(0), denominator: DenominatorType::Hundred.into() },
    };
    Some(FaultDelay {
        percentage: Some(percentage),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(wire::duration(delay.fixed_delay?))),
    })
}

fn lower_abort(abort: &Abort) -> Option<FaultAbort> {
    let error_type = match (abort.http_status, abort.grpc_status.as_deref()) {
        (Some(status), _) => ErrorType::HttpStatus(u32::try_from(status).ok()?),
        (None, Some(status)) => ErrorType::GrpcStatus(grpc_status(status)?),
        (None, None) => return None,
    };
    let percentage = wire::fraction(abort.percentage.as_ref().map_or(0.0, |percentage| percentage.value));
    Some(FaultAbort { percentage: Some(percentage), error_type: Some(error_type), ..Default::default() })
}

/// Number of a status given by name or number.
fn grpc_status(text: &str) -> Option<u32> {
    let by_name = GRPC_STATUS.iter().position(|name| *name == text);
    let number = by_name.or_else(|| text.parse().ok().filter(|number| *number < GRPC_STATUS.len()))?;
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: serde_json::Value) -> HTTPFaultInjection {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_percentage_is_a_fraction_of_a_million() {
        let lowered = lower(&fault(serde_json::json!({"delay": {"fixedDelay": "2s", "percentage": {"value": 0.5}}}))).unwrap();
        assert_eq!(lowered.delay.unwrap().percentage.unwrap().numerator, 5_000);
    }

    #[test]
    fn an_abort_without_percentage_aborts_nothing() {
        let lowered = lower(&fault(serde_json::json!({"abort": {"httpStatus": 500}}))).unwrap();
        assert_eq!(lowered.abort.unwrap().percentage.unwrap().numerator, 0);
    }

    #[test]
    fn grpc_statuses_go_by_name() {
        let lowered = lower(&fault(serde_json::json!({"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 100}}}))).unwrap();
        assert_eq!(lowered.abort.unwrap().error_type, Some(ErrorType::GrpcStatus(14)));
    }
}
