//! Request heads: tokenised by `httparse`, then checked where two parsers could disagree.
//!
//! - Reads: RFC 9112 §2–§6; the list of required answers in `hostile-input` (smuggling, lines, request line, host).
//! - Rule: `Host` is taken out of the fields into [`RequestHead::authority`]; an absolute-form target wins over it.
//! - Limits: [`Limits`]; up to 128 fields are parsed without allocation.
//! - Not here: path normalisation, HTTP/1.0 policy (both are the proxy's).

use crate::connection::{self, Options};
use crate::{Framing, Headers, Known, Limits, ParseError, Span, Version, valid_authority};
use std::mem::MaybeUninit;

/// Form of the request target, RFC 9112 §3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path`
    Absolute,
    /// `host:port`, `CONNECT` only.
    Authority,
    /// `*`, `OPTIONS` only.
    Asterisk,
}

/// A checked request head. Reusable: parsing into it again keeps its memory.
#[derive(Debug, Default, Clone)]
pub struct RequestHead {
    /// Fields, without `Host`. Hop-by-hop fields are present and skipped by [`crate::write_fields`].
    pub headers: Headers,
    /// Version of the start line.
    pub version: Version,
    /// Form of the target.
    pub form: TargetForm,
    /// Length of the body.
    pub framing: Framing,
    /// Whether the client wants the connection to carry another request.
    pub keep_alive: bool,
    /// `Connection: upgrade` together with an `Upgrade` field.
    pub upgrade: bool,
    /// `Expect: 100-continue`.
    pub expect_continue: bool,
    /// The target was absolute with scheme `https`.
    pub https_target: bool,
    method: Span,
    path: Span,
    authority: Span,
}

impl RequestHead {
    /// Method, case as received.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.headers.bytes(self.method)
    }

    /// Path and query in origin form; `*` or empty for the other forms.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.headers.bytes(self.path)
    }

    /// `Host`, or the authority of an absolute or authority-form target. Empty only for HTTP/1.0 without `Host`.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        self.headers.bytes(self.authority)
    }

    /// Replaces the path and query.
    pub fn set_path(&mut self, path: &[u8]) {
        self.path = self.headers.keep(path);
    }

    /// Replaces the authority.
    pub fn set_authority(&mut self, authority: &[u8]) {
        self.authority = self.headers.keep(authority);
    }

    /// Replaces the method.
    pub fn set_method(&mut self, method: &[u8]) {
        self.method = self.headers.keep(method);
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = Self { headers, ..Self::default() };
    }
}

/// Fields parsed on the stack; a larger configured limit allocates per head.
const STACK_FIELDS: usize = 128;

/// Parses a request head at the start of `buf` into `head`. `Ok(Some(n))`: complete, `n` bytes long. `Ok(None)`: read more.
///
/// # Errors
/// See [`ParseError`]; the connection cannot be used afterwards.
pub fn parse_request(buf: &[u8], limits: Limits, head: &mut RequestHead) -> Result<Option<usize>, ParseError> {
    if limits.headers_max <= STACK_FIELDS {
        let mut fields = [const { MaybeUninit::uninit() }; STACK_FIELDS];
        let fields = fields.get_mut(..limits.headers_max).unwrap_or_default();
        parse_with(buf, limits, head, fields)
    } else {
        let mut fields = vec![MaybeUninit::uninit(); limits.headers_max];
        parse_with(buf, limits, head, &mut fields)
    }
}

