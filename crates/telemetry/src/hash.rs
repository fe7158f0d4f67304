//! A fast hash for tables whose size is bounded.
//!
//! - Rule: only for tables with a maximum: keys may come from the network, and chosen collisions then cost at most a scan of
//!   one bounded bucket run.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`Fast`].
pub type FastHash = BuildHasherDefault<Fast>;

/// A multiply-and-rotate hash over eight bytes at a time.
#[derive(Clone, Copy, Default)]
pub struct Fast(u64);

/// Odd, with its bits spread.
const SPREAD: u64 = 0x517c_c1b7_2722_0a95;

impl Fast {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(SPREAD);
    }
}

impl Hasher for Fast {
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

    fn write_u8(&mut self, v: u8) {
        self.add(v.into());
    }
    fn write_u16(&mut self, v: u16) {
        self.add(v.into());
    }
    fn write_u32(&mut self, v: u32) {
        self.add(v.into());
    }
    fn write_u64(&mut self, v: u64) {
        self.add(v);
    }
    fn write_isize(&mut self, v: isize) {
        self.add(v.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
