//! HTTP/2 heads to and from our own, over the `h2` library.
//!
//! - Reads: RFC 9113 §8.2, §8.3, §8.5; RFC 8441 (extended CONNECT) for WebSocket.
//! - Rule: what HTTP/1 could misread (two lengths, `host` beside another `:authority`, odd authorities) is refused here, whatever the next hop speaks.
//! - Limits: decoded header lists are bounded by the connection's `max_header_list_size`.
//! - Not here: frames, flow control and floods (`h2`), connections (`http/downstream_h2.rs`, `http/upstream.rs`).

use http::header::{HeaderMap, HeaderName, HeaderValue};
use lateen_http1::{Framing, Headers, Known, RequestHead, ResponseHead, valid_authority};

/// Why a head cannot be taken over from HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Fills `head` from an HTTP/2 request. `ended`: the stream has no body.
pub(crate) fn read_request(parts: &http::request::Parts, ended: bool, limit: usize, head: &mut RequestHead) -> Result<(), Malformed> {
    head.clear();
    head.set_method(parts.method.as_str().as_bytes());
    let connect = parts.method == http::Method::CONNECT;
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    head.set_path(parts.uri.path_and_query().map_or(&b""[..], |path| path.as_str().as_bytes()));
    if !connect && head.path().first() != Some(&b'/') && head.path() != b"*" {
        return Err(Malformed("http2.invalid_path"));
    }
    read_fields(&parts.headers, limit, &mut head.headers)?;
    let host = head.headers.known(Known::Host).map(<[u8]>::to_vec);
    let authority = match (parts.uri.authority(), host) {
        (Some(authority), Some(host)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(&host) => {
            return Err(Malformed("http2.authority_and_host_differ"));
        }
        (Some(authority), _) => authority.as_str().as_bytes().to_vec(),
        (None, Some(host)) => host,
        (None, None) => return Err(Malformed("missing_host_header")),
    };
    if !valid_authority(&authority) {
        return Err(Malformed("http2.invalid_authority"));
    }
    head.set_authority(&authority);
    head.headers.remove_known(Known::Host);
    head.https_target = parts.uri.scheme() == Some(&http::uri::Scheme::HTTPS);
    head.keep_alive = true;
    head.framing = framing(&head.headers, ended)?;
    join_cookies(&mut head.headers);
    if let (true, Some(protocol)) = (connect, protocol) {
        // RFC 8441: becomes an ordinary HTTP/1 upgrade towards the router.
        head.set_method(b"GET");
        head.upgrade = true;
        head.headers.set(b"upgrade", protocol.as_str().as_bytes());
        head.framing = Framing::None;
    }
    Ok(())
}

/// Fills `head` from an HTTP/2 answer to a request of `method`.
pub(crate) fn read_response(parts: &http::response::Parts, method: &[u8], ended: bool, head: &mut ResponseHead) -> Result<(), Malformed> {
    head.clear();
    head.status = parts.status.as_u16();
    read_fields(&parts.headers, usize::MAX, &mut head.headers)?;
    let bodiless = ended || method == b"HEAD" || matches!(head.status, 204 | 304);
    head.framing = framing(&head.headers, bodiless)?;
    head.keep_alive = true;
    Ok(())
}

fn read_fields(map: &HeaderMap, limit: usize, headers: &mut Headers) -> Result<(), Malformed> {
    if map.len() > limit {
        return Err(Malformed("http2.too_many_headers"));
    }
    for (name, value) in map {
        headers.append(name.as_str().as_bytes(), value.as_bytes());
    }
    Ok(())
}

/// RFC 9113 §8.2.3: crumbs become one field again before anyone matches on it.
fn join_cookies(headers: &mut Headers) {
    if headers.get_all(b"cookie").nth(1).is_some() {
        let whole = headers.get_all(b"cookie").collect::<Vec<_>>().join(&b"; "[..]);
        headers.set(b"cookie", &whole);
    }
}

fn framing(headers: &Headers, ended: bool) -> Result<Framing, Malformed> {
    let mut lengths = headers.get_all(b"content-length");
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Malformed("http2.repeated_content_length"));
    }
    let length = match length {
        Some(text) => {
            let text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            Some(text.and_then(|text| text.parse().ok()).ok_or(Malformed("http2.invalid_content_length"))?)
        }
        None => None,
    };
    Ok(match (ended, length) {
        (true, _) | (false, Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Chunked,
    })
}

