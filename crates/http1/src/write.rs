//! Heads back into bytes, appended to a reusable buffer.
//!
//! - Reads: RFC 9112 §3, §4, §5.
//! - Rule: hop-by-hop fields and framing fields are never copied through; the caller writes its own.
//! - Not here: deciding the framing or `Connection` of the next hop.

use crate::{Headers, Known};

/// Appends `METHOD target HTTP/1.1 CRLF host: authority CRLF`.
pub fn write_request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8], authority: &[u8]) {
    out.reserve(method.len() + target.len() + authority.len() + 24);
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(authority);
    out.extend_from_slice(b"\r\n");
}

/// Appends `HTTP/1.1 status reason CRLF`.
pub fn write_status_line(out: &mut Vec<u8>, status: u16) {
    let digits = [status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + u8::try_from(digit).unwrap_or(0));
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&digits);
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends all fields but the hop-by-hop ones, `host` and `content-length`. The empty line that ends the head is the caller's.
pub fn write_fields(out: &mut Vec<u8>, headers: &Headers) {
    for (name, value, known) in headers.iter_known() {
        if known.is_hop_by_hop() || matches!(known, Known::Host | Known::ContentLength) {
            continue;
        }
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reason phrase of a status code (IANA registry); `Unknown` for the others, as Envoy writes.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        _ => error_phrase(status),
    }
}

fn error_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, RequestHead, parse_request};

    #[test]
    fn what_is_written_is_read_back_without_hop_by_hop_fields() {
        let mut headers = Headers::default();
        headers.append(b"X-A", b"1");
        headers.append(b"Connection", b"keep-alive");
        headers.append(b"TE", b"gzip");
        headers.append(b"Content-Length", b"3");
        let mut out = Vec::new();
        write_request_line(&mut out, b"GET", b"/x", b"a:1");
        write_fields(&mut out, &headers);
        out.extend_from_slice(b"\r\n");
        assert_eq!(out, b"GET /x HTTP/1.1\r\nhost: a:1\r\nx-a: 1\r\n\r\n");
        let mut head = RequestHead::default();
        assert_eq!(parse_request(&out, Limits::default(), &mut head), Ok(Some(out.len())));
    }

    #[test]
    fn status_lines_have_three_digits_and_a_reason() {
        let mut out = Vec::new();
        write_status_line(&mut out, 503);
        assert_eq!(out, b"HTTP/1.1 503 Service Unavailable\r\n");
    }
}
