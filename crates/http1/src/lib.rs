//! HTTP/1.1 codec without I/O: bytes in, checked heads and body pieces out, and heads back into bytes.
//!
//! - Reads: RFC 9112 (messages), RFC 9110 §5 (fields) and §7.6.1 (connection options).
//! - Rule: a message that two parsers could read in two ways is refused, never repaired.
//! - Limits: [`Limits`] bounds the head and the number of fields before anything is kept; chunk lines and trailers have their own.
//! - Not here: sockets, time, HTTP/2, and what to do with a message (the `proxy` crate).
#![forbid(unsafe_code)]

mod body;
mod chunked;
mod connection;
mod error;
mod headers;
mod host;
mod known;
mod request;
mod response;
mod write;

pub use body::{BodyDecoder, Framing, Piece};
pub use chunked::{ChunkedDecoder, write_chunk_end, write_chunk_head};
pub use error::ParseError;
pub use headers::{HeaderIter, Headers, Span};
pub use host::valid_authority;
pub use known::Known;
pub use request::{RequestHead, TargetForm, parse_request};
pub use response::{ResponseHead, parse_response};
pub use write::{reason_phrase, write_fields, write_request_line, write_status_line};

/// How large a message head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole head: start line, fields and the empty line. Source: `max_request_headers_kb` (Envoy default 60).
    pub head_bytes: usize,
    /// Number of fields. Source: `max_headers_count` (Envoy default 100).
    pub headers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: 60 * 1024, headers_max: 100 }
    }
}

/// Version of the message, as its start line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// `HTTP/1.0`: closes by default, has no chunked coding.
    Http10,
    /// `HTTP/1.1`.
    #[default]
    Http11,
}
