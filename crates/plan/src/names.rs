//! Maps from a resource's name to the resource, hashed fast.
//!
//! - Rule: keys come from the control plane, never from the network, so the hash need not resist chosen keys; looking up
//!   a name from the network cannot grow a map.
//! - Not here: which maps there are (`plan`).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A name shared by everything that mentions it.
pub type Name = Arc<str>;

/// From name to resource.
pub type NameMap<V> = HashMap<Name, V, BuildHasherDefault<NameHasher>>;

/// A multiply-and-rotate hash over eight bytes at a time.
#[derive(Clone, Copy, Default)]
pub struct NameHasher(u64);

/// Odd, with its bits spread: the multiplier that the Rust compiler's own hash maps use.
const SPREAD: u64 = 0x517c_c1b7_2722_0a95;

impl NameHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(SPREAD);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in words.by_ref() {
            self.add(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        }
        let mut last = [0u8; 8];
        for (to, from) in last.iter_mut().zip(words.remainder()) {
            *to = *from;
        }
        self.add(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        // The map takes its bucket from the low bits, where a multiplication mixes least.
        self.0 ^ (self.0 >> 32)
    }
}
