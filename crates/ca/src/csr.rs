//! A certificate request, checked: its signature proves the key; of the rest only the names are looked at.
//!
//! - Reads: PKCS #10 (RFC 2986) in PEM.
//! - Rule: extensions we do not know are tolerated, because nothing of them reaches the certificate.
//! - Limits: `CSR_BYTES_MAX`; RSA keys below `RSA_BITS_MIN` are refused.

use crate::CaError;
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// A request with an RSA-4096 key takes under 2 KiB.
pub const CSR_BYTES_MAX: usize = 64 << 10;
/// Smallest RSA key; below, the key can be broken within a certificate's lifetime.
pub const RSA_BITS_MIN: usize = 2048;

/// What a certificate request proves and names.
pub struct Csr {
    /// The key whose owner signed the request.
    pub public_key: SubjectPublicKeyInfo,
    /// URI names asked for.
    pub uris: Vec<String>,
}

/// Reads a request and verifies its signature.
///
/// # Errors
/// [`CaError::BadRequest`] with the reason.
pub fn parse(text: &str) -> Result<Csr, CaError> {
    let bad = |reason: &str| CaError::BadRequest(reason.to_owned());
    if text.len() > CSR_BYTES_MAX {
        return Err(CaError::BadRequest(format!("{} bytes, more than {CSR_BYTES_MAX}", text.len())));
    }
    let block = pem::parse(text).map_err(|e| CaError::BadRequest(format!("not PEM: {e}")))?;
    if !block.tag().ends_with("CERTIFICATE REQUEST") {
        return Err(CaError::BadRequest(format!("PEM block is {:?}, not CERTIFICATE REQUEST", block.tag())));
    }
    let (rest, request) = X509CertificationRequest::from_der(block.contents()).map_err(|e| CaError::BadRequest(format!("not PKCS #10: {e}")))?;
    if !rest.is_empty() {
        return Err(bad("bytes after its end"));
    }
    request.verify_signature().map_err(|_| bad("its signature does not match its key; sign it with the key it carries"))?;
    let spki = &request.certification_request_info.subject_pki;
    if let Ok(PublicKey::RSA(rsa)) = spki.parsed()
        && rsa.key_size() < RSA_BITS_MIN
    {
        return Err(CaError::BadRequest(format!("RSA key of {} bits; use at least {RSA_BITS_MIN}, or P-256", rsa.key_size())));
    }
    let public_key = SubjectPublicKeyInfo::from_der(spki.raw).map_err(|e| CaError::BadRequest(format!("unsupported key: {e}")))?;
    Ok(Csr { public_key, uris: uris(&request) })
}

fn uris(request: &X509CertificationRequest<'_>) -> Vec<String> {
    let mut uris = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(san) = extension {
            uris.extend(san.general_names.iter().filter_map(|n| if let GeneralName::URI(u) = n { Some((*u).to_owned()) } else { None }));
        }
    }
    uris
}
