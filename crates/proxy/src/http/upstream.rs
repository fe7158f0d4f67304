//! One attempt's way upstream: the request's head out, the answer's head in, over HTTP/1 or HTTP/2.
//!
//! - Rule: both forms look alike from here on: a [`BodyTx`] for the request, an [`UpstreamRx`] for the answer.
//! - Limits: answer heads by the cluster's `max_response_headers_kb` and count.
//! - Not here: getting a connection (`cluster/pool.rs`, `http/h2_client.rs`), what an answer means (`http/router.rs`).

use super::body::{BodyError, BodyRx, H1Rx, H2Rx};
use super::codec::h1::{READ_ROOM, ReadBuffer};
use super::codec::h2 as codec_h2;
use super::io::Duplex;
use super::local_reply::ResetReason;
use lateen_http1::{BodyDecoder, Framing, Headers, Known, Limits, RequestHead, ResponseHead, parse_response, write_fields, write_request_line};

/// The receiving side of one attempt, before its answer's head.
pub(crate) enum UpstreamRx<'a> {
    H1 { io: &'a (dyn Duplex + 'a), buffer: &'a mut ReadBuffer, limits: Limits },
    H2(h2::client::ResponseFuture),
    H2Body(h2::RecvStream),
}

/// The answer's body and whether the connection can be used again after it.
pub(crate) struct Answer<'a> {
    pub(crate) body: BodyRx<'a>,
    pub(crate) reusable: bool,
}

impl<'a> UpstreamRx<'a> {
    /// Waits for the next head, informational ones included. Call again only after an informational one.
    pub(crate) async fn head(&mut self, method: &[u8], head: &mut ResponseHead) -> Result<(), ResetReason> {
        match self {
            Self::H1 { io, buffer, limits } => h1_head(*io, buffer, *limits, method, head).await,
            Self::H2(future) => {
                let response = future.await.map_err(|error| reset_reason(&error))?;
                let (parts, body) = response.into_parts();
                codec_h2::read_response(&parts, method, body.is_end_stream(), head).map_err(|_| ResetReason::ProtocolError)?;
                *self = Self::H2Body(body);
                Ok(())
            }
            Self::H2Body(_) => Err(ResetReason::ProtocolError),
        }
    }

    /// The body that follows `head`. `tunnel`: bytes follow without framing.
    pub(crate) fn into_answer(self, head: &ResponseHead, tunnel: bool) -> Answer<'a> {
        match self {
            Self::H1 { io, buffer, .. } => {
                let framing = if tunnel { Framing::UntilClose } else { head.framing };
                let body = BodyRx::H1(H1Rx { io, buffer, decoder: BodyDecoder::new(framing), closed: false });
                Answer { body, reusable: head.keep_alive && !tunnel }
            }
            Self::H2(_) => Answer { body: BodyRx::Empty, reusable: false },
            Self::H2Body(body) => Answer { body: BodyRx::H2(Box::new(H2Rx::new(body))), reusable: true },
        }
    }
}

async fn h1_head(io: &(dyn Duplex + '_), buffer: &mut ReadBuffer, limits: Limits, method: &[u8], head: &mut ResponseHead) -> Result<(), ResetReason> {
    loop {
        if !buffer.is_empty()
            && let Some(length) = parse_response(buffer.unread(), method, limits, head).map_err(|_| ResetReason::ProtocolError)?
        {
            buffer.consume(length);
            return Ok(());
        }
        buffer.make_room(READ_ROOM);
        match io.read(&mut buffer.bytes).await {
            Ok(0) | Err(_) => return Err(ResetReason::ConnectionTermination),
            Ok(_) => {}
        }
    }
}

/// Envoy's word for the end of an HTTP/2 stream.
pub(crate) fn reset_reason(error: &h2::Error) -> ResetReason {
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => ResetReason::RefusedStream,
        Some(_) if error.is_reset() && error.is_remote() => ResetReason::RemoteReset,
        Some(h2::Reason::PROTOCOL_ERROR) => ResetReason::ProtocolError,
        Some(h2::Reason::NO_ERROR) | None => ResetReason::ConnectionTermination,
        Some(_) => ResetReason::ConnectionTermination,
    }
}

/// What one attempt writes beside the request's own fields.
pub(crate) struct Extra<'a> {
    /// `x-envoy-attempt-count`, when the virtual host asks for it.
    pub(crate) attempt_count: Option<u32>,
    /// `x-envoy-expected-rq-timeout-ms`.
    pub(crate) expected_timeout_ms: Option<u64>,
    /// The protocol of an upgrade.
    pub(crate) upgrade: Option<&'a [u8]>,
}

/// Appends an HTTP/1 request head.
pub(crate) fn write_h1_request(out: &mut Vec<u8>, head: &RequestHead, extra: &Extra<'_>) {
    write_request_line(out, head.method(), head.path(), head.authority());
    write_fields(out, &head.headers);
    let mut number = itoa::Buffer::new();
    let mut field = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    if let Some(count) = extra.attempt_count {
        field(lateen_base::headers::ATTEMPT_COUNT, number.format(count).as_bytes());
    }
    if let Some(millis) = extra.expected_timeout_ms {
        field(lateen_base::headers::EXPECTED_TIMEOUT, number.format(millis).as_bytes());
    }
    if head.headers.get_all(b"te").any(|te| te.trim_ascii().eq_ignore_ascii_case(b"trailers")) {
        field("te", b"trailers");
    }
    match extra.upgrade {
        Some(protocol) => {
            field("connection", b"upgrade");
            field("upgrade", protocol);
        }
        None => match head.framing {
            Framing::Length(length) => field("content-length", number.format(length).as_bytes()),
            Framing::Chunked => field("transfer-encoding", b"chunked"),
            Framing::None | Framing::UntilClose if keeps_zero_length(head) => field("content-length", b"0"),
            Framing::None | Framing::UntilClose => {}
        },
    }
    out.extend_from_slice(b"\r\n");
}

/// A bodiless request keeps the `content-length: 0` it came with, and methods that expect a body get one.
fn keeps_zero_length(head: &RequestHead) -> bool {
    head.headers.known(Known::ContentLength).is_some() || matches!(head.method(), b"POST" | b"PUT" | b"PATCH")
}

/// The HTTP/2 form of the same.
pub(crate) fn h2_request(head: &RequestHead, extra: &Extra<'_>, https: bool) -> Option<http::Request<()>> {
    let mut request = codec_h2::write_request(head, https)?;
    let fields = request.headers_mut();
    if let Some(count) = extra.attempt_count {
        fields.insert(lateen_base::headers::ATTEMPT_COUNT, count.into());
    }
    if let Some(millis) = extra.expected_timeout_ms {
        fields.insert(lateen_base::headers::EXPECTED_TIMEOUT, millis.into());
    }
    Some(request)
}

/// Why the answer's body stopped, in Envoy's words.
pub(crate) fn broken_body(error: &BodyError) -> ResetReason {
    match error {
        BodyError::Closed | BodyError::Io => ResetReason::ConnectionTermination,
        BodyError::Protocol(_) => ResetReason::ProtocolError,
        BodyError::Reset(h2::Reason::REFUSED_STREAM) => ResetReason::RefusedStream,
        BodyError::Reset(_) => ResetReason::RemoteReset,
    }
}

/// Trailers that end an HTTP/2 answer carry its gRPC status.
pub(crate) fn grpc_status(headers: &Headers) -> Option<u32> {
    super::grpc::parse_status(headers.known(Known::GrpcStatus))
}
