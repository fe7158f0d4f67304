//! Opening one connection, with curl's exit codes for what can go wrong.
//!
//! - Reads: `--resolve`, `--connect-to`, `-4`/`-6`, `--connect-timeout`, `-k`, `--cacert`, `--cert`, `--unix-socket`.
//! - Rule: 6 means the name did not resolve, 7 no address took the connection, 35 the TLS handshake broke, 60 the certificate is not trusted.
//! - Limits: addresses are tried one after the other.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::{
    Failure,
    options::{Family, Options, Version},
    transfer::Report,
};
use crate::tls;

/// A byte stream that remembers how it ended, for the choice between exit codes 52 and 56.
pub(crate) struct Stream {
    inner: Pin<Box<dyn Io>>,
    /// Set once the peer reset the connection.
    pub(crate) reset: Arc<AtomicBool>,
}

trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// An open connection and what was agreed on it.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    /// HTTP/2 was asked for or agreed by ALPN.
    pub(crate) http2: bool,
}

/// Connects to `host:port` as the options say and fills the report's times.
///
/// # Errors
/// Exit codes 6, 7, 28, 35, 58, 60, 77.
pub(crate) async fn open(options: &Options, scheme: &str, host: &str, port: u16, report: &mut Report) -> Result<Opened, Failure> {
    let opening = async {
        if let Some(path) = &options.unix_socket {
            let unix = UnixStream::connect(path).await;
            let unix = unix.map_err(|error| Failure::new(7, format!("Failed to connect to {host} port {port}: {error}")))?;
            return Ok(Stream::new(unix));
        }
        tcp(options, host, port, report).await.map(Stream::new)
    };
    let stream = match options.connect_timeout {
        Some(limit) => tokio::time::timeout(limit, opening)
            .await
            .map_err(|_| Failure::new(28, format!("Connection timed out after {} milliseconds", limit.as_millis())))??,
        None => opening.await?,
    };
    report.connects += 1;
    report.time_connect = report.started.elapsed();
    if scheme != "https" {
        return Ok(Opened { stream, http2: options.version == Version::Http2 });
    }
    secure(options, host, stream, report).await
}

async fn tcp(options: &Options, host: &str, port: u16, report: &mut Report) -> Result<TcpStream, Failure> {
    let addresses = resolve(options, host, port).await?;
    report.time_namelookup = report.started.elapsed();
    let begun = Instant::now();
    let mut reason = "Could not connect to server";
    for address in addresses {
        if options.verbose {
            eprintln!("*   Trying {address}...");
        }
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let connected = match socket {
            Ok(socket) => socket.connect(address).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(stream) => {
                // Only costs time where it fails.
                let _ = stream.set_nodelay(true);
                report.remote = stream.peer_addr().ok();
                report.local = stream.local_addr().ok();
                if options.verbose {
                    eprintln!("* Connected to {host} ({}) port {}", address.ip(), address.port());
                }
                return Ok(stream);
            }
            Err(error) => {
                if options.verbose {
                    eprintln!("* connect to {address} failed: {error}");
                }
                if error.kind() == std::io::ErrorKind::TimedOut {
                    reason = "Connection timed out";
                }
            }
        }
    }
    Err(Failure::new(7, format!("Failed to connect to {host} port {port} after {} ms: {reason}", begun.elapsed().as_millis())))
}

async fn resolve(options: &Options, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let (mut host, mut port) = (host.to_owned(), port);
    for [from_host, from_port, to_host, to_port] in &options.connect_to {
        let host_matches = from_host.is_empty() || from_host.eq_ignore_ascii_case(&host);
        if host_matches && (from_port.is_empty() || *from_port == port.to_string()) {
            if !to_host.is_empty() {
                host.clone_from(to_host);
            }
            port = to_port.parse().unwrap_or(port);
            break;
        }
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let given: Vec<SocketAddr> = options
        .resolve
        .iter()
        .filter(|(name, given_port, _)| (*name == bare || name == "*") && *given_port == port)
        .map(|(_, port, address)| SocketAddr::new(*address, *port))
        .collect();
    if !given.is_empty() {
        return Ok(given);
    }
    let unknown = || Failure::new(6, format!("Could not resolve host: {bare}"));
    let wanted = |address: &SocketAddr| match options.family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host((bare.as_str(), port)).await.map_err(|_| unknown())?.filter(wanted).collect();
    if found.is_empty() { Err(unknown()) } else { Ok(found) }
}

async fn secure(options: &Options, host: &str, stream: Stream, report: &mut Report) -> Result<Opened, Failure> {
    let alpn: Vec<Vec<u8>> = match options.version {
        Version::Any => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Version::Http2 => vec![b"h2".to_vec()],
        Version::Http11 => vec![b"http/1.1".to_vec()],
        Version::Http10 => vec![b"http/1.0".to_vec()],
    };
    let config = tls::client(&tls::Settings {
        insecure: options.insecure,
        ca_file: options.ca_file.clone(),
        cert_file: options.cert_file.clone(),
        key_file: options.key_file.clone(),
        alpn,
    })
    .map_err(|message| Failure::new(if message.contains("private key") { 58 } else { 77 }, message))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).map_err(|_| Failure::new(35, format!("`{host}` is no name for TLS")))?;
    let secured = TlsConnector::from(config).connect(name, stream).await.map_err(|error| tls_failure(&error))?;
    report.time_appconnect = report.started.elapsed();
    let (_, session) = secured.get_ref();
    if options.verbose {
        let version = session.protocol_version().map_or_else(|| "?".to_owned(), |version| format!("{version:?}"));
        let suite = session.negotiated_cipher_suite().map_or_else(|| "?".to_owned(), |suite| format!("{:?}", suite.suite()));
        eprintln!("* SSL connection using {version} / {suite}");
    }
    let http2 = session.alpn_protocol() == Some(b"h2") || (options.version == Version::Http2);
    Ok(Opened { stream: Stream::new(secured), http2 })
}

fn tls_failure(error: &std::io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => Failure::new(60, format!("SSL certificate problem: {reason:?}")),
        Some(other) => Failure::new(35, format!("TLS connect error: {other}")),
        None if error.kind() == std::io::ErrorKind::ConnectionReset => Failure::new(35, "Recv failure: Connection reset by peer"),
        None => Failure::new(35, format!("TLS connect error: {error}")),
    }
}

impl Stream {
    fn new(inner: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self { inner: Box::pin(inner), reset: Arc::new(AtomicBool::new(false)) }
    }

    fn note<T>(&self, poll: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        if let Poll::Ready(Err(error)) = &poll
            && matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
        {
            self.reset.store(true, Ordering::Relaxed);
        }
        poll
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let poll = self.inner.as_mut().poll_read(cx, buffer);
        self.note(poll)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let poll = self.inner.as_mut().poll_write(cx, bytes);
        self.note(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let poll = self.inner.as_mut().poll_flush(cx);
        self.note(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.inner.as_mut().poll_shutdown(cx)
    }
}
