//! From a request's host to its virtual host.
//!
//! - Reads: `config.route.v3.VirtualHost.domains` (Envoy).
//! - Rule: exact names first, then the longest `*.suffix`, then the longest `prefix.*`, then `*`; letters' case is ignored.
//! - Rule: looking up allocates nothing, whatever the host.
//! - Not here: routes (`decide`).

use crate::names::NameHasher;
use crate::rejected::Invalid;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The index of one table's domains.
#[derive(Clone, Debug, Default)]
pub struct DomainIndex {
    exact: Folded,
    /// Lengths of wildcard suffixes, longest first.
    suffix_lengths: Vec<usize>,
    suffixes: Folded,
    /// Lengths of wildcard prefixes, longest first.
    prefix_lengths: Vec<usize>,
    prefixes: Folded,
    any: Option<u32>,
}

/// A map whose keys are hashed and compared without their case: hash → (key in lower case, value) of all keys with that hash.
#[derive(Clone, Debug, Default)]
struct Folded {
    buckets: HashMap<u64, Bucket, BuildHasherDefault<NameHasher>>,
}

type Bucket = Vec<(Box<[u8]>, u32)>;

fn folded_hash(key: &[u8]) -> u64 {
    let mut hasher = NameHasher::default();
    let mut words = key.chunks_exact(8);
    for word in words.by_ref() {
        let mut lower = [0u8; 8];
        lower.copy_from_slice(word);
        lower.make_ascii_lowercase();
        hasher.write_u64(u64::from_le_bytes(lower));
    }
    let mut last = [0u8; 8];
    for (to, from) in last.iter_mut().zip(words.remainder()) {
        *to = from.to_ascii_lowercase();
    }
    hasher.write_u64(u64::from_le_bytes(last) ^ ((key.len() as u64) << 56));
    hasher.finish()
}

impl Folded {
    fn get(&self, key: &[u8]) -> Option<u32> {
        let bucket = self.buckets.get(&folded_hash(key))?;
        bucket.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| *v)
    }

    fn insert(&mut self, key: &[u8], value: u32) -> bool {
        if self.get(key).is_some() {
            return false;
        }
        self.buckets.entry(folded_hash(key)).or_default().push((key.to_ascii_lowercase().into(), value));
        true
    }
}

impl DomainIndex {
    /// Adds `domain` for virtual host number `vhost`.
    ///
    /// # Errors
    /// An empty domain, a `*` in the middle, or a domain that is there already.
    pub fn insert(&mut self, domain: &str, vhost: u32) -> Result<(), Invalid> {
        let twice = || Invalid::new("domains", format!("`{domain}` is there twice; a domain belongs to one virtual host"));
        let fresh = if domain.is_empty() {
            return Err(Invalid::new("domains", "holds an empty domain"));
        } else if domain == "*" {
            self.any.replace(vhost).is_none()
        } else if let Some(suffix) = domain.strip_prefix('*') {
            no_star(domain, suffix)?;
            add_length(&mut self.suffix_lengths, suffix.len());
            self.suffixes.insert(suffix.as_bytes(), vhost)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            no_star(domain, prefix)?;
            add_length(&mut self.prefix_lengths, prefix.len());
            self.prefixes.insert(prefix.as_bytes(), vhost)
        } else {
            self.exact.insert(domain.as_bytes(), vhost)
        };
        if fresh { Ok(()) } else { Err(twice()) }
    }

    /// The virtual host of `host`.
    #[must_use]
    pub fn find(&self, host: &[u8]) -> Option<u32> {
        if let Some(found) = self.exact.get(host) {
            return Some(found);
        }
        // A wildcard stands for at least one character.
        for length in self.suffix_lengths.iter().filter(|l| **l < host.len()) {
            let tail = host.get(host.len() - length..).unwrap_or_default();
            if let Some(found) = self.suffixes.get(tail) {
                return Some(found);
            }
        }
        for length in self.prefix_lengths.iter().filter(|l| **l < host.len()) {
            let head = host.get(..*length).unwrap_or_default();
            if let Some(found) = self.prefixes.get(head) {
                return Some(found);
            }
        }
        self.any
    }
}

fn no_star(domain: &str, rest: &str) -> Result<(), Invalid> {
    if rest.contains('*') { Err(Invalid::new("domains", format!("`{domain}` has more than one `*`"))) } else { Ok(()) }
}

/// Longest first; each length once.
fn add_length(lengths: &mut Vec<usize>, length: usize) {
    if let Err(at) = lengths.binary_search_by(|have| length.cmp(have)) {
        lengths.insert(at, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(domains: &[&str]) -> DomainIndex {
        let mut index = DomainIndex::default();
        for (i, domain) in domains.iter().enumerate() {
            index.insert(domain, u32::try_from(i).unwrap()).unwrap();
        }
        index
    }

    #[test]
    fn an_exact_name_beats_every_wildcard() {
        let index = index(&["*", "*.example.com", "a.example.com", "a.*"]);
        assert_eq!(index.find(b"a.example.com"), Some(2));
    }

    #[test]
    fn the_longest_suffix_wins_over_shorter_ones_and_prefixes() {
        let index = index(&["*.com", "*.example.com", "a.*"]);
        assert_eq!(index.find(b"a.example.com"), Some(1));
        assert_eq!(index.find(b"a.org"), Some(2));
    }

    #[test]
    fn a_wildcard_does_not_stand_for_nothing() {
        assert_eq!(index(&["*.example.com"]).find(b".example.com"), None);
        assert_eq!(index(&["*.example.com"]).find(b"example.com"), None);
    }

    #[test]
    fn case_is_ignored() {
        assert_eq!(index(&["Reviews.Default.svc"]).find(b"rEVIEWS.default.SVC"), Some(0));
        assert_eq!(index(&["*.Example.com"]).find(b"A.EXAMPLE.COM"), Some(0));
    }

    #[test]
    fn a_domain_belongs_to_one_virtual_host() {
        let mut index = index(&["a"]);
        assert!(index.insert("A", 1).unwrap_err().why.contains("`A`"));
    }
}
