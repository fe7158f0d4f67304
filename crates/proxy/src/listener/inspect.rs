//! Inspection: waiting for the first bytes without consuming them, and without hanging protocols whose server speaks first.
//!
//! - Reads: `listener_filters` of the plan's listener.
//! - Rule: bytes are only looked at (`MSG_PEEK`); whoever serves the connection reads them.
//! - Rule: nobody decides by a timeout. When a client stays silent for [`QUIET`], and its connection would go to a TCP proxy were it
//!   plaintext of unknown kind, the upstream connection is opened early, and whoever speaks first decides: the upstream, then it is a
//!   server-first protocol (MySQL, SMTP) and served as plain TCP; the client, then its bytes are inspected as usual. A destination that
//!   once spoke first is opened without waiting.
//! - Limits: `listener_filters_timeout` ends the wait; bytes looked at are bounded by the inspectors.
//! - Not here: the inspectors (`tls_inspector`, `http_inspector`), choosing the chain (`match`).

use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{http_inspector, tls_inspector};
use lateen_plan::listener::{Listener, ListenerFilter};

/// How long a client may be silent before the upstream is opened early. Long enough for any client that means to speak first on a working
/// network, short beside a human's patience; it delays only the first connection to a server-first destination.
pub const QUIET: Duration = Duration::from_millis(60);

/// Which inspectors a connection needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// TLS: server name and ALPN.
    pub tls: bool,
    /// HTTP: version.
    pub http: bool,
}

impl Wanted {
    /// The inspectors of `listener` that are not switched off for `port`.
    pub fn of(listener: &Listener, port: u16) -> Self {
        let mut wanted = Wanted { tls: false, http: false };
        for filter in &listener.listener_filters {
            match filter {
                ListenerFilter::TlsInspector(disabled) => wanted.tls |= !disabled.skips(port),
                ListenerFilter::HttpInspector(disabled) => wanted.http |= !disabled.skips(port),
                ListenerFilter::OriginalDst | ListenerFilter::ProxyProtocol { .. } => {}
            }
        }
        wanted
    }

    /// Nothing to wait for.
    pub fn nothing(self) -> bool {
        !self.tls && !self.http
    }
}

/// What inspection found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The first bytes were a ClientHello.
    pub is_tls: bool,
    /// Its server name.
    pub server_name: Box<str>,
    /// ALPN offered, or the HTTP version recognised.
    pub application_protocols: Vec<Box<str>>,
}

/// Looks at the first bytes until the wanted inspectors know enough. Waits for as long as the client takes.
///
/// # Errors
/// The socket's error; `UnexpectedEof` when the client left without a byte.
pub async fn inspect(tcp: &TcpStream, wanted: Wanted, buffer: &mut Vec<u8>) -> io::Result<Found> {
    buffer.clear();
    buffer.resize(FIRST_LOOK_BYTES, 0);
    loop {
        let ready = tcp.ready(Interest::READABLE).await?;
        let seen = tcp.peek(buffer).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = buffer.get(..seen).unwrap_or_default();
        if let Some(found) = look(bytes, wanted) {
            return Ok(found);
        }
        if ready.is_read_closed() || seen >= tls_inspector::CLIENT_HELLO_BYTES_MAX {
            return Ok(Found::default());
        }
        if seen == buffer.len() {
            let larger = (buffer.len() * 4).min(tls_inspector::CLIENT_HELLO_BYTES_MAX);
            buffer.resize(larger, 0);
            continue;
        }
        // The bytes stay in the socket, so it would be «readable» at once: forget that, and wait for more to arrive.
        let _ = tcp.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

fn look(bytes: &[u8], wanted: Wanted) -> Option<Found> {
    if wanted.tls {
        match tls_inspector::inspect(bytes) {
            tls_inspector::Inspected::More => return None,
            tls_inspector::Inspected::Tls(hello) => {
                return Some(Found { is_tls: true, server_name: hello.sni.unwrap_or_default(), application_protocols: text(&hello.alpn) });
            }
            tls_inspector::Inspected::NotTls => {}
        }
    }
    if !wanted.http {
        return Some(Found::default());
    }
    match http_inspector::inspect(bytes) {
        http_inspector::Inspected::More => None,
        known => Some(Found { application_protocols: known.protocol().map(Into::into).into_iter().collect(), ..Found::default() }),
    }
}

/// ALPN as text; what is not text matches no chain.
fn text(protocols: &[Box<[u8]>]) -> Vec<Box<str>> {
    protocols.iter().filter_map(|p| std::str::from_utf8(p).ok()).map(Into::into).collect()
}

/// First look: a request head or a usual ClientHello.
const FIRST_LOOK_BYTES: usize = 2048;
