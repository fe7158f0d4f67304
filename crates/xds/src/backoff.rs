//! Back-off: how long to wait before trying again, doubling, with jitter.
//!
//! - Rule: pure; the random draw is an argument, so a schedule can be replayed.
//! - Limits: the doubling stops at `max`.

use std::time::Duration;

/// An exponential schedule. `initial` is the first wait, `max` the longest.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A schedule that has seen no failure.
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, failures: 0 }
    }

    /// Forget earlier failures: something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: `initial · 2^n` up to `max`, of which the last half is scaled by `draw` in 0.0..1.0.
    pub fn next(&mut self, draw: f64) -> Duration {
        let doubled = self.initial.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(31);
        let full = doubled.min(self.max);
        full / 2 + (full / 2).mul_f64(draw.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..6).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next(1.0).as_millis(), 100);
    }

    #[test]
    fn jitter_takes_off_at_most_half() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(backoff.next(0.0).as_millis(), 50);
    }
}
