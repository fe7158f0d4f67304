//! Histograms with Envoy's fixed buckets.
//!
//! - Source: Envoy's default histogram buckets, which Istio keeps.

/// Upper bounds of the buckets. The last bucket, without bound, is implied.
pub const BOUNDS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0, 300_000.0, 600_000.0,
    1_800_000.0, 3_600_000.0,
];

/// The bounds as Prometheus writes them.
pub const BOUND_TEXTS: [&str; 20] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000", "300000", "600000", "1800000",
    "3600000", "+Inf",
];

/// Counts per bucket, and the sum of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Values per bucket, not cumulated.
    pub buckets: [u64; 20],
    /// Sum of values.
    pub sum: u64,
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        // Values are whole numbers: compare with the whole part of each bound, 0 being the only value up to 0.5.
        const WHOLE: [u64; 19] =
            [0, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000];
        let at = WHOLE.partition_point(|bound| *bound < value);
        if let Some(count) = self.buckets.get_mut(at) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (to, from) in self.buckets.iter_mut().zip(&other.buckets) {
            *to += from;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_to_that_bucket() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 5, 6, 4_000_000] {
            histogram.record(value);
        }
        assert_eq!((histogram.buckets[0], histogram.buckets[1], histogram.buckets[2], histogram.buckets[3], histogram.buckets[19]), (1, 1, 1, 1, 1));
        assert_eq!((histogram.sum, histogram.count()), (4_000_012, 5));
    }
}
