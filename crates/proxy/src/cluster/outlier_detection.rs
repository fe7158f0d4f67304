//! Outlier detection: endpoints that keep failing leave balancing for a while, for all workers at once.
//!
//! - Reads: `plan::outlier::{OutlierDetection, HostOutlier}`, which decide.
//! - Twin: `kinds/src/destination_rule/outlier_detection.rs`.
//! - Rule: a consecutive-error ejection happens at the error that reaches the threshold, whichever worker saw it.
//! - Rule: the one lock here guards a few counters of one endpoint and is skipped while the endpoint succeeds.
//! - Limits: at most `max_ejection_percent` of a cluster's endpoints are out at once.
//! - Not here: thresholds and times (`plan/outlier.rs`), what balancing does with it (`plan/lb`).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lateen_plan::outlier::{HostOutlier, OutlierDetection, Result5xx};

/// What happened to one request, as far as its endpoint is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status (for gRPC, mapped to HTTP's).
    Answered(u16),
    /// No connection, or it broke before an answer.
    LocalOriginFailure,
    /// No answer in time.
    LocalOriginTimeout,
    /// A connection was made (TCP proxying).
    Connected,
}

impl From<Outcome> for Result5xx {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Answered(status) => Result5xx::Status(status),
            Outcome::LocalOriginFailure | Outcome::LocalOriginTimeout => Result5xx::LocalFailure,
            Outcome::Connected => Result5xx::LocalSuccess,
        }
    }
}

/// One endpoint's record; shared by all workers, kept over configuration changes.
#[derive(Debug, Default)]
pub struct Record {
    state: Mutex<HostOutlier>,
    /// There is an error to forget; successes need to look at `state` only then.
    errors: AtomicBool,
    ejected: AtomicBool,
}

impl Record {
    /// True while balancing must avoid the endpoint.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, HostOutlier> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One cluster's count of ejections.
#[derive(Debug, Default)]
pub struct Detector {
    active: AtomicU32,
    /// All ejections ever: `outlier_detection.ejections_enforced_total`.
    pub total: AtomicU64,
    /// Ejections that the percentage forbade: `outlier_detection.ejections_overflow`.
    pub overflow: AtomicU64,
}

impl Detector {
    /// Endpoints out now: `outlier_detection.ejections_active`.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Takes one outcome of an endpoint in a cluster with `hosts` endpoints; true when it is newly out. `now` is the process clock in milliseconds.
    pub fn observe(&self, record: &Record, config: &OutlierDetection, outcome: Outcome, hosts: usize, now: u64, draw: u64) -> bool {
        let good = match outcome {
            Outcome::Answered(code) => code < 500,
            Outcome::Connected => true,
            Outcome::LocalOriginFailure | Outcome::LocalOriginTimeout => false,
        };
        if good && !record.errors.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = record.state();
        let reached = state.record(config, outcome.into());
        record.errors.store(!good, Ordering::Relaxed);
        let Some(reason) = reached else { return false };
        if record.is_ejected() || !config.enforced(reason, draw) {
            return false;
        }
        if !config.has_room(self.active() as usize, hosts) {
            self.overflow.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        state.eject(now);
        record.ejected.store(true, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// The look at the end of an interval; true when any endpoint came back.
    pub fn interval(&self, records: &[&Record], config: &OutlierDetection, now: u64) -> bool {
        let mut changed = false;
        for record in records {
            if record.state().sweep(config, now) {
                self.forget(record);
                changed = true;
            }
        }
        changed
    }

    /// An endpoint left the cluster or came back: it counts no longer.
    pub fn forget(&self, record: &Record) {
        if record.ejected.swap(false, Ordering::Relaxed) {
            self.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn config() -> OutlierDetection {
        let given = lateen_envoy_api::envoy::config::cluster::v3::OutlierDetection {
            consecutive_5xx: Some(2.into()),
            interval: Some(Duration::from_secs(1).into()),
            base_ejection_time: Some(Duration::from_secs(3).into()),
            max_ejection_percent: Some(50.into()),
            ..Default::default()
        };
        OutlierDetection::from_xds(&given).unwrap()
    }

    fn fail(detector: &Detector, record: &Record, times: usize) -> bool {
        (0..times).fold(false, |_, _| detector.observe(record, &config(), Outcome::Answered(500), 2, 0, 0))
    }

    #[test]
    fn the_threshold_ejects_and_the_interval_after_its_time_releases() {
        let (detector, record) = (Detector::default(), Record::default());
        assert!(fail(&detector, &record, 2) && record.is_ejected());
        assert!(!detector.interval(&[&record], &config(), 2_999));
        assert!(detector.interval(&[&record], &config(), 3_000) && !record.is_ejected());
        assert_eq!(detector.active(), 0);
    }

    #[test]
    fn a_success_between_errors_starts_over() {
        let (detector, record) = (Detector::default(), Record::default());
        assert!(!fail(&detector, &record, 1));
        assert!(!detector.observe(&record, &config(), Outcome::Answered(200), 2, 0, 0));
        assert!(!fail(&detector, &record, 1));
    }

    #[test]
    fn the_percentage_limits_how_many_are_out() {
        let (detector, a, b) = (Detector::default(), Record::default(), Record::default());
        assert!(fail(&detector, &a, 2));
        assert!(!fail(&detector, &b, 2));
        assert_eq!(detector.overflow.load(Ordering::Relaxed), 1);
    }
}
