//! Maglev: a table in which each endpoint owns about its share, and which changes little when endpoints do.
//!
//! - Source: the Maglev paper §3.4 and Envoy's `maglev_lb`: offset by XXH64 seed 0, skip by seed 1.
//! - Rule: bit for bit Envoy's.
//! - Limits: the table's size is a prime bounded by the policy.

use xxhash_rust::xxh64::xxh64;

/// The table: slot → endpoint.
#[derive(Clone, Debug, Default)]
pub struct MaglevTable {
    slots: Vec<u32>,
}

/// Not yet owned.
const FREE: u32 = u32::MAX;

struct Entry {
    offset: u64,
    skip: u64,
    weight: f64,
    target: f64,
    next: u64,
    index: u32,
}

impl MaglevTable {
    /// Builds the table of `hosts`: key (address or host name), weight as a share of all (sum 1), index.
    #[must_use]
    pub fn new(hosts: &[(String, f64, u32)], size: u64) -> Self {
        let heaviest = hosts.iter().map(|(_, w, _)| *w).fold(0.0, f64::max);
        if hosts.is_empty() || size < 2 {
            return Self::default();
        }
        let entry = |(key, weight, index): &(String, f64, u32)| Entry {
            offset: xxh64(key.as_bytes(), 0) % size,
            skip: xxh64(key.as_bytes(), 1) % (size - 1) + 1,
            weight: *weight,
            target: 0.0,
            next: 0,
            index: *index,
        };
        let mut entries: Vec<Entry> = hosts.iter().map(entry).collect();
        // Envoy sorts by key, so that the order of endpoints on the wire does not matter.
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by(|a, b| hosts.get(*a).map(|h| &h.0).cmp(&hosts.get(*b).map(|h| &h.0)));
        let length = usize::try_from(size).unwrap_or(0);
        let mut slots = vec![FREE; length];
        let (mut filled, mut round) = (0, 1.0f64);
        while filled < length {
            for at in &order {
                if filled == length {
                    break;
                }
                let Some(entry) = entries.get_mut(*at) else { continue };
                // A lighter endpoint sits out rounds until its share is due.
                if round * entry.weight < entry.target {
                    continue;
                }
                entry.target += heaviest;
                claim(entry, size, &mut slots);
                filled += 1;
            }
            round += 1.0;
        }
        Self { slots }
    }

    /// The endpoint for `hash`; on later attempts the hash is turned as Envoy turns it.
    #[must_use]
    pub fn pick(&self, hash: u64, attempt: u64) -> Option<u32> {
        let hash = if attempt > 0 { hash ^ (0u64.wrapping_sub(attempt)) } else { hash };
        let at = hash.checked_rem(self.slots.len() as u64)?;
        self.slots.get(usize::try_from(at).ok()?).copied()
    }
}

/// Gives the entry the next free slot of its permutation.
fn claim(entry: &mut Entry, size: u64, slots: &mut [u32]) {
    loop {
        let at = (entry.offset + entry.skip * entry.next) % size;
        entry.next += 1;
        if let Some(slot) = usize::try_from(at).ok().and_then(|at| slots.get_mut(at))
            && *slot == FREE
        {
            *slot = entry.index;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(n: u32) -> Vec<(String, f64, u32)> {
        (0..n).map(|i| (format!("10.0.0.{i}:80"), 1.0 / f64::from(n), i)).collect()
    }

    fn counts(table: &MaglevTable, n: usize) -> Vec<usize> {
        (0..n).map(|i| table.slots.iter().filter(|s| **s as usize == i).count()).collect()
    }

    #[test]
    fn equal_endpoints_own_equal_parts() {
        let table = MaglevTable::new(&hosts(4), 65_537);
        assert!(counts(&table, 4).iter().all(|c| (16_384..=16_385).contains(c)));
    }

    #[test]
    fn twice_the_weight_owns_twice_as_much() {
        let hosts = vec![("a".to_owned(), 1.0 / 3.0, 0), ("b".to_owned(), 2.0 / 3.0, 1)];
        let got = counts(&MaglevTable::new(&hosts, 1009), 2);
        assert!((330..=340).contains(&got[0]), "{got:?}");
    }

    #[test]
    fn removing_one_endpoint_moves_few_other_keys() {
        let (four, three) = (MaglevTable::new(&hosts(4), 65_537), MaglevTable::new(&hosts(3), 65_537));
        let kept = (0..10_000u64).filter(|k| four.pick(*k, 0) != Some(3) && four.pick(*k, 0) == three.pick(*k, 0)).count();
        assert!(kept > 6_500, "{kept}");
    }

    #[test]
    fn no_endpoints_give_nothing() {
        assert_eq!(MaglevTable::new(&[], 65_537).pick(1, 0), None);
    }
}
