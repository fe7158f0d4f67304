//! Outlier detection: endpoints that fail too often are left alone for a while.
//!
//! - Reads: `config.cluster.v3.OutlierDetection` (Envoy), written from `DestinationRule.outlierDetection`.
//! - Twin: `kinds/src/destination_rule/outlier_detection.rs`.
//! - Rule: pure; results and `now` come in, ejections come out. Time is milliseconds on any monotonic clock.
//! - Limits: success-rate and failure-percentage ejection are refused unless switched off (Istio switches them off).
//! - Not here: choosing among the rest (`lb`).
//!
//! ```text
//!            n-th failure in a row, room under max_ejection_percent
//!  in ──────────────────────────────────────────────────────────────▶ out
//!   ▲                                                                  │
//!   └──────────── sweep, when base_ejection_time × ejections is over ──┘
//! ```

use crate::rejected::{Invalid, Within};
use crate::time::duration;
use lateen_envoy_api::envoy::config::cluster::v3 as xcluster;
use lateen_envoy_api::wkt;
use std::time::Duration;

/// When endpoints are ejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// 5xx answers in a row; 0: not counted. Envoy's default is 5.
    pub consecutive_5xx: u32,
    /// 502, 503, 504 or no answer in a row; 0: not counted. Envoy's default is not to enforce it.
    pub consecutive_gateway_failure: u32,
    /// Local failures (no connection, timeout) in a row when [`Self::split_external_local_origin_errors`] is set; 0: not counted.
    pub consecutive_local_origin_failure: u32,
    /// Local failures are counted apart from answers.
    pub split_external_local_origin_errors: bool,
    /// Time between sweeps. Envoy's default is 10 s.
    pub interval: Duration,
    /// First ejection's length. Envoy's default is 30 s.
    pub base_ejection_time: Duration,
    /// Longest ejection. Envoy's default is the larger of 300 s and the base.
    pub max_ejection_time: Duration,
    /// Largest part of endpoints ejected, in percent. One may always be. Envoy's default is 10.
    pub max_ejection_percent: u32,
    /// Out of 100 detections of consecutive 5xx, how many eject.
    pub enforcing_consecutive_5xx: u32,
    /// The same for gateway failures.
    pub enforcing_consecutive_gateway_failure: u32,
    /// The same for local failures.
    pub enforcing_consecutive_local_origin_failure: u32,
    /// At least one endpoint may be ejected whatever the percentage. Envoy's default is off since 1.32.
    pub always_eject_one_endpoint: bool,
}

/// How one exchange with an endpoint ended, as detection sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result5xx {
    /// An answer with this status.
    Status(u16),
    /// No answer: connection failure, reset or timeout.
    LocalFailure,
    /// A connection came about (for TCP, and when local failures are split).
    LocalSuccess,
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionReason {
    /// `consecutive_5xx`.
    Consecutive5xx,
    /// `consecutive_gateway_failure`.
    ConsecutiveGatewayFailure,
    /// `consecutive_local_origin_failure`.
    ConsecutiveLocalOriginFailure,
}

/// What detection remembers of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostOutlier {
    fives: u32,
    gateway: u32,
    local: u32,
    ejections: u32,
    ejected_at: Option<u64>,
    last_unejected: u64,
}

