//! Who calls: a client certificate signed by our root, or a service-account token.
//!
//! - Reads: the connection's peer certificate, the `authorization` call metadata.
//! - Rule: a token that is present must be valid; a wrong one is never treated as "no token".
//! - Not here: what the caller may have (`hub`, `certificates`).

use crate::tls::Caller as Connection;
use lateen_base::SpiffeId;
use lateen_ca::TokenVerifier;
use std::time::SystemTime;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};
use x509_parser::extensions::{GeneralName, ParsedExtension};

/// Scheme of the `authorization` metadata.
const BEARER: &str = "Bearer ";

/// Finds out who calls.
pub struct Authenticator {
    tokens: TokenVerifier,
    trust_domain: String,
}

impl Authenticator {
    /// Accepts tokens that `tokens` verifies and certificates of `trust_domain`.
    #[must_use]
    pub fn new(tokens: TokenVerifier, trust_domain: String) -> Self {
        Self { tokens, trust_domain }
    }

    /// The caller's identity; `None` for a caller on the plaintext port that shows nothing.
    ///
    /// # Errors
    /// `Unauthenticated` when what it shows is not valid, or when it shows nothing on the TLS port.
    pub fn identify(&self, metadata: &MetadataMap, extensions: &Extensions, now: SystemTime) -> Result<Option<SpiffeId>, Status> {
        let connection = extensions.get::<Connection>();
        if let Some(token) = metadata.get("authorization") {
            let token = token.to_str().ok().and_then(|t| t.strip_prefix(BEARER));
            let token = token.ok_or_else(|| Status::unauthenticated("authorization metadata is not `Bearer <token>`"))?;
            let caller = self.tokens.verify(token.trim(), now).map_err(|e| Status::unauthenticated(e.to_string()))?;
            return Ok(Some(caller.identity(&self.trust_domain)));
        }
        if let Some(certificate) = connection.and_then(|c| c.certificate.as_ref()) {
            let identity = identity(certificate).ok_or_else(|| Status::unauthenticated("the client certificate carries no single SPIFFE identity"))?;
            if identity.trust_domain != self.trust_domain {
                return Err(Status::unauthenticated(format!("trust domain {} is not {}", identity.trust_domain, self.trust_domain)));
            }
            return Ok(Some(identity));
        }
        match connection {
            Some(c) if c.tls => Err(Status::unauthenticated(
                "no client certificate and no token; send `authorization: Bearer <service-account token, audience istio-ca>`",
            )),
            Some(_) | None => Ok(None),
        }
    }
}

/// The one URI name of a certificate, as an identity. The certificate's chain was verified by the TLS handshake.
fn identity(der: &[u8]) -> Option<SpiffeId> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let mut uris = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(san) = extension.parsed_extension() {
            uris.extend(san.general_names.iter().filter_map(|n| if let GeneralName::URI(u) = n { Some(*u) } else { None }));
        }
    }
    match uris.as_slice() {
        [one] => SpiffeId::parse(one),
        _ => None,
    }
}
