//! Keeping a request's body, so that it can be sent again or copied.
//!
//! - Rule: kept only while someone may need it; a body over the limit turns retries and mirrors off for that request.
//! - Limits: [`Replay::limit`] bytes, from `per_connection_buffer_limit_bytes`.
//! - Not here: deciding about retries (`http/retry.rs`) and mirrors (`http/mirror.rs`).

use super::body::{BodyError, BodyRx, BodyTx, Chunk, Data, PumpError, Step};
use bytes::Bytes;

/// A request's body as far as it has arrived.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    bytes: Vec<u8>,
    /// At most so many bytes are kept; 0 keeps none.
    pub(crate) limit: usize,
    overflowed: bool,
}

impl Replay {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Notes a piece that is about to be forwarded.
    pub(crate) fn note(&mut self, piece: &[u8]) {
        if self.overflowed || self.bytes.len() + piece.len() > self.limit {
            self.overflowed = true;
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(piece);
        }
    }

    /// Whether the request can be sent again from its beginning.
    pub(crate) fn is_possible(&self) -> bool {
        !self.overflowed
    }

    /// How many more bytes can arrive before the request cannot be sent again. `None`: it cannot already.
    pub(crate) fn room(&self) -> Option<u64> {
        self.is_possible().then(|| self.limit.saturating_sub(self.bytes.len()) as u64)
    }

    /// The whole body, for a copy.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        self.is_possible().then(|| Bytes::copy_from_slice(&self.bytes))
    }

    /// Sends what is kept, then what still arrives, then the end. `look` sees new pieces only.
    pub(crate) async fn send(&mut self, rx: &mut BodyRx<'_>, tx: &mut BodyTx<'_>, mut look: impl FnMut(&[u8])) -> Result<(), PumpError> {
        if !self.bytes.is_empty() {
            let done = rx.is_done() && rx.trailers().is_none();
            let kept = Chunk { data: Data::Slice(&self.bytes), end: done, more: false };
            tx.data(kept).await.map_err(|_| PumpError::To)?;
        }
        loop {
            match rx.step().map_err(PumpError::From)? {
                Step::Data(chunk) => {
                    look(chunk.data.bytes());
                    self.note(chunk.data.bytes());
                    tx.data(chunk).await.map_err(|_| PumpError::To)?;
                }
                Step::End => return tx.finish(rx.trailers()).await.map_err(|_| PumpError::To),
                Step::Wait => {
                    tx.flush().await.map_err(|_| PumpError::To)?;
                    rx.fill().await.map_err(PumpError::From)?;
                }
            }
        }
    }
}

/// Receives a body to its end and forgets it, up to `limit` bytes. False when it is larger or breaks.
pub(crate) async fn discard(rx: &mut BodyRx<'_>, limit: usize) -> Result<bool, BodyError> {
    let mut seen = 0;
    loop {
        match rx.step()? {
            Step::Data(chunk) => {
                seen += chunk.data.bytes().len();
                if seen > limit {
                    return Ok(false);
                }
            }
            Step::End => return Ok(true),
            Step::Wait => rx.fill().await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_over_the_limit_cannot_be_sent_again() {
        let mut replay = Replay::new(4);
        replay.note(b"abcd");
        assert!(replay.is_possible());
        assert_eq!(replay.whole().as_deref(), Some(&b"abcd"[..]));
        replay.note(b"e");
        assert!(!replay.is_possible() && replay.whole().is_none());
    }
}