impl HostOutlier {
    /// Whether the endpoint is out now.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.ejected_at.is_some()
    }

    /// How often it was ejected of late; the next ejection lasts that many times the base, plus one.
    #[must_use]
    pub fn ejections(&self) -> u32 {
        self.ejections
    }

    /// Notes a result; `Some` says that the endpoint should be ejected, if there is room and the draw agrees.
    pub fn record(&mut self, config: &OutlierDetection, result: Result5xx) -> Option<EjectionReason> {
        if config.split_external_local_origin_errors {
            match result {
                Result5xx::LocalFailure => {
                    self.local += 1;
                    return reached(self.local, config.consecutive_local_origin_failure, EjectionReason::ConsecutiveLocalOriginFailure);
                }
                Result5xx::LocalSuccess => {
                    self.local = 0;
                    return None;
                }
                Result5xx::Status(_) => {}
            }
        }
        // An exchange without an answer counts as a 503 (no connection) or 504 (timeout): both are gateway failures.
        let (five, gateway) = match result {
            Result5xx::Status(code) => ((500..600).contains(&code), (502..=504).contains(&code)),
            Result5xx::LocalFailure => (true, true),
            Result5xx::LocalSuccess => return None,
        };
        self.fives = if five { self.fives.saturating_add(1) } else { 0 };
        self.gateway = if gateway { self.gateway.saturating_add(1) } else { 0 };
        reached(self.gateway, config.consecutive_gateway_failure, EjectionReason::ConsecutiveGatewayFailure)
            .filter(|_| config.enforcing_consecutive_gateway_failure > 0)
            .or_else(|| reached(self.fives, config.consecutive_5xx, EjectionReason::Consecutive5xx))
    }

    /// Takes the endpoint out at `now`, in milliseconds.
    pub fn eject(&mut self, now: u64) {
        self.ejected_at = Some(now);
        self.ejections = self.ejections.saturating_add(1);
        (self.fives, self.gateway, self.local) = (0, 0, 0);
    }

    /// Lets the endpoint back in when its time is over, and forgives old ejections; `true` when it came back now.
    pub fn sweep(&mut self, config: &OutlierDetection, now: u64) -> bool {
        let Some(at) = self.ejected_at else {
            // A healthy interval takes one ejection off, so that the next is shorter.
            if self.ejections > 0 && now.saturating_sub(self.last_unejected) >= millis(config.interval) {
                self.ejections -= 1;
                self.last_unejected = now;
            }
            return false;
        };
        if now.saturating_sub(at) < self.ejection_millis(config) {
            return false;
        }
        self.ejected_at = None;
        self.last_unejected = now;
        true
    }

    /// When the endpoint comes back. `None`: it is not out.
    #[must_use]
    pub fn due(&self, config: &OutlierDetection) -> Option<u64> {
        self.ejected_at.map(|at| at.saturating_add(self.ejection_millis(config)))
    }

    fn ejection_millis(&self, config: &OutlierDetection) -> u64 {
        millis(config.base_ejection_time).saturating_mul(u64::from(self.ejections)).min(millis(config.max_ejection_time))
    }
}

impl OutlierDetection {
    /// Whether one more of `hosts` may be ejected while `ejected` already are.
    #[must_use]
    pub fn has_room(&self, ejected: usize, hosts: usize) -> bool {
        if hosts == 0 {
            return false;
        }
        let percent_after = (ejected + 1) * 100 / hosts;
        percent_after <= self.max_ejection_percent as usize || (ejected == 0 && self.always_eject_one_endpoint)
    }

