//! One request as filters, routing and logs see it, whatever HTTP version it came by.
//!
//! - Rule: one value of each fact; filters change it in place, and what they leave is what is matched, logged and forwarded.
//! - Not here: its body (`http/body.rs`), what becomes of it (`http/info.rs`).

use lateen_http1::{Known, RequestHead};
use lateen_plan::request::RequestView;

/// HTTP version of one side of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// As access logs print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// A request's head and the few facts that are not in it.
#[derive(Debug, Default, Clone)]
pub struct Request {
    /// Method, path, host and fields.
    pub head: RequestHead,
    /// Version it came by.
    pub protocol: Protocol,
    /// The scheme is `https`.
    pub https: bool,
}

impl Request {
    /// `application/grpc`, with or without a message format.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        is_grpc(self.head.headers.known(Known::ContentType))
    }
}

/// Whether a content type is gRPC's (not gRPC-Web's).
#[must_use]
pub fn is_grpc(content_type: Option<&[u8]>) -> bool {
    match content_type.and_then(|value| value.strip_prefix(b"application/grpc")) {
        Some(rest) => rest.is_empty() || rest.first() == Some(&b'+') || rest.first() == Some(&b';'),
        None => false,
    }
}

impl RequestView for Request {
    fn method(&self) -> &[u8] {
        self.head.method()
    }

    fn path(&self) -> &[u8] {
        self.head.path()
    }

    fn authority(&self) -> &[u8] {
        self.head.authority()
    }

    fn scheme(&self) -> &[u8] {
        if self.https { b"https" } else { b"http" }
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.head.headers.get_all(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_from_grpc_web() {
        assert!(is_grpc(Some(b"application/grpc")));
        assert!(is_grpc(Some(b"application/grpc+proto")));
        assert!(!is_grpc(Some(b"application/grpc-web")));
        assert!(!is_grpc(None));
    }
}
