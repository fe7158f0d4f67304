//! Buffers that connections borrow while bytes move, so that idle connections hold none.
//!
//! - Rule: one pool per worker, no locks; a buffer comes back empty.
//! - Limits: [`KEPT_MAX`] buffers of at most [`KEPT_BYTES_MAX`] are kept; the rest is freed.

use std::cell::RefCell;

/// Capacity of a fresh buffer: one full TLS record.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// Buffers a worker keeps for reuse: 2 MiB at most.
pub const KEPT_MAX: usize = 128;
/// A buffer that grew beyond this is freed instead of kept.
pub const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A worker's buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer with room for at least [`BUFFER_BYTES`].
    pub fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Gives a buffer back; its content is forgotten.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT_MAX && (BUFFER_BYTES..=KEPT_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            free.push(buffer);
        }
    }

    /// Frees all but a few; called when a worker has been idle.
    pub fn shrink(&self) {
        let mut free = self.free.borrow_mut();
        free.truncate(KEPT_IDLE);
        free.shrink_to_fit();
    }
}

/// Buffers an idle worker keeps, so that its first requests allocate nothing.
const KEPT_IDLE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_empty_and_used_again() {
        let pool = Buffers::default();
        let mut buffer = pool.take();
        buffer.extend_from_slice(b"secret");
        pool.give(buffer);
        assert!(pool.take().is_empty());
        assert_eq!(pool.free.borrow().len(), 0);
    }

    #[test]
    fn a_grown_buffer_is_not_kept() {
        let pool = Buffers::default();
        pool.give(Vec::with_capacity(KEPT_BYTES_MAX * 2));
        assert_eq!(pool.free.borrow().len(), 0);
    }
}