fn parse_with<'b>(
    buf: &'b [u8],
    limits: Limits,
    head: &mut RequestHead,
    fields: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Option<usize>, ParseError> {
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(buf, fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buf.len() >= limits.head_bytes => return Err(ParseError::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(parse_error(error, buf)),
    };
    if length > limits.head_bytes {
        return Err(ParseError::HeadTooLarge);
    }
    let bytes = buf.get(..length).unwrap_or_default();
    check_line_ends(bytes)?;
    head.clear();
    head.headers.keep(bytes);
    head.version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
    head.method = span_in(bytes, request.method.unwrap_or_default().as_bytes());
    let target = request.path.unwrap_or_default().as_bytes();
    head.path = span_in(bytes, target);
    for field in request.headers.iter() {
        head.headers.push_spans(span_in(bytes, field.name.as_bytes()), span_in(bytes, field.value));
    }
    read_target(head, bytes, target)?;
    read_host(head)?;
    head.framing = request_framing(&head.headers, head.version)?;
    read_connection(head);
    Ok(Some(length))
}

/// Where `part` lies in `whole`; `part` was cut out of `whole` by the tokeniser.
pub(crate) fn span_in(whole: &[u8], part: &[u8]) -> Span {
    Span::new((part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize), part.len())
}

/// Every LF is preceded by CR. (The tokeniser already refuses CR without LF.)
pub(crate) fn check_line_ends(head: &[u8]) -> Result<(), ParseError> {
    for at in memchr::memchr_iter(b'\n', head) {
        if at == 0 || head.get(at - 1) != Some(&b'\r') {
            return Err(ParseError::LineEnd);
        }
    }
    Ok(())
}

pub(crate) fn parse_error(error: httparse::Error, buf: &[u8]) -> ParseError {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => ParseError::Field,
        httparse::Error::NewLine => ParseError::LineEnd,
        httparse::Error::TooManyHeaders => ParseError::TooManyHeaders,
        httparse::Error::Version if looks_like_version(buf) => ParseError::Version,
        httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => ParseError::StartLine,
    }
}

/// `METHOD target HTTP/d.d`: a real but unsupported version, as opposed to noise.
fn looks_like_version(buf: &[u8]) -> bool {
    let line = buf.split(|&byte| byte == b'\r' || byte == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
    let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn read_target(head: &mut RequestHead, bytes: &[u8], target: &[u8]) -> Result<(), ParseError> {
    if target.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return Err(ParseError::Target);
    }
    if head.method() == b"CONNECT" {
        head.form = TargetForm::Authority;
        head.authority = head.path;
        head.path = Span::default();
        let has_port = target.iter().rposition(|&byte| byte == b':').is_some_and(|colon| target.last() != Some(&b']') && colon > 0);
        return if has_port && valid_authority(target) { Ok(()) } else { Err(ParseError::Target) };
    }
    if target.first() == Some(&b'/') {
        return Ok(());
    }
    if target == b"*" && head.method() == b"OPTIONS" {
        head.form = TargetForm::Asterisk;
        return Ok(());
    }
    let scheme_end = memchr::memchr(b':', target).ok_or(ParseError::Target)?;
    let (scheme, rest) = target.split_at(scheme_end);
    head.https_target = scheme.eq_ignore_ascii_case(b"https");
    let rest = rest.strip_prefix(b"://").ok_or(ParseError::Target)?;
    if !head.https_target && !scheme.eq_ignore_ascii_case(b"http") {
        return Err(ParseError::Target);
    }
    let end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !valid_authority(authority) {
        return Err(ParseError::HostInvalid);
    }
    head.form = TargetForm::Absolute;
    head.authority = span_in(bytes, authority);
    if path.first() == Some(&b'/') {
        head.path = span_in(bytes, path);
    } else {
        let whole = [&b"/"[..], path].concat();
        head.path = head.headers.keep(&whole);
    }
    Ok(())
}

fn read_host(head: &mut RequestHead) -> Result<(), ParseError> {
    let (host, others) = head.headers.known_span(Known::Host);
    if others > 0 {
        return Err(ParseError::HostRepeated);
    }
    let Some(host) = host else {
        return if head.version == Version::Http11 { Err(ParseError::HostMissing) } else { Ok(()) };
    };
    match head.headers.bytes(host) {
        b"" => return Err(ParseError::HostMissing),
        value if !valid_authority(value) => return Err(ParseError::HostInvalid),
        _ => {}
    }
    if matches!(head.form, TargetForm::Origin | TargetForm::Asterisk) {
        head.authority = host;
    }
    head.headers.remove_known(Known::Host);
    Ok(())
}

/// Body framing of a request, RFC 9112 §6.3 read strictly.
fn request_framing(headers: &Headers, version: Version) -> Result<Framing, ParseError> {
    let chunked = is_chunked(headers, version)?;
    match (chunked, content_length(headers)?) {
        (true, Some(_)) => Err(ParseError::LengthAndEncoding),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(0) | None) => Ok(Framing::None),
        (false, Some(length)) => Ok(Framing::Length(length)),
    }
}

