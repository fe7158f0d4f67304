//! What a peer's certificate says: identity, names, fingerprint.
//!
//! - Reads: DER certificates from a verified handshake.
//! - Rule: parsed once per handshake; requests only look at the result.
//! - Not here: verification (`tls`).

use aws_lc_rs::digest;
use std::fmt::Write as _;
use x509_parser::prelude::*;

/// The parts of a certificate that authorization, headers and logs use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// URI names, in order; a mesh peer has one, its SPIFFE id.
    pub uri_sans: Vec<String>,
    /// DNS names, in order.
    pub dns_sans: Vec<String>,
    /// E-mail names, in order.
    pub email_sans: Vec<String>,
    /// IP address names as text, in order.
    pub ip_sans: Vec<String>,
    /// Subject in RFC 2253 order; empty for mesh certificates.
    pub subject: String,
    /// Issuer in RFC 2253 order.
    pub issuer: String,
    /// Hex SHA-256 of the whole certificate; the `Hash=` of `x-forwarded-client-cert`.
    pub sha256: String,
    /// Hex serial number, lower case.
    pub serial: String,
    /// Start of validity, seconds since 1970.
    pub not_before: i64,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
}

impl PeerCertificate {
    /// Reads one DER certificate; `None` when it does not parse.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let (mut uri_sans, mut dns_sans, mut email_sans, mut ip_sans) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::URI(uri) => uri_sans.push((*uri).to_string()),
                    GeneralName::DNSName(dns) => dns_sans.push((*dns).to_string()),
                    GeneralName::RFC822Name(email) => email_sans.push((*email).to_string()),
                    GeneralName::IPAddress(bytes) => ip_sans.extend(ip_text(bytes)),
                    _ => {}
                }
            }
        }
        Some(PeerCertificate {
            uri_sans,
            dns_sans,
            email_sans,
            ip_sans,
            subject: rfc2253(certificate.subject()),
            issuer: rfc2253(certificate.issuer()),
            sha256: hex(digest::digest(&digest::SHA256, der).as_ref()),
            serial: hex(certificate.raw_serial()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// Most specific part first, parts joined by commas without a space, as Envoy prints subjects.
fn rfc2253(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    let mut parts: Vec<&str> = text.split(", ").filter(|p| !p.is_empty()).collect();
    parts.reverse();
    parts.join(",")
}
