//! Transport sockets: the bytes of one connection, plain or in TLS, behind one concrete type.
//!
//! - Reads: nothing; a `Stream` is made by `listener/accept.rs` (downstream) and `cluster/connect.rs` (upstream).
//! - Rule: waiting for bytes needs no buffer (`readable`), so that an idle connection holds none.
//! - Limits: none of its own; whoever reads bounds what is read.
//! - Not here: handshakes and certificates (`tls`), secrets (`sds`), plain sockets' options (`raw`).

pub mod certificate;
pub mod raw;
pub mod sds;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use certificate::PeerCertificate;

/// What a finished TLS handshake agreed on and proved.
#[derive(Debug, Clone, Default)]
pub struct TlsSession {
    /// `TLSv1.3` or `TLSv1.2`, as Envoy's `%DOWNSTREAM_TLS_VERSION%` prints it.
    pub version: &'static str,
    /// Cipher suite, as rustls names it.
    pub cipher: String,
    /// Server name the client asked for.
    pub sni: Option<Box<str>>,
    /// Application protocol both sides agreed on.
    pub alpn: Option<Box<[u8]>>,
    /// The other side's certificate, present only when it was verified or no verification was asked for.
    pub peer: Option<PeerCertificate>,
    /// First URI name of the certificate this side showed; the `By=` of `x-forwarded-client-cert`.
    pub local_uri: Option<Box<str>>,
}

/// One connection's bytes.
pub enum Stream {
    /// TCP without TLS.
    Plain(TcpStream),
    /// Unix socket (an endpoint whose address is a pipe).
    Unix(UnixStream),
    /// TLS towards an upstream.
    TlsClient(Box<tokio_rustls::client::TlsStream<TcpStream>>, Rc<TlsSession>),
    /// TLS from a downstream.
    TlsServer(Box<tokio_rustls::server::TlsStream<TcpStream>>, Rc<TlsSession>),
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stream::Plain(_) => "Stream::Plain",
            Stream::Unix(_) => "Stream::Unix",
            Stream::TlsClient(..) => "Stream::TlsClient",
            Stream::TlsServer(..) => "Stream::TlsServer",
        })
    }
}

impl Stream {
    /// Waits until a read would give bytes, the end, or an error. Holds no buffer meanwhile. May wake early: a read may still wait.
    ///
    /// # Errors
    /// The socket's error.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Stream::Plain(s) => s.readable().await,
            Stream::Unix(s) => s.readable().await,
            Stream::TlsClient(s, _) => {
                let (tcp, session) = s.get_ref();
                if session.wants_read() { tcp.readable().await } else { Ok(()) }
            }
            Stream::TlsServer(s, _) => {
                let (tcp, session) = s.get_ref();
                if session.wants_read() { tcp.readable().await } else { Ok(()) }
            }
        }
    }

    /// True when an idle connection must not be used again: the other side closed it, sent bytes nobody asked for, or an error is pending.
    /// Costs no system call while the socket has been quiet since the last look.
    pub fn is_stale(&self) -> bool {
        let mut byte = [0u8; 1];
        match self {
            Stream::Plain(s) => !would_block(&s.try_read(&mut byte)),
            Stream::Unix(s) => !would_block(&s.try_read(&mut byte)),
            // A TLS record may legally arrive while idle (a session ticket); only the end or an error makes it stale.
            Stream::TlsClient(s, _) => {
                let (tcp, session) = s.get_ref();
                !session.wants_read() || tls_ended(tcp)
            }
            Stream::TlsServer(s, _) => {
                let (tcp, session) = s.get_ref();
                !session.wants_read() || tls_ended(tcp)
            }
        }
    }

    /// Facts of the TLS handshake; `None` without TLS.
    pub fn tls(&self) -> Option<&Rc<TlsSession>> {
        match self {
            Stream::Plain(_) | Stream::Unix(_) => None,
            Stream::TlsClient(_, session) | Stream::TlsServer(_, session) => Some(session),
        }
    }

    /// Application protocol agreed in the handshake.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls().and_then(|t| t.alpn.as_deref())
    }

    /// The TCP socket beneath; `None` for a pipe.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Plain(s) => Some(s),
            Stream::Unix(_) => None,
            Stream::TlsClient(s, _) => Some(s.get_ref().0),
            Stream::TlsServer(s, _) => Some(s.get_ref().0),
        }
    }

    /// This side's address; `None` for a pipe or a dead socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp().and_then(|s| s.local_addr().ok())
    }

    /// The other side's address; `None` for a pipe or a dead socket.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp().and_then(|s| s.peer_addr().ok())
    }

    /// Closes with a TCP reset instead of an orderly end, so that the other side learns at once that the bytes are incomplete.
    pub fn reset(self) {
        if let Some(tcp) = self.tcp() {
            raw::reset_on_close(tcp);
        }
    }
}

fn would_block(outcome: &io::Result<usize>) -> bool {
    matches!(outcome, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

/// True when the TCP socket beneath a quiet TLS session was closed or broke. Looks without consuming.
fn tls_ended(tcp: &TcpStream) -> bool {
    let looked = tcp.try_io(Interest::READABLE, || {
        let mut byte = [std::mem::MaybeUninit::uninit(); 1];
        socket2::SockRef::from(tcp).peek(&mut byte)
    });
    match looked {
        Ok(n) => n == 0,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Stream::TlsClient(s, _) => Pin::new(&mut **s).poll_read(cx, buf),
            Stream::TlsServer(s, _) => Pin::new(&mut **s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Stream::TlsClient(s, _) => Pin::new(&mut **s).poll_write(cx, buf),
            Stream::TlsServer(s, _) => Pin::new(&mut **s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::TlsClient(s, _) => Pin::new(&mut **s).poll_flush(cx),
            Stream::TlsServer(s, _) => Pin::new(&mut **s).poll_flush(cx),
        }
    }

    /// Sends the end of this side's bytes (TLS close_notify, then FIN); the other direction stays open.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Stream::TlsClient(s, _) => Pin::new(&mut **s).poll_shutdown(cx),
            Stream::TlsServer(s, _) => Pin::new(&mut **s).poll_shutdown(cx),
        }
    }

    #[inline]
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Stream::Unix(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Stream::TlsClient(s, _) => Pin::new(&mut **s).poll_write_vectored(cx, bufs),
            Stream::TlsServer(s, _) => Pin::new(&mut **s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
