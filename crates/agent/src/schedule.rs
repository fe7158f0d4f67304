//! When a certificate is renewed, and how failures are retried.
//!
//! - Rule: pure; the clock and the random draw are arguments.
//! - Source: Istio's `SECRET_GRACE_PERIOD_RATIO` 0.5 with a jitter of 0.01.

use std::time::Duration;

/// Longest wait of a stream for a control plane that is gone: all proxies are back within seconds of its return, not all at once.
pub const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// Share of the lifetime after which a certificate is renewed.
pub const RATIO: f64 = 0.5;
/// Largest deviation from [`RATIO`], so that a mesh started at once does not renew at once.
pub const JITTER: f64 = 0.01;
/// First wait after a failure.
pub const RETRY_FIRST: Duration = Duration::from_millis(25);
/// Longest wait while there is no certificate at all: the pod cannot work, and start-up is to take well under two seconds.
pub const RETRY_MAX_STARTING: Duration = Duration::from_millis(100);
/// After this long without a first certificate the control plane is down rather than starting: waits grow as for a renewal.
pub const STARTING_MAX: Duration = Duration::from_secs(10);
/// Longest wait while an old certificate is still valid.
pub const RETRY_MAX_RENEWING: Duration = Duration::from_secs(10);

/// How long after its issue a certificate of this lifetime is renewed. `draw` is in 0.0..1.0.
#[must_use]
pub fn renew_after(lifetime: Duration, draw: f64) -> Duration {
    lifetime.mul_f64(RATIO + JITTER * (2.0 * draw.clamp(0.0, 1.0) - 1.0))
}

/// Longest wait between tries: short while starting, longer once there is something to serve with or starting has taken long.
#[must_use]
pub fn retry_max(has_certificate: bool, trying_for: Duration) -> Duration {
    if !has_certificate && trying_for < STARTING_MAX { RETRY_MAX_STARTING } else { RETRY_MAX_RENEWING }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_certificate_is_renewed_at_half_its_life_within_one_percent() {
        assert_eq!(renew_after(DAY, 0.5), DAY / 2);
        assert_eq!(renew_after(DAY, 0.0), DAY.mul_f64(0.49));
        assert_eq!(renew_after(DAY, 1.0), DAY.mul_f64(0.51));
    }

    #[test]
    fn a_year_of_renewals_never_meets_an_expired_certificate() {
        let mut now = Duration::ZERO;
        let mut expires = DAY;
        let mut draw = 0.0;
        while now < DAY * 365 {
            now += renew_after(expires - now, draw);
            assert!(now < expires);
            expires = now + DAY;
            draw = (draw + 0.37) % 1.0;
        }
    }

    #[test]
    fn tries_are_quick_while_starting_and_slow_down_later() {
        assert_eq!(retry_max(false, Duration::ZERO), RETRY_MAX_STARTING);
        assert_eq!(retry_max(false, Duration::from_secs(60)), RETRY_MAX_RENEWING);
        assert_eq!(retry_max(true, Duration::ZERO), RETRY_MAX_RENEWING);
    }
}
