//! Ring hash: each endpoint owns points on a ring; a request goes to the next point after its hash.
//!
//! - Source: Envoy's «Ring hash» page and `ring_hash_lb`: the point `i` of an endpoint is the hash of `address_i`.
//! - Rule: bit for bit Envoy's, so that both proxies send a key to the same endpoint.
//! - Limits: the ring's size is bounded by the policy's maximum.

use xxhash_rust::xxh64::xxh64;

/// A ring of (hash, endpoint).
#[derive(Clone, Debug, Default)]
pub struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// Builds the ring of `hosts`: key (address or host name), weight as a share of all (sum 1), index.
    #[must_use]
    pub fn new(hosts: &[(String, f64, u32)], minimum_size: u64, maximum_size: u64, murmur: bool) -> Self {
        let least = hosts.iter().map(|(_, w, _)| *w).fold(1.0, f64::min);
        // Every endpoint gets a whole number of points if the ring is big enough for the lightest one.
        #[expect(clippy::cast_precision_loss, reason = "ring sizes are far below 2^52")]
        let (minimum, maximum) = (minimum_size as f64, maximum_size as f64);
        let scale = ((least * minimum).ceil() / least).min(maximum);
        let mut points = Vec::new();
        let (mut current, mut target) = (0.0f64, 0.0f64);
        let mut key = Vec::new();
        for (address, weight, index) in hosts {
            target += scale * weight;
            let mut i = 0u64;
            while current < target {
                key.clear();
                key.extend_from_slice(address.as_bytes());
                key.push(b'_');
                key.extend_from_slice(i.to_string().as_bytes());
                let hash = if murmur { murmur2(&key, MURMUR_SEED) } else { xxh64(&key, 0) };
                points.push((hash, *index));
                i += 1;
                current += 1.0;
            }
        }
        points.sort_unstable_by_key(|(hash, _)| *hash);
        Self { points }
    }

    /// The endpoint for `hash`; `attempt` moves on by as many points.
    #[must_use]
    pub fn pick(&self, hash: u64, attempt: usize) -> Option<u32> {
        let at = self.points.partition_point(|(point, _)| *point < hash);
        let len = self.points.len();
        (len > 0).then(|| self.points.get((at + attempt) % len).map(|(_, index)| *index))?
    }

    /// Number of points.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are no points.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

/// The seed of libstdc++'s string hash, which Envoy keeps.
const MURMUR_SEED: u64 = 0xc70f_6907;

/// 64-bit `MurmurHash2` as libstdc++ computes it.
fn murmur2(key: &[u8], seed: u64) -> u64 {
    const MUL: u64 = 0xc6a4_a793_5bd1_e995;
    let mix = |v: u64| v ^ (v >> 47);
    let mut hash = seed ^ (key.len() as u64).wrapping_mul(MUL);
    let mut words = key.chunks_exact(8);
    for word in words.by_ref() {
        let data = mix(u64::from_le_bytes(word.try_into().unwrap_or_default()).wrapping_mul(MUL)).wrapping_mul(MUL);
        hash = (hash ^ data).wrapping_mul(MUL);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        let data = tail.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        hash = (hash ^ data).wrapping_mul(MUL);
    }
    hash = mix(hash).wrapping_mul(MUL);
    mix(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(n: u32) -> Vec<(String, f64, u32)> {
        (0..n).map(|i| (format!("10.0.0.{i}:80"), 1.0 / f64::from(n), i)).collect()
    }

    #[test]
    fn the_smallest_size_is_rounded_up_to_whole_points() {
        assert_eq!(Ring::new(&hosts(3), 1024, 8 << 20, false).len(), 1026);
    }

    #[test]
    fn a_key_keeps_its_endpoint() {
        let ring = Ring::new(&hosts(3), 1024, 8 << 20, false);
        assert_eq!(ring.pick(12345, 0), ring.pick(12345, 0));
    }

    #[test]
    fn removing_one_of_four_moves_about_a_quarter_of_the_keys() {
        let (four, three) = (Ring::new(&hosts(4), 1024, 8 << 20, false), Ring::new(&hosts(3), 1024, 8 << 20, false));
        let keys = || (0..4000u64).map(|k| xxh64(&k.to_le_bytes(), 0));
        let moved = keys().filter(|k| four.pick(*k, 0) != three.pick(*k, 0)).count();
        assert!((600..1700).contains(&moved), "{moved}");
    }

    #[test]
    fn murmur_of_known_text_is_known() {
        // std::hash<std::string>("hello") of libstdc++ on 64 bits.
        assert_eq!(murmur2(b"hello", MURMUR_SEED), 2_762_169_579_135_187_400);
    }

    #[test]
    fn an_empty_ring_gives_nothing() {
        assert_eq!(Ring::new(&[], 1024, 8 << 20, false).pick(1, 0), None);
    }
}
