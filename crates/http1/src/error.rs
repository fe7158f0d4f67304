//! Why a message was refused, and what a server has to answer.
//!
//! - Rule: one variant per cause; the status and Envoy's response code detail follow from the variant alone.
//! - Not here: writing the answer.

/// A refused message. All of them end the connection: after one, the place where the next message starts is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The head is larger than [`crate::Limits::head_bytes`].
    #[error("message head is larger than the limit; send fewer or shorter header fields")]
    HeadTooLarge,
    /// More fields than [`crate::Limits::headers_max`].
    #[error("message has more header fields than the limit; send fewer")]
    TooManyHeaders,
    /// Start line that is not `METHOD SP target SP HTTP/1.x CRLF`, or the like for a status line.
    #[error("start line is malformed (RFC 9112 §3, §4)")]
    StartLine,
    /// A version that is neither 1.0 nor 1.1.
    #[error("HTTP version is not 1.0 or 1.1")]
    Version,
    /// A request target in no known form, or in a form that its method may not use.
    #[error("request target is malformed (RFC 9112 §3.2)")]
    Target,
    /// Bad field name, control character in a value, obs-fold or space before the colon.
    #[error("header field is malformed (RFC 9112 §5)")]
    Field,
    /// A line ends in LF alone, or CR stands without LF.
    #[error("line does not end in CR LF (RFC 9112 §2.2)")]
    LineEnd,
    /// HTTP/1.1 without `Host`.
    #[error("Host header is missing (RFC 9112 §3.2)")]
    HostMissing,
    /// More than one `Host`.
    #[error("more than one Host header (RFC 9112 §3.2)")]
    HostRepeated,
    /// `Host` or the target's authority is not `host [":" port]`.
    #[error("Host header is malformed (RFC 9112 §3.2)")]
    HostInvalid,
    /// `Content-Length` is not one plain decimal number.
    #[error("Content-Length is not one decimal number (RFC 9112 §6.3)")]
    ContentLength,
    /// `Transfer-Encoding` is anything but one `chunked`.
    #[error("Transfer-Encoding is not exactly `chunked` (RFC 9112 §6.1)")]
    TransferEncoding,
    /// Both `Transfer-Encoding` and `Content-Length`.
    #[error("both Transfer-Encoding and Content-Length are present (RFC 9112 §6.3)")]
    LengthAndEncoding,
    /// A chunk-size line that is not hex digits, an optional extension and CR LF; or its limit passed.
    #[error("chunk size line is malformed (RFC 9112 §7.1)")]
    ChunkSize,
    /// No CR LF after a chunk's data.
    #[error("chunk data is not followed by CR LF (RFC 9112 §7.1)")]
    ChunkEnd,
    /// A malformed trailer section, or its limit passed.
    #[error("trailer section is malformed or too large (RFC 9112 §7.1.2)")]
    Trailer,
    /// The peer closed before the message was whole.
    #[error("connection ended before the message was complete")]
    Truncated,
}

impl ParseError {
    /// Status a server answers with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::Version => 505,
            Self::StartLine
            | Self::Target
            | Self::Field
            | Self::LineEnd
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::LengthAndEncoding
            | Self::ChunkSize
            | Self::ChunkEnd
            | Self::Trailer
            | Self::Truncated => 400,
        }
    }

    /// Envoy's response code detail for the same cause, as the access log prints it.
    #[must_use]
    pub fn details(self) -> &'static str {
        match self {
            Self::HeadTooLarge => "http1.headers_too_large",
            Self::TooManyHeaders => "http1.too_many_headers",
            Self::Target => "http1.invalid_url",
            Self::Field => "http1.invalid_characters",
            Self::HostMissing => "missing_host_header",
            Self::HostRepeated | Self::HostInvalid => "http1.invalid_host",
            Self::TransferEncoding => "http1.invalid_transfer_encoding",
            Self::LengthAndEncoding => "http1.content_length_and_chunked_not_allowed",
            Self::ContentLength => "http1.content_length_not_allowed",
            Self::StartLine | Self::Version | Self::LineEnd | Self::ChunkSize | Self::ChunkEnd | Self::Trailer | Self::Truncated => "http1.codec_error",
        }
    }
}
