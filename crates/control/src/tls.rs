//! The listening side of the gRPC ports: accepts, does TLS, and notes who is at the other end.
//!
//! - Reads: TCP connections; the server certificate issued by our own authority.
//! - Rule: the certificate can be replaced while listening; open connections keep theirs.
//! - Limits: `HANDSHAKES_MAX` handshakes at once, `HANDSHAKE_MAX` each, so that a silent peer cannot fill the server.

use lateen_ca::ServerCertificate;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// Handshakes under way at one time.
const HANDSHAKES_MAX: usize = 256;
/// Accepted connections that may wait for the gRPC server.
const WAITING_MAX: usize = 64;
/// Longest handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// What is known of a connection; found in each call's extensions.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Address of the peer.
    pub address: Option<SocketAddr>,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// Verified client certificate, DER, if one was shown.
    pub certificate: Option<CertificateDer<'static>>,
}

/// One accepted connection.
pub struct Accepted {
    stream: Stream,
    caller: Caller,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// The server certificate in use.
#[derive(Debug, Default)]
pub struct CertificateSlot(RwLock<Option<Arc<CertifiedKey>>>);

impl CertificateSlot {
    /// Puts a certificate in use for new connections.
    ///
    /// # Errors
    /// When key or certificate cannot be used.
    pub fn put(&self, certificate: &ServerCertificate) -> Result<(), rustls::Error> {
        let bad = |e: rustls_pki_types::pem::Error| rustls::Error::General(e.to_string());
        let chain = CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(bad)?;
        let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).map_err(bad)?;
        let certified = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }
}

impl ResolvesServerCert for CertificateSlot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// TLS 1.2 and 1.3 for gRPC, client certificates of `root_pem` accepted but not required.
///
/// # Errors
/// When the root cannot be used.
pub fn server_config(slot: Arc<CertificateSlot>, root_pem: &str) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(root_pem.as_bytes()) {
        roots.add(certificate.map_err(|e| rustls::Error::General(e.to_string()))?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(slot);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts connections of `listener` for a tonic server; `tls` of `None`: plaintext.
pub fn accept(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> ReceiverStream<io::Result<Accepted>> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let (stream, address) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, mostly: wait for some to be closed rather than spin.
                        tracing::warn!(%error, "accepting an xDS connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = sender.closed() => return,
            };
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let (sender, tls) = (sender.clone(), tls.clone());
            tokio::spawn(async move {
                match tokio::time::timeout(HANDSHAKE_MAX, shake(stream, address, tls)).await {
                    Ok(Ok(accepted)) => {
                        // A failed send means the server is stopping.
                        let _ = sender.send(Ok(accepted)).await;
                    }
                    Ok(Err(error)) => tracing::info!(%address, %error, "TLS handshake failed"),
                    Err(_) => tracing::info!(%address, "TLS handshake took too long"),
                }
                drop(permit);
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn shake(stream: TcpStream, address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> io::Result<Accepted> {
    stream.set_nodelay(true)?;
    let Some(config) = tls else {
        let caller = Caller { address: Some(address), tls: false, certificate: None };
        return Ok(Accepted { stream: Stream::Plain(stream), caller });
    };
    let stream = tokio_rustls::TlsAcceptor::from(config).accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first()).map(|c| c.clone().into_owned());
    let caller = Caller { address: Some(address), tls: true, certificate };
    Ok(Accepted { stream: Stream::Tls(Box::new(stream)), caller })
}

impl Connected for Accepted {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, bytes),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, bytes),
        }
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
