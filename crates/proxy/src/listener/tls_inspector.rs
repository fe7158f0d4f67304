//! TLS inspector: server name and application protocols out of a ClientHello, without consuming it.
//!
//! - Reads: the first bytes of a connection (`extensions.filters.listener.tls_inspector.v3.TlsInspector`); RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301 §3.1.
//! - Rule: pure and total; any bytes give an answer, and «more» only while a ClientHello is still possible.
//! - Limits: [`CLIENT_HELLO_BYTES_MAX`], the most Envoy looks at as well.
//! - Not here: the handshake (`transport/tls.rs`), waiting for bytes (`listener/inspect.rs`).

/// A ClientHello larger than this is not inspected further and counts as «not TLS».
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

/// What the first bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspected {
    /// Too few bytes to tell.
    More,
    /// Not TLS.
    NotTls,
    /// A whole ClientHello.
    Tls(ClientHello),
}

/// The parts of a ClientHello that choose a filter chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// `server_name`, lower case; `None` when absent or not text.
    pub sni: Option<Box<str>>,
    /// `application_layer_protocol_negotiation`, in the client's order.
    pub alpn: Vec<Box<[u8]>>,
}

/// Looks at the first bytes of a connection.
pub fn inspect(bytes: &[u8]) -> Inspected {
    match handshake(bytes) {
        Ok(hello) => Inspected::Tls(hello),
        Err(Stop::More) if bytes.len() < CLIENT_HELLO_BYTES_MAX => Inspected::More,
        Err(Stop::More | Stop::NotTls) => Inspected::NotTls,
    }
}

enum Stop {
    More,
    NotTls,
}

/// Joins the records that carry the ClientHello, then reads it.
fn handshake(bytes: &[u8]) -> Result<ClientHello, Stop> {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let &[kind, major, minor, high, low, ref after @ ..] = rest else {
            return plausible_start(rest);
        };
        if kind != HANDSHAKE_RECORD || major != 3 || minor > 4 {
            return Err(Stop::NotTls);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(Stop::NotTls);
        }
        let available = after.len().min(length);
        message.extend_from_slice(&after[..available]);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Stop::NotTls);
        }
        if let Some(body) = whole_message(&message) {
            return client_hello(body).ok_or(Stop::NotTls);
        }
        if available < length {
            return Err(Stop::More);
        }
        rest = &after[length..];
    }
}

/// Fewer than five bytes: still possible only while they agree with a record header.
fn plausible_start(bytes: &[u8]) -> Result<ClientHello, Stop> {
    let plausible = match bytes {
        [] => true,
        [kind] => *kind == HANDSHAKE_RECORD,
        [kind, major, ..] => *kind == HANDSHAKE_RECORD && *major == 3,
    };
    Err(if plausible { Stop::More } else { Stop::NotTls })
}

fn whole_message(message: &[u8]) -> Option<&[u8]> {
    let &[_, a, b, c, ref body @ ..] = message else { return None };
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    body.get(..length)
}

fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut r = Reader(body);
    r.take(2 + 32)?; // legacy_version, random
    r.vector8()?; // legacy_session_id
    r.vector16()?; // cipher_suites
    r.vector8()?; // legacy_compression_methods
    let mut hello = ClientHello::default();
    if r.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(r.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        match kind {
            SERVER_NAME => hello.sni = server_name(data),
            ALPN => hello.alpn = protocols(data)?,
            _ => {}
        }
    }
    Some(hello)
}

fn server_name(data: &[u8]) -> Option<Box<str>> {
    let mut list = Reader(Reader(data).vector16()?);
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let name = list.vector16()?;
        if kind == 0 && name.is_ascii() && !name.is_empty() {
            return std::str::from_utf8(name).ok().map(|n| n.to_ascii_lowercase().into());
        }
    }
    None
}

fn protocols(data: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let mut list = Reader(Reader(data).vector16()?);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        found.push(list.vector8()?.into());
    }
    Some(found)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1).and_then(|b| b.first().copied())
    }
    fn u16(&mut self) -> Option<u16> {
        self.take(2).and_then(|b| <[u8; 2]>::try_from(b).ok()).map(u16::from_be_bytes)
    }
    fn vector8(&mut self) -> Option<&'a [u8]> {
        let n = self.u8()?;
        self.take(n.into())
    }
    fn vector16(&mut self) -> Option<&'a [u8]> {
        let n = self.u16()?;
        self.take(n.into())
    }
}

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
/// RFC 8446 §5.1: 2^14 bytes of plaintext in one record.
const RECORD_BYTES_MAX: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello as rustls writes it.
    fn hello(name: &str, alpn: &[&str]) -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        let mut client = rustls::ClientConnection::new(config.into(), name.to_string().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn name_and_protocols_are_found_in_a_real_hello() {
        let Inspected::Tls(found) = inspect(&hello("Reviews.default", &["istio", "h2"])) else { panic!("not TLS") };
        assert_eq!(found.sni.as_deref(), Some("reviews.default"));
        assert_eq!(found.alpn, vec![Box::from(&b"istio"[..]), Box::from(&b"h2"[..])]);
    }

    #[test]
    fn every_prefix_of_a_hello_asks_for_more() {
        let bytes = hello("a.b", &["h2"]);
        assert!((0..bytes.len()).all(|n| inspect(&bytes[..n]) == Inspected::More));
    }

    #[test]
    fn plain_http_is_not_tls_from_the_first_byte() {
        assert_eq!(inspect(b"G"), Inspected::NotTls);
    }

    #[test]
    fn a_hello_split_over_two_records_is_joined() {
        let bytes = hello("a.b", &[]);
        let body = &bytes[5..];
        let (one, two) = body.split_at(20);
        let mut split = Vec::new();
        for part in [one, two] {
            split.extend([22, 3, 1]);
            split.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            split.extend(part);
        }
        assert!(matches!(inspect(&split), Inspected::Tls(h) if h.sni.as_deref() == Some("a.b")));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = fastrand::Rng::with_seed(7);
        let whole = hello("a.b", &["x"]);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..rng.usize(1..8) {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            bytes.truncate(rng.usize(..=bytes.len()));
            let _ = inspect(&bytes);
        }
    }
}
