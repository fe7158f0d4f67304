//! Where a message's body ends, and taking it out of the byte stream.
//!
//! - Reads: RFC 9112 §6.3.
//! - Rule: framing is decided once, from the head; the decoder never looks at fields again.
//! - Not here: re-encoding towards the other side (`chunked::write_chunk_head`).

use crate::{ChunkedDecoder, Headers, ParseError};
use std::ops::Range;

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// Chunked coding.
    Chunked,
    /// All bytes until the peer closes (responses only).
    UntilClose,
}

/// One step of decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Body bytes at this range of the input; `consumed` bytes of the input are done with.
    Data {
        /// Where in the input the payload lies.
        range: Range<usize>,
        /// Input bytes done with, at least `range.end`.
        consumed: usize,
    },
    /// Nothing yet; `consumed` bytes of the input are done with, read more.
    More {
        /// Input bytes done with.
        consumed: usize,
    },
    /// The body is complete; `consumed` bytes of the input belonged to it, the rest is the next message.
    End {
        /// Input bytes done with.
        consumed: usize,
    },
}

/// Takes one body out of a byte stream.
#[derive(Debug)]
pub enum BodyDecoder {
    /// Bytes still to come.
    Length(u64),
    /// Chunked coding.
    Chunked(Box<ChunkedDecoder>),
    /// Until the peer closes.
    UntilClose,
}

impl BodyDecoder {
    /// A decoder for this framing.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Decodes the next piece from `input`, which starts where the last piece's `consumed` left off.
    ///
    /// # Errors
    /// [`ParseError::ChunkSize`], [`ParseError::ChunkEnd`] or [`ParseError::Trailer`] for broken chunked coding.
    pub fn decode(&mut self, input: &[u8]) -> Result<Piece, ParseError> {
        if self.is_done() {
            return Ok(Piece::End { consumed: 0 });
        }
        match self {
            _ if input.is_empty() => Ok(Piece::More { consumed: 0 }),
            Self::Length(left) => {
                let take = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= take as u64;
                Ok(Piece::Data { range: 0..take, consumed: take })
            }
            Self::Chunked(decoder) => decoder.decode(input),
            Self::UntilClose => Ok(Piece::Data { range: 0..input.len(), consumed: input.len() }),
        }
    }

    /// True when every byte of the body has been seen.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Tells the decoder that the peer closed.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when the body was not complete.
    pub fn end_of_stream(&self) -> Result<(), ParseError> {
        match self {
            Self::UntilClose => Ok(()),
            _ if self.is_done() => Ok(()),
            _ => Err(ParseError::Truncated),
        }
    }

    /// Trailer fields, once the body is complete and had some.
    #[must_use]
    pub fn trailers(&self) -> Option<&Headers> {
        match self {
            Self::Chunked(decoder) => Some(decoder.trailers()).filter(|trailers| !trailers.is_empty()),
            Self::Length(_) | Self::UntilClose => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_body_leaves_the_next_message_alone() {
        let mut decoder = BodyDecoder::new(Framing::Length(3));
        assert_eq!(decoder.decode(b"abcGET"), Ok(Piece::Data { range: 0..3, consumed: 3 }));
        assert_eq!(decoder.decode(b"GET"), Ok(Piece::End { consumed: 0 }));
        assert!(decoder.is_done());
    }

    #[test]
    fn the_end_stays_the_end() {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        assert_eq!(decoder.decode(b"0\r\n\r\n"), Ok(Piece::End { consumed: 5 }));
        assert_eq!(decoder.decode(b""), Ok(Piece::End { consumed: 0 }));
    }

    #[test]
    fn a_short_body_is_truncated() {
        let mut decoder = BodyDecoder::new(Framing::Length(3));
        assert_eq!(decoder.decode(b"a"), Ok(Piece::Data { range: 0..1, consumed: 1 }));
        assert_eq!(decoder.end_of_stream(), Err(ParseError::Truncated));
        assert_eq!(BodyDecoder::new(Framing::UntilClose).end_of_stream(), Ok(()));
    }
}