    /// Whether a detection is enforced for a draw.
    #[must_use]
    pub fn enforced(&self, reason: EjectionReason, draw: u64) -> bool {
        let percent = match reason {
            EjectionReason::Consecutive5xx => self.enforcing_consecutive_5xx,
            EjectionReason::ConsecutiveGatewayFailure => self.enforcing_consecutive_gateway_failure,
            EjectionReason::ConsecutiveLocalOriginFailure => self.enforcing_consecutive_local_origin_failure,
        };
        draw % 100 < u64::from(percent)
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// Negative durations; success-rate or failure-percentage ejection switched on.
    pub fn from_xds(given: &xcluster::OutlierDetection) -> Result<Self, Invalid> {
        let number = |v: &Option<wkt::UInt32Value>, default: u32| v.as_ref().map_or(default, |v| v.value);
        let time = |v: &Option<wkt::Duration>, default: Duration, field| v.as_ref().map_or(Ok(default), |v| duration(v).within(field));
        if number(&given.enforcing_failure_percentage, 0) > 0 {
            return Err(Invalid::unsupported("enforcing_failure_percentage", "ejection by failure percentage"));
        }
        // Success-rate ejection needs five endpoints with a hundred requests each per interval. Envoy enforces it unless told
        // otherwise; Istio tells it otherwise. An explicit wish for it is refused, the unspoken default is not.
        if given.enforcing_success_rate.as_ref().is_some_and(|v| v.value > 0) {
            return Err(Invalid::unsupported("enforcing_success_rate", "ejection by success rate"));
        }
        let base = time(&given.base_ejection_time, Duration::from_secs(30), "base_ejection_time")?;
        Ok(Self {
            consecutive_5xx: number(&given.consecutive_5xx, 5),
            consecutive_gateway_failure: number(&given.consecutive_gateway_failure, 5),
            consecutive_local_origin_failure: number(&given.consecutive_local_origin_failure, 5),
            split_external_local_origin_errors: given.split_external_local_origin_errors,
            interval: time(&given.interval, Duration::from_secs(10), "interval")?,
            base_ejection_time: base,
            max_ejection_time: time(&given.max_ejection_time, Duration::from_secs(300).max(base), "max_ejection_time")?,
            max_ejection_percent: number(&given.max_ejection_percent, 10).min(100),
            enforcing_consecutive_5xx: number(&given.enforcing_consecutive_5xx, 100),
            enforcing_consecutive_gateway_failure: number(&given.enforcing_consecutive_gateway_failure, 0),
            enforcing_consecutive_local_origin_failure: number(&given.enforcing_consecutive_local_origin_failure, 100),
            always_eject_one_endpoint: given.always_eject_one_host.as_ref().is_some_and(|v| v.value),
        })
    }
}

fn reached(count: u32, limit: u32, reason: EjectionReason) -> Option<EjectionReason> {
    (limit > 0 && count >= limit).then_some(reason)
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> OutlierDetection {
        OutlierDetection::from_xds(&xcluster::OutlierDetection {
            consecutive_5xx: Some(5.into()),
            interval: Some(Duration::from_secs(1).into()),
            base_ejection_time: Some(Duration::from_secs(3).into()),
            max_ejection_percent: Some(100.into()),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn the_fifth_error_in_a_row_ejects() {
        let (config, mut host) = (config(), HostOutlier::default());
        let results: Vec<_> = (0..5).map(|_| host.record(&config, Result5xx::Status(500))).collect();
        assert_eq!(results, [None, None, None, None, Some(EjectionReason::Consecutive5xx)]);
    }

    #[test]
    fn a_good_answer_starts_the_count_again() {
        let (config, mut host) = (config(), HostOutlier::default());
        for status in [500, 500, 500, 500, 200, 500, 500, 500, 500] {
            assert_eq!(host.record(&config, Result5xx::Status(status)), None);
        }
    }

    #[test]
    fn the_second_ejection_lasts_twice_the_base() {
        let (config, mut host) = (config(), HostOutlier::default());
        host.eject(0);
        assert!(!host.sweep(&config, 2_999));
        assert!(host.sweep(&config, 3_000));
        host.eject(3_100);
        assert_eq!(host.due(&config), Some(9_100));
    }

    #[test]
    fn a_connection_failure_counts_as_a_5xx() {
        let (config, mut host) = (config(), HostOutlier::default());
        let last = (0..5).map(|_| host.record(&config, Result5xx::LocalFailure)).last().flatten();
        assert_eq!(last, Some(EjectionReason::Consecutive5xx));
    }

    #[test]
    fn ten_percent_of_three_leaves_no_room() {
        let config = OutlierDetection { max_ejection_percent: 10, ..config() };
        assert!(!config.has_room(0, 3));
        assert!(config.has_room(0, 10));
        assert!(!config.has_room(1, 10));
    }
}
