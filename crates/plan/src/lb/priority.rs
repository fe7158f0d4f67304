//! Priorities: how much traffic each failover level gets.
//!
//! - Source: Envoy's «Priority levels» and «Panic threshold» pages.
//! - Rule: health of a level is its healthy share times the overprovisioning factor, at most 100 %.

/// How traffic is spread over the levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriorityLoad {
    /// Percent per level for healthy endpoints.
    pub healthy: Vec<u32>,
    /// Percent per level for degraded endpoints.
    pub degraded: Vec<u32>,
    /// Levels in panic: health is ignored there.
    pub panic: Vec<bool>,
}

/// Endpoints of one level by health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelHealth {
    /// All of them.
    pub total: u32,
    /// Healthy ones.
    pub healthy: u32,
    /// Degraded ones.
    pub degraded: u32,
}

/// Spreads 100 % over `levels`. `panic_threshold` is a percentage. Pure.
#[must_use]
pub fn priority_loads(levels: &[LevelHealth], overprovisioning: u32, panic_threshold: f64) -> PriorityLoad {
    let share = |part: u32, total: u32| {
        if total == 0 { 0 } else { (u64::from(overprovisioning) * u64::from(part) / u64::from(total)).min(100) }
    };
    let healthy: Vec<u64> = levels.iter().map(|l| share(l.healthy, l.total)).collect();
    let degraded: Vec<u64> = levels.iter().map(|l| share(l.degraded, l.total)).collect();
    let sum: u64 = healthy.iter().chain(&degraded).sum::<u64>().min(100);
    let panic: Vec<bool> = levels.iter().map(|l| in_panic(*l, panic_threshold)).collect();
    // Every level in need: traffic goes by number of endpoints, health ignored where a level panics.
    if sum < 100 && panic.iter().all(|p| *p) || sum == 0 {
        return by_count(levels, panic);
    }
    let mut left = 100u32;
    let mut take = |shares: &[u64]| -> Vec<u32> {
        let mut got = Vec::with_capacity(shares.len());
        for part in shares {
            let want = u32::try_from(part * 100 / sum.max(1)).unwrap_or(100).min(left);
            left -= want;
            got.push(want);
        }
        got
    };
    let (mut to_healthy, mut to_degraded) = (take(&healthy), take(&degraded));
    // What rounding left goes to the first level that has anything.
    let first = to_healthy.iter_mut().find(|p| **p > 0).or_else(|| to_degraded.iter_mut().find(|p| **p > 0));
    if let Some(part) = first {
        *part += left;
    }
    // While the levels together are healthy enough, none of them panics.
    let panic = if sum >= 100 { vec![false; levels.len()] } else { panic };
    PriorityLoad { healthy: to_healthy, degraded: to_degraded, panic }
}

fn in_panic(level: LevelHealth, threshold: f64) -> bool {
    let usable = level.healthy + level.degraded;
    let percent = if level.total == 0 { 0.0 } else { 100.0 * f64::from(usable) / f64::from(level.total) };
    // As Envoy: the threshold is cut at 100, and 0 switches panic off.
    threshold > 0.0 && percent < threshold.min(100.0)
}

fn by_count(levels: &[LevelHealth], panic: Vec<bool>) -> PriorityLoad {
    let all: u64 = levels.iter().map(|l| u64::from(l.total)).sum();
    let mut healthy: Vec<u32> =
        levels.iter().map(|l| u32::try_from(u64::from(l.total) * 100 / all.max(1)).unwrap_or(0)).collect();
    let left = 100u32.saturating_sub(healthy.iter().sum());
    if all > 0
        && let Some(part) = healthy.iter_mut().find(|p| **p > 0)
    {
        *part += left;
    }
    let degraded = vec![0; levels.len()];
    PriorityLoad { healthy, degraded, panic }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(total: u32, healthy: u32) -> LevelHealth {
        LevelHealth { total, healthy, degraded: 0 }
    }

    #[test]
    fn a_healthy_first_level_gets_everything() {
        assert_eq!(priority_loads(&[level(4, 4), level(4, 4)], 140, 50.0).healthy, [100, 0]);
    }

    #[test]
    fn below_71_percent_traffic_spills_over() {
        assert_eq!(priority_loads(&[level(2, 1), level(2, 2)], 140, 50.0).healthy, [70, 30]);
    }

    #[test]
    fn a_dead_first_level_gives_way() {
        assert_eq!(priority_loads(&[level(3, 0), level(3, 3)], 140, 0.0).healthy, [0, 100]);
    }

    #[test]
    fn without_a_threshold_nothing_panics() {
        assert_eq!(priority_loads(&[level(3, 0)], 140, 0.0).panic, [false]);
    }

    #[test]
    fn one_level_below_the_threshold_panics() {
        assert_eq!(priority_loads(&[level(4, 1)], 140, 50.0).panic, [true]);
    }
}