/// The HTTP/2 form of a request. `None` when a part has no HTTP/2 form (the caller answers 400).
pub(crate) fn write_request(head: &RequestHead, https: bool) -> Option<http::Request<()>> {
    let mut uri = http::uri::Builder::new().scheme(if https { "https" } else { "http" }).authority(head.authority());
    let connect = head.method() == b"CONNECT";
    if !connect {
        uri = uri.path_and_query(head.path());
    }
    let uri = if connect { http::Uri::builder().authority(head.authority()).build().ok()? } else { uri.build().ok()? };
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::from_bytes(head.method()).ok()?;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    write_fields(&head.headers, request.headers_mut(), Keep::LengthIfBody(head.framing));
    if head.headers.get_all(b"te").any(|te| te.trim_ascii().eq_ignore_ascii_case(b"trailers")) {
        request.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    if head.upgrade {
        let protocol = std::str::from_utf8(head.headers.known(Known::Upgrade)?).ok()?;
        *request.method_mut() = http::Method::CONNECT;
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    }
    Some(request)
}

/// The HTTP/2 form of an answer.
pub(crate) fn write_response(status: u16, headers: &Headers) -> http::Response<()> {
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    *response.version_mut() = http::Version::HTTP_2;
    write_fields(headers, response.headers_mut(), Keep::Length);
    response
}

/// Trailer fields for HTTP/2.
pub(crate) fn write_trailers(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    write_fields(headers, &mut map, Keep::NoLength);
    map
}

/// Trailer fields from HTTP/2.
pub(crate) fn read_trailers(map: &HeaderMap) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in map {
        headers.append(name.as_str().as_bytes(), value.as_bytes());
    }
    headers
}

/// What happens to `content-length`.
#[derive(Clone, Copy)]
enum Keep {
    Length,
    LengthIfBody(Framing),
    NoLength,
}

fn write_fields(headers: &Headers, map: &mut HeaderMap, keep: Keep) {
    for (name, value, known) in headers.iter_known() {
        let keep = match known {
            Known::ContentLength => match keep {
                Keep::Length => true,
                Keep::LengthIfBody(framing) => framing != Framing::Chunked,
                Keep::NoLength => false,
            },
            Known::Host => false,
            _ => !known.is_hop_by_hop(),
        };
        if let (true, Ok(name), Ok(value)) = (keep, HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> http::request::Parts {
        let builder = http::Request::builder().method("POST").uri("http://a:80/x?y").version(http::Version::HTTP_2);
        build(builder).body(()).expect("valid").into_parts().0
    }

    fn read(parts: &http::request::Parts) -> Result<RequestHead, Malformed> {
        let mut head = RequestHead::default();
        read_request(parts, false, 100, &mut head).map(|()| head)
    }

    #[test]
    fn a_head_survives_both_ways() {
        let head = read(&parts(|b| b.header("x-a", "1").header("te", "trailers").header("content-length", "3"))).expect("valid");
        assert_eq!((head.method(), head.path(), head.authority()), (&b"POST"[..], &b"/x?y"[..], &b"a:80"[..]));
        assert_eq!(head.framing, Framing::Length(3));
        let back = write_request(&head, true).expect("valid");
        assert_eq!(back.uri().to_string(), "https://a:80/x?y");
        assert_eq!(back.headers().get("te").map(HeaderValue::as_bytes), Some(&b"trailers"[..]));
        assert_eq!(back.headers().get("x-a").map(HeaderValue::as_bytes), Some(&b"1"[..]));
    }

    #[test]
    fn what_http1_would_misread_is_refused() {
        assert!(read(&parts(|b| b.header("host", "other"))).is_err());
        assert!(read(&parts(|b| b.header("content-length", "1").header("content-length", "1"))).is_err());
        assert!(read(&parts(|b| b.header("content-length", "+1"))).is_err());
        assert!(read(&parts(|b| b.uri("http://u@a/"))).is_err());
        assert!(read(&parts(|b| b.uri("/no-authority"))).is_err());
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let head = read(&parts(|b| b.header("cookie", "a=1").header("cookie", "b=2"))).expect("valid");
        assert_eq!(head.headers.get_all(b"cookie").collect::<Vec<_>>(), [b"a=1; b=2"]);
    }

    #[test]
    fn connection_fields_never_reach_http2() {
        let mut headers = Headers::default();
        for (name, value) in [("connection", "close"), ("keep-alive", "1"), ("transfer-encoding", "chunked"), ("upgrade", "x"), ("te", "gzip"), ("x", "y")] {
            headers.append(name.as_bytes(), value.as_bytes());
        }
        let response = write_response(200, &headers);
        assert_eq!(response.headers().len(), 1);
    }
}
