//! TLS: building rustls configurations, checking the other side, and doing handshakes.
//!
//! - Reads: keys and trust as `sds.rs` hands them over; contexts (`DownstreamTlsContext`, `UpstreamTlsContext`) as the plan checked them.
//! - Twin: `compile/src/cluster/tls.rs`, `compile/src/listener/tls.rs`, `kinds/src/destination_rule/tls.rs`, `kinds/src/gateway/server_tls.rs`.
//! - Rule: a configuration is immutable; a new certificate or trust bundle makes a new one, so the next handshake uses it and running connections keep theirs.
//! - Rule: names are matched only by the context's SAN matchers, as Envoy does; the server name never decides trust by itself.
//! - Rule: no session resumption: each handshake proves identity against the trust in force now.
//! - Limits: a handshake has [`HANDSHAKE_MAX`].
//! - Not here: where secrets come from (`sds`), which context a connection uses (`listener/match.rs`, plan).

use std::io;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion};
use tokio::net::TcpStream;

use super::certificate::PeerCertificate;
use super::{Stream, TlsSession};

/// Longest time a TLS handshake may take; Envoy's `transport_socket_connect_timeout` in Istio's listeners is 15 s.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(15);

/// A key and its certificates, leaf first.
#[derive(Debug)]
pub struct KeyPair {
    /// DER certificates, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// DER private key.
    pub key: PrivateKeyDer<'static>,
    /// What the leaf says.
    pub leaf: PeerCertificate,
}

impl KeyPair {
    /// Reads PEM texts.
    ///
    /// # Errors
    /// A sentence that says which part is unusable.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        use rustls::pki_types::pem::PemObject;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|e| format!("certificate_chain is not PEM: {e}"))?;
        let leaf = chain.first().and_then(|der| PeerCertificate::from_der(der)).ok_or("certificate_chain holds no X.509 certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("private_key is not a PEM private key: {e}"))?;
        Ok(KeyPair { chain, key, leaf })
    }
}

/// Reads a PEM trust bundle.
///
/// # Errors
/// A sentence, when it holds no usable certificate.
pub fn roots_from_pem(bundle: &[u8]) -> Result<RootCertStore, String> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        let certificate = certificate.map_err(|e| format!("trusted_ca is not PEM: {e}"))?;
        roots.add(certificate).map_err(|e| format!("trusted_ca holds an unusable certificate: {e}"))?;
    }
    if roots.is_empty() {
        return Err("trusted_ca holds no certificate".into());
    }
    Ok(roots)
}

/// What the certificates of a PEM text say; those that do not parse are left out.
pub fn certificates_of(pem: &[u8]) -> Vec<PeerCertificate> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).filter_map(|der| PeerCertificate::from_der(&der)).collect()
}

/// Decides whether a verified certificate's names are acceptable.
pub type NamesAccepted = Arc<dyn Fn(&PeerCertificate) -> bool + Send + Sync>;

/// What the other side's certificate is checked against.
#[derive(Clone)]
pub struct Trust {
    /// Acceptable issuers; `None` accepts any chain and checks names only.
    pub roots: Option<Arc<RootCertStore>>,
    /// Acceptable names; `None` accepts any name of a trusted chain.
    pub names: Option<NamesAccepted>,
}

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Handshake fails without one.
    Required,
    /// Checked when shown.
    Optional,
}

/// Protocol versions a context allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// TLS 1.2 allowed.
    pub tls12: bool,
    /// TLS 1.3 allowed.
    pub tls13: bool,
}

impl Versions {
    fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        let mut list = Vec::with_capacity(2);
        if self.tls13 {
            list.push(&rustls::version::TLS13);
        }
        if self.tls12 {
            list.push(&rustls::version::TLS12);
        }
        list
    }
}

/// Server side of a context.
///
/// # Errors
/// A sentence, when key and certificate do not fit together or the trust is empty.
pub fn server_config(key: &KeyPair, trust: Option<(&Trust, ClientCertificate)>, alpn: Vec<Vec<u8>>, versions: Versions) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions.list())
        .map_err(|e| format!("tls_params: {e}"))?;
    let builder = match trust {
        None => builder.with_no_client_auth(),
        Some((trust, client)) => builder.with_client_cert_verifier(Arc::new(DownstreamVerifier::new(trust, client)?)),
    };
    let mut config = builder.with_single_cert(key.chain.clone(), key.key.clone_key()).map_err(|e| format!("tls_certificates: {e}"))?;
    config.alpn_protocols = alpn;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Client side of a context. Without `trust` the server is not checked, as in Envoy.