/// True for exactly one `Transfer-Encoding: chunked` in HTTP/1.1; look-alike names are refused because other parsers accept them.
pub(crate) fn is_chunked(headers: &Headers, version: Version) -> Result<bool, ParseError> {
    for (name, _, known) in headers.iter_known() {
        if known == Known::Other && (name == b"transfer_encoding" || name == b"content_length") {
            return Err(ParseError::TransferEncoding);
        }
    }
    let mut values = headers.get_all(b"transfer-encoding");
    let Some(value) = values.next() else { return Ok(false) };
    if values.next().is_some() || !value.eq_ignore_ascii_case(b"chunked") || version == Version::Http10 {
        return Err(ParseError::TransferEncoding);
    }
    Ok(true)
}

/// The one decimal `Content-Length`, if any; identical repeats count as one.
pub(crate) fn content_length(headers: &Headers) -> Result<Option<u64>, ParseError> {
    let mut length = None;
    for value in headers.get_all(b"content-length") {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(ParseError::ContentLength);
        }
        let number = value.iter().try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        let number = number.ok_or(ParseError::ContentLength)?;
        if length.is_some_and(|length| length != number) {
            return Err(ParseError::ContentLength);
        }
        length = Some(number);
    }
    Ok(length)
}

fn read_connection(head: &mut RequestHead) {
    let options = if head.headers.known(Known::Connection).is_some() || head.headers.known(Known::ProxyConnection).is_some() {
        connection::drop_nominated(&mut head.headers);
        Options::of(&head.headers)
    } else {
        Options::default()
    };
    head.keep_alive = options.persists(head.version);
    head.upgrade = options.upgrade && head.headers.known(Known::Upgrade).is_some() && head.version == Version::Http11;
    head.expect_continue =
        head.version == Version::Http11 && head.headers.known(Known::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &str) -> Result<Option<RequestHead>, ParseError> {
        parse_bytes(input.as_bytes())
    }

    fn parse_bytes(input: &[u8]) -> Result<Option<RequestHead>, ParseError> {
        let mut head = RequestHead::default();
        parse_request(input, Limits::default(), &mut head).map(|length| length.map(|_| head))
    }

    fn whole(input: &str) -> RequestHead {
        parse(input).expect("valid").expect("complete")
    }

    #[test]
    fn a_simple_head_is_read() {
        let head = whole("POST /a?b=c HTTP/1.1\r\nHost: Backend:80\r\nContent-Length: 5\r\nX-A:  v \r\n\r\nhello");
        assert_eq!((head.method(), head.path(), head.authority()), (&b"POST"[..], &b"/a?b=c"[..], &b"Backend:80"[..]));
        assert_eq!((head.framing, head.keep_alive), (Framing::Length(5), true));
        assert_eq!(head.headers.get(b"x-a"), Some(&b"v"[..]));
        assert_eq!(head.headers.known(Known::Host), None);
    }

    #[test]
    fn every_prefix_is_partial() {
        let input = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        for end in 0..input.len() {
            assert!(matches!(parse_bytes(&input[..end]), Ok(None)), "{end}");
        }
        assert!(!parse_bytes(input).expect("valid").expect("complete").keep_alive);
    }

    #[test]
    fn smuggling_by_length_and_encoding_is_refused() {
        let head = |fields: &str| parse(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).map(|_| ());
        assert_eq!(head("Content-Length: 4\r\nTransfer-Encoding: chunked"), Err(ParseError::LengthAndEncoding));
        assert_eq!(head("Transfer-Encoding: chunked\r\nContent-Length: 4"), Err(ParseError::LengthAndEncoding));
        for te in [
            "xchunked", "chunked, chunked", "chunked,", ",chunked", "gzip, chunked", "\"chunked\"", "chunked;q=1", "identity", "chun ked", "", "'chunked'",
            "chunked\x0b",
        ] {
            assert!(head(&format!("Transfer-Encoding: {te}")).is_err(), "{te:?}");
        }
        assert_eq!(head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Err(ParseError::TransferEncoding));
        assert_eq!(head("Transfer-Encoding : chunked"), Err(ParseError::Field));
        assert_eq!(head("Transfer-Encoding:\r\n chunked"), Err(ParseError::Field));
        assert_eq!(head("transfer_encoding: chunked"), Err(ParseError::TransferEncoding));
        assert!(head("Transfer-Encoding: \tchunked ").is_ok());
        assert!(parse("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn odd_lengths_are_refused() {
        for length in ["+5", "-5", "0x5", "5,6", "5, 5", "5 5", "5a", "1e1", "18446744073709551616", "", "5.0", "٥"] {
            let input = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(parse(&input).map(|_| ()), Err(ParseError::ContentLength), "{length:?}");
        }
        assert!(parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n").is_err());
        assert_eq!(whole("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n").framing, Framing::Length(5));
    }

    #[test]
    fn broken_lines_are_refused() {
        for fields in [
            "X: a\rb", "X: a\0b", "X : a", " X: a", "X: a\r\n b", "no colon", ": a", "X: a\x7f", "X: a\x01", "X\x0b: a", "X(): a", "X{: a", "X\t: a",
        ] {
            assert!(parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).is_err(), "{fields:?}");
        }
        assert_eq!(parse("GET / HTTP/1.1\nHost: a\n\n").map(|_| ()), Err(ParseError::LineEnd));
        assert_eq!(parse("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n").map(|_| ()), Err(ParseError::LineEnd));
        assert_eq!(parse_bytes(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n").expect("obs-text").expect("complete").headers.get(b"x"), Some(&b"\xe9"[..]));
    }

    #[test]
    fn broken_request_lines_are_refused() {
        for line in [
            "GET\t/ HTTP/1.1", "GET /\tHTTP/1.1", "GET /", "GET / HTTP/1.10", "GET / http/1.1", "GET / a HTTP/1.1", "G(T / HTTP/1.1", "GET a HTTP/1.1",
            "GET  / HTTP/1.1", "GET / HTTP/1.1 ", "GET * HTTP/1.1", "GET ftp://a/ HTTP/1.1", "GET http:///x HTTP/1.1", "GET http://u@a/ HTTP/1.1", "GET /\x01 HTTP/1.1",
        ] {
            assert!(parse(&format!("{line}\r\nHost: a\r\n\r\n")).is_err(), "{line:?}");
        }
        for version in ["0.9", "1.2", "2.0", "3.0"] {
            let error = parse(&format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n")).map(|_| ()).expect_err("unsupported");
            assert_eq!(error.status(), 505, "{version}");
        }
    }

    #[test]
    fn hosts_are_checked() {
        assert_eq!(parse("GET / HTTP/1.1\r\n\r\n").map(|_| ()), Err(ParseError::HostMissing));
        assert_eq!(parse("GET / HTTP/1.1\r\nHost:\r\n\r\n").map(|_| ()), Err(ParseError::HostMissing));
        assert_eq!(parse("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").map(|_| ()), Err(ParseError::HostRepeated));
        assert_eq!(parse("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n").map(|_| ()), Err(ParseError::HostInvalid));
        assert_eq!(whole("GET / HTTP/1.0\r\n\r\n").authority(), b"");
    }

    #[test]
    fn the_authority_of_an_absolute_target_wins() {
        let head = whole("GET http://other:81?x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((head.authority(), head.path(), head.form), (&b"other:81"[..], &b"/?x"[..], TargetForm::Absolute));
    }

    #[test]
    fn connect_and_asterisk_have_their_own_forms() {
        assert_eq!(whole("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").form, TargetForm::Authority);
        assert!(parse("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n").is_err());
        assert!(parse("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n").is_err());
        assert_eq!(whole("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").form, TargetForm::Asterisk);
    }

    #[test]
    fn nominated_fields_go_but_identity_stays() {
        let head = whole("GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, Authorization, close\r\nX-Hop: 1\r\nAuthorization: b\r\n\r\n");
        assert_eq!(head.headers.get(b"x-hop"), None);
        assert!(head.headers.known(Known::Authorization).is_some());
        assert!(!head.keep_alive);
    }

    #[test]
    fn upgrade_needs_both_fields() {
        assert!(whole("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").upgrade);
        assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").upgrade);
        assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n").upgrade);
    }

    #[test]
    fn limits_hold() {
        let limits = Limits { head_bytes: 64, headers_max: 2 };
        let mut head = RequestHead::default();
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(70));
        assert_eq!(parse_request(long.as_bytes(), limits, &mut head), Err(ParseError::HeadTooLarge));
        assert_eq!(parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nb: c\r\nd: e\r\n\r\n", limits, &mut head), Err(ParseError::TooManyHeaders));
        assert_eq!(parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nb: c\r\n\r\n", limits, &mut head), Ok(Some(33)));
        let many = Limits { headers_max: 1000, ..Limits::default() };
        assert_eq!(parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", many, &mut head), Ok(Some(27)));
    }
}
