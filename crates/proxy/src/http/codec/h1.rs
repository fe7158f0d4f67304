//! HTTP/1 on one connection: the read buffer, and writing a body in its framing.
//!
//! - Reads: RFC 9112 through `lateen-http1`.
//! - Rule: one buffer in, one buffer out; a head and the first body bytes leave in one system call.
//! - Limits: bodies are never collected here; a piece is at most what one read gave.
//! - Not here: heads' meaning (`http/request.rs`), pools (`http/upstream.rs`).

use crate::http::io::Duplex;
use lateen_http1::{Framing, Headers, write_chunk_end, write_chunk_head};
use std::io;

/// Bytes read and not yet used.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    pub(crate) bytes: Vec<u8>,
    start: usize,
}

impl ReadBuffer {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }

    /// What is there to use.
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start >= self.bytes.len()
    }

    /// Marks `count` bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// As [`ReadBuffer::consume`], but leaves the bytes where they are, so that a slice of them may still be lent out.
    pub(crate) fn mark(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
    }

    /// Makes room for a read of at least `least` bytes without losing what is unread.
    pub(crate) fn make_room(&mut self, least: usize) {
        if self.bytes.capacity() - self.bytes.len() >= least {
            return;
        }
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.capacity() - self.bytes.len() < least {
            self.bytes.reserve(least.max(self.bytes.capacity()));
        }
    }

    /// The memory, for the pool.
    pub(crate) fn take_memory(&mut self) -> Vec<u8> {
        self.start = 0;
        std::mem::take(&mut self.bytes)
    }
}

/// Least room worth a read.
pub(crate) const READ_ROOM: usize = 2048;

/// Pieces up to this size are copied behind what already waits; larger ones are written from where they are.
const COPY_BYTES_MAX: usize = 4096;
/// What waits is written once it is this much.
const WAITING_BYTES_MAX: usize = 16 * 1024;

/// How the body of an outgoing message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TxFraming {
    /// `Content-Length`, or no body: bytes as they are.
    Plain,
    /// Chunked coding.
    Chunked,
}

impl From<Framing> for TxFraming {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(_) | Framing::UntilClose => Self::Plain,
            Framing::Chunked => Self::Chunked,
        }
    }
}

/// The writing side of one HTTP/1 message. The head already waits in `out`.
pub(crate) struct H1Tx<'a> {
    pub(crate) io: &'a (dyn Duplex + 'a),
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) framing: TxFraming,
}

impl H1Tx<'_> {
    /// Sends a piece. `more`: another piece follows without waiting, so that small ones may travel together.
    pub(crate) async fn data(&mut self, piece: &[u8], more: bool) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let chunked = self.framing == TxFraming::Chunked;
        if chunked {
            write_chunk_head(self.out, piece.len());
        }
        if (more || chunked) && piece.len() <= COPY_BYTES_MAX {
            self.out.extend_from_slice(piece);
            if chunked {
                self.out.extend_from_slice(b"\r\n");
            }
            if more && self.out.len() < WAITING_BYTES_MAX {
                return Ok(());
            }
            return self.flush().await;
        }
        self.io.write_all2(self.out, piece).await?;
        self.out.clear();
        if chunked {
            // Travels with the next write; a reader has the whole piece already.
            self.out.extend_from_slice(b"\r\n");
            if !more {
                return self.flush().await;
            }
        }
        Ok(())
    }

    /// Writes what waits.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.io.write_all2(self.out, b"").await?;
        self.out.clear();
        Ok(())
    }

    /// Ends the body and writes what waits.
    pub(crate) async fn finish(&mut self, trailers: Option<&Headers>) -> io::Result<()> {
        if self.framing == TxFraming::Chunked {
            write_chunk_end(self.out, trailers);
        }
        self.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_bytes_survive_making_room() {
        let mut buffer = ReadBuffer::new(Vec::with_capacity(8));
        buffer.bytes.extend_from_slice(b"abcdefgh");
        buffer.consume(6);
        buffer.make_room(4);
        assert_eq!(buffer.unread(), b"gh");
        buffer.make_room(4096);
        assert_eq!(buffer.unread(), b"gh");
        assert!(buffer.bytes.capacity() >= 4096);
    }

    #[test]
    fn using_everything_empties_the_buffer() {
        let mut buffer = ReadBuffer::new(b"ab".to_vec());
        buffer.consume(2);
        assert!(buffer.is_empty() && buffer.bytes.is_empty());
    }
}
