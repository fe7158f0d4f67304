//! The way to the control plane: resolve, connect with the proxy's mark, TLS verified against the mesh's root, bearer token.
//!
//! - Reads: the root certificate and the token files, anew for each connection, so that renewed files are used.
//! - Rule: the certificate must carry the configured host name and chain to the mesh's root; nothing else is trusted.
//! - Limits: `CONNECT_MAX` per attempt; `FILE_BYTES_MAX` per file.

use crate::AgentOptions;
use lateen_sys::socket::mark_as_proxy;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

/// Resolving, connecting and shaking hands together.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A token or a bundle of roots.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where the control plane is and how it is trusted.
#[derive(Clone, Debug)]
pub struct Upstream {
    host: String,
    port: u16,
    token_path: PathBuf,
    root_cert_path: PathBuf,
    mark: bool,
}

impl Upstream {
    /// The control plane of `options`.
    #[must_use]
    pub fn new(options: &AgentOptions) -> Self {
        Self {
            host: options.discovery_host.clone(),
            port: options.discovery_port,
            token_path: options.token_path.clone(),
            root_cert_path: options.root_cert_path.clone(),
            mark: options.mark,
        }
    }

    /// `host:port`, the authority of requests.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The value of the `authorization` metadata.
    ///
    /// # Errors
    /// When the token file cannot be read.
    pub fn bearer(&self) -> io::Result<String> {
        Ok(format!("Bearer {}", read(&self.token_path)?.trim()))
    }

    /// The mesh's root certificates, PEM.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn roots(&self) -> io::Result<String> {
        read(&self.root_cert_path)
    }

    /// Opens a TLS connection that speaks HTTP/2.
    ///
    /// # Errors
    /// What failed: a file, the name, the connection or the handshake.
    pub async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        tokio::time::timeout(CONNECT_MAX, self.open())
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("{} did not answer within {CONNECT_MAX:?}", self.authority())))?
    }

    async fn open(&self) -> io::Result<TlsStream<TcpStream>> {
        let config = tls_config(&self.roots()?)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.host));
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect();
        for address in addresses {
            match connect(address, None, self.mark).await {
                Ok(stream) => {
                    let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
                    return tokio_rustls::TlsConnector::from(Arc::clone(&config)).connect(name, stream).await;
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A TCP connection, from `source` if given, with the proxy's mark if wanted.
///
/// # Errors
/// What the system reports.
pub async fn connect(address: SocketAddr, source: Option<IpAddr>, mark: bool) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if mark {
        mark_as_proxy(&socket)?;
    }
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn tls_config(roots_pem: &str) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn read(path: &PathBuf) -> io::Result<String> {
    let about = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let bytes = std::fs::metadata(path).map_err(about)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: {bytes} bytes, more than {FILE_BYTES_MAX}", path.display())));
    }
    std::fs::read_to_string(path).map_err(about)
}

/// TLS to an application under probe. Kubernetes' HTTPS probes do not verify certificates either.
///
/// # Errors
/// What the handshake reports.
pub async fn unverified_tls(stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Accepts any certificate; for probes only.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
