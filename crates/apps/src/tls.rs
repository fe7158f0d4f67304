//! TLS for the clients among the stand-ins: verification against the machine's roots, a given file, or not at all.
//!
//! - Reads: PEM files.
//! - Rule: skipping verification happens only where the user asked for it (`-k`).
//! - Not here: the mesh's own TLS (`proxy`), which these programs know nothing of.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};

/// Where a distribution keeps its roots, in the order tried.
const SYSTEM_ROOTS: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How a client verifies and presents itself.
#[derive(Default)]
pub(crate) struct Settings {
    /// Take any certificate.
    pub(crate) insecure: bool,
    /// Roots instead of the machine's.
    pub(crate) ca_file: Option<String>,
    /// Client certificate.
    pub(crate) cert_file: Option<String>,
    /// Key of the client certificate; `None`: in the same file.
    pub(crate) key_file: Option<String>,
    /// Protocols offered by ALPN, first preferred.
    pub(crate) alpn: Vec<Vec<u8>>,
}

/// Builds the client's configuration.
///
/// # Errors
/// Text that names the file that cannot be used.
pub(crate) fn client(settings: &Settings) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if settings.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(settings.ca_file.as_deref())?)
    };
    let mut config = match &settings.cert_file {
        Some(cert_file) => {
            let key_file = settings.key_file.as_ref().unwrap_or(cert_file);
            let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| format!("unable to set private key file: '{key_file}': {error}"))?;
            builder.with_client_auth_cert(certificates(cert_file)?, key).map_err(|error| error.to_string())?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols.clone_from(&settings.alpn);
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&str>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let file = ca_file.or_else(|| SYSTEM_ROOTS.iter().copied().find(|file| Path::new(file).exists()));
    if let Some(file) = file {
        store.add_parsable_certificates(certificates(file)?);
    }
    Ok(store)
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| format!("error setting certificate file: {file}: {error}"))
}

/// Takes any certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
