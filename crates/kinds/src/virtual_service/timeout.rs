//! The timeout of a request, from its first byte upstream to the end of the answer.
//!
//! - Reads: `VirtualService.http[].timeout`.
//! - Writes: `RouteAction.timeout` and `max_grpc_timeout`, which are always equal.
//! - Twin: `proxy/src/http/timeout.rs`, which performs it.
//! - Rule: no timeout and `0s` both mean none: Envoy's own default of 15 s is switched off. Delay faults do not count against it.

use lateen_envoy_api::wkt;
use lateen_istio_api::GoDuration;

use crate::check::Check;
use crate::wire;

/// Checks the timeout at `path`.
pub fn validate(timeout: Option<GoDuration>, path: &str, check: &mut Check<'_>) {
    if timeout.is_some_and(|timeout| timeout.nanos != 0) {
        check.duration(path, timeout);
    }
}

/// Envoy's form; zero turns the timeout off.
#[must_use]
pub fn lower(timeout: Option<GoDuration>) -> wkt::Duration {
    wire::duration(timeout.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_means_no_timeout() {
        assert_eq!(lower(None), wkt::Duration { seconds: 0, nanos: 0 });
        assert_eq!(lower(Some(GoDuration::from_millis(1500))), wkt::Duration { seconds: 1, nanos: 500_000_000 });
    }
}
