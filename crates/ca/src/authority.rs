//! Signing: workload certificates for authenticated identities, and the control plane's own server certificate.
//!
//! - Reads: a checked [`csr`](crate::csr), the root of [`root`](crate::root).
//! - Rule: empty subject, one critical URI name (the SPIFFE identity), both TLS usages, never a CA; the chain is leaf, then root.
//! - Rule: valid from two minutes before issue; never longer than the root.

use crate::{BACKDATE, CaError, TTL_DEFAULT, TTL_MAX, csr, root};
use lateen_base::SpiffeId;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A certificate authority that is ready to sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
    root_not_after: SystemTime,
    /// Lifetime where a request names none.
    pub ttl_default: Duration,
    /// Longest lifetime.
    pub ttl_max: Duration,
}

/// A certificate just issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// PEM certificates: leaf first, root last.
    pub chain: Vec<String>,
    /// When the leaf expires.
    pub not_after: SystemTime,
}

/// A server certificate with its key.
pub struct ServerCertificate {
    /// PEM certificates: leaf first, root last.
    pub chain_pem: String,
    /// PKCS #8 key in PEM.
    pub key_pem: String,
    /// When it expires.
    pub not_after: SystemTime,
}

impl Authority {
    /// Opens the authority whose root is in `folder`, making a root there if there is none. `trust_domain` becomes a new root's organization.
    ///
    /// # Errors
    /// [`CaError::Root`] when the root cannot be read or written.
    pub fn open(folder: &Path, trust_domain: &str, now: SystemTime) -> Result<Self, CaError> {
        let root = root::open(folder, trust_domain, now)?;
        let fail = |reason: String| CaError::Root { path: folder.join(root::ROOT_FILE), reason };
        let block = pem::parse(&root.certificate_pem).map_err(|e| fail(e.to_string()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(block.contents()).map_err(|e| fail(e.to_string()))?;
        let root_not_after = SystemTime::from(parsed.validity().not_after.to_datetime());
        if root_not_after <= now {
            return Err(fail("the root certificate has expired".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_pem(&root.certificate_pem, root.key).map_err(|e| fail(e.to_string()))?;
        Ok(Self { issuer, root_pem: root.certificate_pem, root_not_after, ttl_default: TTL_DEFAULT, ttl_max: TTL_MAX })
    }

    /// The root certificate, PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// When the root expires.
    #[must_use]
    pub fn root_not_after(&self) -> SystemTime {
        self.root_not_after
    }

    /// Signs a workload's request for `identity`, which the caller has authenticated. `lifetime` of `None` or zero: the default.
    ///
    /// # Errors
    /// [`CaError::BadRequest`], [`CaError::OtherIdentity`] when the request names another identity, [`CaError::LifetimeTooLong`].
    pub fn sign(&self, csr_pem: &str, identity: &SpiffeId, lifetime: Option<Duration>, now: SystemTime) -> Result<Issued, CaError> {
        let csr = csr::parse(csr_pem)?;
        let caller = identity.to_string();
        if let Some(other) = csr.uris.iter().find(|u| **u != caller) {
            return Err(CaError::OtherIdentity { asked: other.clone(), caller });
        }
        let lifetime = lifetime.filter(|l| !l.is_zero()).unwrap_or(self.ttl_default);
        if lifetime > self.ttl_max {
            return Err(CaError::LifetimeTooLong { asked: lifetime, max: self.ttl_max });
        }
        let uri = caller.try_into().map_err(|_| CaError::BadRequest("the identity is not ASCII".to_owned()))?;
        let (params, not_after) = self.params(vec![SanType::URI(uri)], lifetime, now)?;
        let leaf = params.signed_by(&csr.public_key, &self.issuer)?;
        Ok(Issued { chain: vec![leaf.pem(), self.root_pem.clone()], not_after })
    }

    /// A key and server certificate for DNS `names`.
    ///
    /// # Errors
    /// [`CaError::Signing`] when a name is no DNS name.
    pub fn server(&self, names: &[String], lifetime: Duration, now: SystemTime) -> Result<ServerCertificate, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut sans = Vec::with_capacity(names.len());
        for name in names {
            sans.push(SanType::DnsName(name.as_str().try_into()?));
        }
        let (params, not_after) = self.params(sans, lifetime, now)?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(ServerCertificate { chain_pem: format!("{}{}", leaf.pem(), self.root_pem), key_pem: key.serialize_pem(), not_after })
    }

    fn params(&self, sans: Vec<SanType>, lifetime: Duration, now: SystemTime) -> Result<(CertificateParams, SystemTime), CaError> {
        let not_after = (now + lifetime).min(self.root_not_after);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = sans;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (now - BACKDATE).into();
        params.not_after = not_after.into();
        params.serial_number = Some(serial()?);
        params.use_authority_key_identifier_extension = true;
        Ok((params, not_after))
    }
}

/// A random positive serial number of 127 bits.
pub(crate) fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CaError::Signing("the system gave no random bytes".to_owned()))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
