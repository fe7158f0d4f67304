//! What a decision may look at: the request's head and the facts of its connection.
//!
//! - Rule: everything is borrowed; looking costs no allocation unless a header comes more than once.
//! - Not here: reading the head (`http1`), the connection (`proxy`).

use std::net::SocketAddr;

/// A request's head, as decisions see it. Implemented by the proxy over its own buffers.
pub trait RequestView {
    /// The method.
    fn method(&self) -> &[u8];
    /// Path and query as they are now (after normalisation), starting with `/`.
    fn path(&self) -> &[u8];
    /// Host and optional port.
    fn authority(&self) -> &[u8];
    /// `http` or `https`.
    fn scheme(&self) -> &[u8];
    /// All values of the header `name` (lower case), in order. Pseudo-headers are not asked for here.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a;

    /// The first value of `name`, pseudo-headers included.
    fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        match name {
            ":path" => Some(self.path()),
            ":method" => Some(self.method()),
            ":authority" | "host" => Some(self.authority()),
            ":scheme" => Some(self.scheme()),
            _ => self.values(name).next(),
        }
    }

    /// Calls `look` with the value of `name`; several values are joined by commas, as Envoy's matchers see them.
    fn with_header<T>(&self, name: &str, look: impl FnOnce(Option<&[u8]>) -> T) -> T {
        if name.starts_with(':') || name == "host" {
            return look(self.first(name));
        }
        let mut values = self.values(name);
        let Some(first) = values.next() else { return look(None) };
        let Some(second) = values.next() else { return look(Some(first)) };
        let mut joined = first.to_vec();
        for value in std::iter::once(second).chain(values) {
            joined.push(b',');
            joined.extend_from_slice(value);
        }
        look(Some(&joined))
    }
}

/// A request given as plain values: for `explain`, tests and tools.
#[derive(Clone, Debug, Default)]
pub struct PlainRequest {
    /// See [`RequestView::method`].
    pub method: Vec<u8>,
    /// See [`RequestView::path`].
    pub path: Vec<u8>,
    /// See [`RequestView::authority`].
    pub authority: Vec<u8>,
    /// See [`RequestView::scheme`].
    pub scheme: Vec<u8>,
    /// Names (lower case) and values.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl PlainRequest {
    /// A GET of `path` from `authority`.
    #[must_use]
    pub fn get(authority: &str, path: &str) -> Self {
        Self { method: b"GET".into(), path: path.into(), authority: authority.into(), scheme: b"http".into(), headers: Vec::new() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }
}

impl RequestView for PlainRequest {
    fn method(&self) -> &[u8] {
        &self.method
    }
    fn path(&self) -> &[u8] {
        &self.path
    }
    fn authority(&self) -> &[u8] {
        &self.authority
    }
    fn scheme(&self) -> &[u8] {
        &self.scheme
    }
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_slice())
    }
}

/// The facts of a downstream connection that authorization and hashing look at.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The peer of the socket (or of the PROXY header).
    pub direct_remote: SocketAddr,
    /// The client as far as trusted hops tell (X-Forwarded-For); else the same.
    pub remote: SocketAddr,
    /// The destination the client dialled.
    pub local: SocketAddr,
    /// Server name of the TLS handshake; empty: none.
    pub server_name: &'a str,
    /// The peer's verified certificate. `None`: plaintext, or no certificate.
    pub peer: Option<PeerCertificate<'a>>,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// What authorization reads off a verified certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerCertificate<'a> {
    /// URI names, the SPIFFE identity among them.
    pub uri_sans: &'a [String],
    /// DNS names.
    pub dns_sans: &'a [String],
    /// Subject in RFC 2253 form.
    pub subject: &'a str,
}

/// The path without query and fragment.
#[must_use]
pub fn path_only(path: &[u8]) -> &[u8] {
    path.iter().position(|b| matches!(b, b'?' | b'#')).and_then(|at| path.get(..at)).unwrap_or(path)
}

/// What follows the first `?`, without a fragment; empty: no query.
#[must_use]
pub fn query_only(path: &[u8]) -> &[u8] {
    let after = path.iter().position(|b| *b == b'?').and_then(|at| path.get(at + 1..)).unwrap_or_default();
    after.iter().position(|b| *b == b'#').and_then(|at| after.get(..at)).unwrap_or(after)
}
