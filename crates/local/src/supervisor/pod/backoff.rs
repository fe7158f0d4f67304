//! How long to wait before a container that ended is started again.
//!
//! - Rule: at once the first time, then 10 s, doubling up to 5 min; a run of 10 min forgives all. As a kubelet does, but for the first.
//! - Rule: a proxy comes back within a second always, since its application is cut off without it.

use std::time::Duration;

/// What kind of container it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The user's program.
    Application,
    /// Ours: sidecar, gateway, control plane.
    Mesh,
}

/// Counts the starts that failed in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    patience: Patience,
    failed: u32,
}

const FIRST: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
const MESH_FIRST: Duration = Duration::from_millis(50);
const MESH_MAX: Duration = Duration::from_millis(800);
/// A proxy that ran this long did not fail at start.
const MESH_FORGIVEN_AFTER: Duration = Duration::from_secs(10);

impl Backoff {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, failed: 0 }
    }

    /// The wait after a run of this length.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        let (first, max, forgiven) = match self.patience {
            Patience::Application => (FIRST, MAX, FORGIVEN_AFTER),
            Patience::Mesh => (MESH_FIRST, MESH_MAX, MESH_FORGIVEN_AFTER),
        };
        if ran >= forgiven {
            self.failed = 0;
        }
        self.failed += 1;
        match self.failed {
            1 => Duration::ZERO,
            failed => first.saturating_mul(1_u32.checked_shl(failed - 2).unwrap_or(u32::MAX)).min(max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_ten_seconds_to_five_minutes() {
        let mut backoff = Backoff::new(Patience::Application);
        let waits: Vec<u64> = (0..8).map(|_| backoff.after(Duration::from_secs(1)).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_long_run_forgives() {
        let mut backoff = Backoff::new(Patience::Application);
        backoff.after(Duration::ZERO);
        backoff.after(Duration::ZERO);
        assert_eq!(backoff.after(FORGIVEN_AFTER), Duration::ZERO);
    }

    #[test]
    fn a_proxy_is_back_within_a_second_always() {
        let mut backoff = Backoff::new(Patience::Mesh);
        assert!((0..100).map(|_| backoff.after(Duration::ZERO)).all(|wait| wait < Duration::from_secs(1)));
    }
}
