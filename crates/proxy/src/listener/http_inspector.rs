//! HTTP inspector: is this plaintext HTTP, and which version?
//!
//! - Reads: the first bytes of a connection (`extensions.filters.listener.http_inspector.v3.HttpInspector`).
//! - Rule: pure; decides «not HTTP» at the first byte that no request can have there, so that other protocols wait for nothing.
//! - Limits: a request line longer than [`LINE_BYTES_MAX`] counts as not HTTP.
//! - Not here: parsing a request (`http1`), waiting for bytes (`listener/inspect.rs`).

/// The longest request line that is looked at.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspected {
    /// Too few bytes to tell.
    More,
    /// Not HTTP.
    NotHttp,
    /// A request line of HTTP/1.0.
    Http10,
    /// A request line of HTTP/1.1.
    Http11,
    /// The HTTP/2 connection preface.
    H2c,
}

impl Inspected {
    /// The application protocol a filter chain matches on, as Envoy's inspector names it.
    pub fn protocol(self) -> Option<&'static str> {
        match self {
            Inspected::More | Inspected::NotHttp => None,
            Inspected::Http10 => Some("http/1.0"),
            Inspected::Http11 => Some("http/1.1"),
            Inspected::H2c => Some("h2c"),
        }
    }
}

/// Looks at the first bytes of a connection.
pub fn inspect(bytes: &[u8]) -> Inspected {
    if bytes.starts_with(PREFACE) {
        return Inspected::H2c;
    }
    if PREFACE.starts_with(bytes) {
        return Inspected::More;
    }
    match memchr::memchr(b'\n', bytes) {
        Some(end) => line(&bytes[..end]),
        None if bytes.len() >= LINE_BYTES_MAX || !plausible(bytes) => Inspected::NotHttp,
        None => Inspected::More,
    }
}

/// Judges a whole request line, without its line feed.
fn line(bytes: &[u8]) -> Inspected {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let mut words = bytes.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Inspected::NotHttp;
    };
    if !METHODS.contains(&method) || target.is_empty() {
        return Inspected::NotHttp;
    }
    match version {
        b"HTTP/1.1" => Inspected::Http11,
        b"HTTP/1.0" => Inspected::Http10,
        _ => Inspected::NotHttp,
    }
}

/// Could these bytes still become a request line?
fn plausible(bytes: &[u8]) -> bool {
    match memchr::memchr(b' ', bytes) {
        Some(end) => METHODS.contains(&&bytes[..end]) && !bytes.contains(&0),
        None => METHODS.iter().any(|m| m.starts_with(bytes)),
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9110 §9.3, RFC 5789, and WebDAV's (RFC 4918, 3253, 3648, 5323), which Envoy's inspector knows as well.
const METHODS: &[&[u8]] = &[
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"ACL", b"BIND", b"CHECKOUT", b"COPY", b"LINK",
    b"LOCK", b"MERGE", b"MKACTIVITY", b"MKCALENDAR", b"MKCOL", b"MOVE", b"NOTIFY", b"PROPFIND", b"PROPPATCH", b"PURGE", b"REBIND", b"REPORT",
    b"SEARCH", b"SOURCE", b"SUBSCRIBE", b"UNBIND", b"UNLINK", b"UNLOCK", b"UNSUBSCRIBE", b"M-SEARCH",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        assert_eq!(inspect(b"GET / HTTP/1.1\r\nHost: a"), Inspected::Http11);
        assert_eq!(inspect(b"POST /x HTTP/1.0\r\n"), Inspected::Http10);
        assert_eq!(inspect(PREFACE), Inspected::H2c);
    }

    #[test]
    fn half_a_request_line_asks_for_more() {
        assert!([&b""[..], b"G", b"GET ", b"GET /a HT", b"PRI * H", b"P"].iter().all(|b| inspect(b) == Inspected::More));
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_odd_byte() {
        for bytes in [&b"\x16\x03"[..], b"SSH-2.0", b"*1\r\n", b"GETX", b"hello", b"GET / SIP/2.0\r\n"] {
            assert_eq!(inspect(bytes), Inspected::NotHttp, "{bytes:?}");
        }
    }
}