///
/// # Errors
/// A sentence, when key and certificate do not fit together.
pub fn client_config(key: Option<&KeyPair>, trust: Option<&Trust>, alpn: Vec<Vec<u8>>, versions: Versions) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions.list())
        .map_err(|e| format!("tls_params: {e}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(UpstreamVerifier { trust: trust.cloned() }));
    let mut config = match key {
        None => builder.with_no_client_auth(),
        Some(key) => builder
            .with_client_auth_cert(key.chain.clone(), key.key.clone_key())
            .map_err(|e| format!("tls_certificates: {e}"))?,
    };
    config.alpn_protocols = alpn;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Server handshake on an accepted socket.
///
/// # Errors
/// The handshake's error, or `TimedOut` after [`HANDSHAKE_MAX`].
pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>, local: Option<&PeerCertificate>) -> io::Result<Stream> {
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(tcp);
    let stream = within(HANDSHAKE_MAX, handshake).await?;
    let connection = stream.get_ref().1;
    let mut session = session(connection, local);
    session.sni = connection.server_name().map(Into::into);
    Ok(Stream::TlsServer(Box::new(stream), Rc::new(session)))
}

/// Client handshake on a connected socket. `sni` empty: no server name is sent.
///
/// # Errors
/// The handshake's error, or `TimedOut` after [`HANDSHAKE_MAX`].
pub async fn connect(tcp: TcpStream, config: Arc<ClientConfig>, sni: &str, local: Option<&PeerCertificate>) -> io::Result<Stream> {
    let (config, name) = server_name(config, sni)?;
    let handshake = tokio_rustls::TlsConnector::from(config).connect(name, tcp);
    let stream = within(HANDSHAKE_MAX, handshake).await?;
    let mut session = session(stream.get_ref().1, local);
    session.sni = (!sni.is_empty()).then(|| sni.into());
    Ok(Stream::TlsClient(Box::new(stream), Rc::new(session)))
}

/// rustls wants a DNS name or an address. Istio's `outbound_.80_._.host` has underscores, which it accepts; anything else is sent without a name.
fn server_name(config: Arc<ClientConfig>, sni: &str) -> io::Result<(Arc<ClientConfig>, ServerName<'static>)> {
    if sni.is_empty() {
        let nameless = ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED).into());
        return Ok((config, nameless));
    }
    match ServerName::try_from(sni.to_owned()) {
        Ok(name) => Ok((config, name)),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("server name {sni:?} cannot be sent in TLS"))),
    }
}

async fn within<T>(limit: Duration, handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, handshake).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timed out")),
    }
}

fn session<Data>(connection: &rustls::ConnectionCommon<Data>, local: Option<&PeerCertificate>) -> TlsSession {
    TlsSession {
        version: match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        cipher: connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
        sni: None,
        alpn: connection.alpn_protocol().map(Into::into),
        peer: connection.peer_certificates().and_then(|chain| chain.first()).and_then(|der| PeerCertificate::from_der(der)),
        local_uri: local.and_then(|certificate| certificate.uri_sans.first()).map(|uri| uri.as_str().into()),
    }
}

/// One provider for the process: aws-lc-rs.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// The text of a failed handshake as Envoy's `%UPSTREAM_TRANSPORT_FAILURE_REASON%` gives it (BoringSSL's words), for the causes people look for.
pub fn failure_reason(error: &io::Error) -> String {
    let Some(inner) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        return format!("TLS_error:|{}:TLS_error_end", underscores(&error.to_string()));
    };
    match inner {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => {
            "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_SAN_matcher:TLS_error_end".into()
        }
        rustls::Error::InvalidCertificate(cause) => {
            let cause = underscores(&format!("{cause:?}"));
            format!("TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_{cause}:TLS_error_end")
        }
        rustls::Error::InvalidMessage(_) => "TLS_error:|268435703:SSL_routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end".into(),
        rustls::Error::AlertReceived(alert) => {
            let alert = underscores(&format!("{alert:?}"));
            format!("TLS_error:|SSL_routines:OPENSSL_internal:alert_received_{alert}:TLS_error_end")
        }
        other => format!("TLS_error:|{}:TLS_error_end", underscores(&other.to_string())),
    }
}

/// Envoy joins words with underscores so that the access log stays one word per field.
pub fn underscores(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join("_")
}

struct UpstreamVerifier {
    trust: Option<Trust>,
}

impl std::fmt::Debug for UpstreamVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UpstreamVerifier")
    }
}

impl ServerCertVerifier for UpstreamVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(trust) = &self.trust {
            if let Some(roots) = &trust.roots {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                let algorithms = provider().signature_verification_algorithms.all;
                rustls::client::verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
            }
            names_accepted(trust, end_entity)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn names_accepted(trust: &Trust, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
    let Some(accepted) = &trust.names else { return Ok(()) };
    match PeerCertificate::from_der(certificate) {
        Some(names) if accepted(&names) => Ok(()),
        _ => Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName)),
    }
}

/// Chain checks by rustls, then the context's names.
struct DownstreamVerifier {
    chain: Option<Arc<dyn ClientCertVerifier>>,
    trust: Trust,
    client: ClientCertificate,
}

impl DownstreamVerifier {
    fn new(trust: &Trust, client: ClientCertificate) -> Result<Self, String> {
        let chain = match &trust.roots {
            None => None,
            Some(roots) => {
                let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider()).clear_root_hint_subjects();
                Some(builder.build().map_err(|e| format!("validation_context.trusted_ca: {e}"))?)
            }
        };
        Ok(DownstreamVerifier { chain, trust: trust.clone(), client })
    }
}

impl std::fmt::Debug for DownstreamVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DownstreamVerifier")
    }
}

impl ClientCertVerifier for DownstreamVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client == ClientCertificate::Required
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(&self, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], now: UnixTime) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        names_accepted(&self.trust, end_entity)?;
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }
    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
