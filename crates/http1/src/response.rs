//! Response heads, as strict towards the upstream as requests are towards the downstream.
//!
//! - Reads: RFC 9112 §4, §6.3.
//! - Rule: framing depends on the request's method, so the caller says what it asked.
//! - Limits: [`Limits`].
//! - Not here: what an answer means (retries, outliers).

use crate::connection::{self, Options};
use crate::request::{check_line_ends, content_length, is_chunked, parse_error, span_in};
use crate::{Framing, Headers, Known, Limits, ParseError, Version};
use std::mem::MaybeUninit;

/// A checked response head. Reusable.
#[derive(Debug, Default, Clone)]
pub struct ResponseHead {
    /// Fields. Hop-by-hop fields are present and skipped by [`crate::write_fields`].
    pub headers: Headers,
    /// Status code, 100 to 999.
    pub status: u16,
    /// Version of the status line.
    pub version: Version,
    /// Length of the body; meaningless for 1xx.
    pub framing: Framing,
    /// Whether the connection can carry another request once this body is complete.
    pub keep_alive: bool,
    /// The answer switches protocols: 101 with `Upgrade`, or a 2xx to `CONNECT`.
    pub switches: bool,
}

impl ResponseHead {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = Self { headers, ..Self::default() };
    }

    /// True for 1xx other than 101: the final answer is still to come.
    #[must_use]
    pub fn is_informational(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// Fields parsed on the stack; a larger configured limit allocates per head.
const STACK_FIELDS: usize = 128;

/// Parses a response head at the start of `buf`; `method` is that of the request it answers. `Ok(None)`: read more.
///
/// # Errors
/// See [`ParseError`]; the connection cannot be used afterwards.
pub fn parse_response(buf: &[u8], method: &[u8], limits: Limits, head: &mut ResponseHead) -> Result<Option<usize>, ParseError> {
    let mut stack = [const { MaybeUninit::uninit() }; STACK_FIELDS];
    let mut heap = Vec::new();
    let fields = if limits.headers_max <= STACK_FIELDS {
        stack.get_mut(..limits.headers_max).unwrap_or_default()
    } else {
        heap.resize(limits.headers_max, MaybeUninit::uninit());
        &mut heap
    };
    let mut response = httparse::Response::new(&mut []);
    let length = match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, buf, fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buf.len() >= limits.head_bytes => return Err(ParseError::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(parse_error(error, &[])),
    };
    if length > limits.head_bytes {
        return Err(ParseError::HeadTooLarge);
    }
    let bytes = buf.get(..length).unwrap_or_default();
    check_line_ends(bytes)?;
    head.clear();
    head.headers.keep(bytes);
    head.status = response.code.unwrap_or_default();
    if head.status < 100 {
        return Err(ParseError::StartLine);
    }
    head.version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
    for field in response.headers.iter() {
        head.headers.push_spans(span_in(bytes, field.name.as_bytes()), span_in(bytes, field.value));
    }
    finish(head, method)?;
    Ok(Some(length))
}

fn finish(head: &mut ResponseHead, method: &[u8]) -> Result<(), ParseError> {
    let mut options = Options::default();
    if head.headers.known(Known::Connection).is_some() {
        connection::drop_nominated(&mut head.headers);
        options = Options::of(&head.headers);
    }
    let connected = method == b"CONNECT" && (200..300).contains(&head.status);
    head.switches = connected || (head.status == 101 && head.headers.known(Known::Upgrade).is_some());
    if connected {
        head.framing = Framing::None;
        return Ok(());
    }
    head.framing = response_framing(&head.headers, head.version, head.status, method)?;
    head.keep_alive = options.persists(head.version) && head.framing != Framing::UntilClose && !head.switches;
    Ok(())
}

fn response_framing(headers: &Headers, version: Version, status: u16, method: &[u8]) -> Result<Framing, ParseError> {
    let chunked = is_chunked(headers, version)?;
    let length = content_length(headers)?;
    if chunked && length.is_some() {
        return Err(ParseError::LengthAndEncoding);
    }
    let bodiless = method == b"HEAD" || status < 200 || status == 204 || status == 304;
    Ok(match (bodiless, chunked, length) {
        (true, _, _) | (false, false, Some(0)) => Framing::None,
        (false, true, _) => Framing::Chunked,
        (false, false, Some(length)) => Framing::Length(length),
        (false, false, None) => Framing::UntilClose,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &str, method: &str) -> Result<Option<ResponseHead>, ParseError> {
        let mut head = ResponseHead::default();
        parse_response(input.as_bytes(), method.as_bytes(), Limits::default(), &mut head).map(|length| length.map(|_| head))
    }

    fn whole(input: &str, method: &str) -> ResponseHead {
        parse(input, method).expect("valid").expect("complete")
    }

    #[test]
    fn framing_follows_status_and_method() {
        let framing = |head: &str, method: &str| whole(&format!("HTTP/1.1 {head}\r\n\r\n"), method).framing;
        assert_eq!(framing("200 OK\r\nContent-Length: 7", "GET"), Framing::Length(7));
        assert_eq!(framing("200 OK\r\nContent-Length: 7", "HEAD"), Framing::None);
        assert_eq!(framing("304 Not Modified\r\nContent-Length: 7", "GET"), Framing::None);
        assert_eq!(framing("204 No Content", "GET"), Framing::None);
        assert_eq!(framing("200 OK", "GET"), Framing::UntilClose);
        assert_eq!(framing("200 OK\r\nTransfer-Encoding: chunked", "GET"), Framing::Chunked);
        assert_eq!(framing("200", "GET"), Framing::UntilClose);
    }

    #[test]
    fn persistence_follows_version_and_framing() {
        assert!(whole("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET").keep_alive);
        assert!(!whole("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "GET").keep_alive);
        assert!(!whole("HTTP/1.1 200 OK\r\n\r\n", "GET").keep_alive);
        assert!(!whole("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "GET").keep_alive);
        assert!(whole("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", "GET").keep_alive);
    }

    #[test]
    fn informational_and_switching_answers_are_told_apart() {
        assert!(whole("HTTP/1.1 100 Continue\r\n\r\n", "POST").is_informational());
        let switching = whole("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET");
        assert!(switching.switches && !switching.is_informational());
        assert!(whole("HTTP/1.1 200 OK\r\n\r\n", "CONNECT").switches);
    }

    #[test]
    fn ambiguous_answers_are_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 5\r\nContent-Length: 6", "Transfer-Encoding: gzip, chunked", "X : y", "X: a\0",
            "X: a\r\n fold",
        ] {
            assert!(parse(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"), "GET").is_err(), "{fields:?}");
        }
        for line in ["HTTP/2.0 200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 099 OK", "HTTX/1.1 200 OK", "HTTP/1.1  200 OK"] {
            assert!(parse(&format!("{line}\r\n\r\n"), "GET").is_err(), "{line:?}");
        }
    }
}
