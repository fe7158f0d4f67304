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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ROOT_TTL;
    use std::path::PathBuf;
    use x509_parser::extensions::GeneralName;

    /// A folder of its own for each test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lateen-ca-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn authority(folder: &Folder) -> Authority {
        Authority::open(&folder.0, "cluster.local", now()).unwrap()
    }

    fn request(change: impl FnOnce(&mut CertificateParams)) -> String {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    fn frontend() -> SpiffeId {
        SpiffeId::new("cluster.local", "default", "frontend")
    }

    #[test]
    fn the_root_stays_the_same_across_restarts() {
        let folder = Folder::new("restart");
        let first = authority(&folder).root_pem().to_owned();
        assert_eq!(authority(&folder).root_pem(), first);
        assert_eq!(std::fs::read_to_string(folder.0.join(root::ROOT_CERT_FILE)).unwrap(), first);
    }

    #[test]
    fn a_damaged_root_is_an_error_and_not_replaced() {
        let folder = Folder::new("damaged");
        std::fs::create_dir_all(&folder.0).unwrap();
        let path = folder.0.join(root::ROOT_FILE);
        std::fs::write(&path, "half a f").unwrap();
        assert!(matches!(Authority::open(&folder.0, "cluster.local", now()), Err(CaError::Root { .. })));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "half a f");
    }

    #[test]
    fn only_the_owner_can_read_the_root_key() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("mode");
        authority(&folder);
        assert_eq!(std::fs::metadata(folder.0.join(root::ROOT_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_names_the_identity_critically_and_nothing_else() {
        let folder = Folder::new("leaf");
        let authority = authority(&folder);
        let csr = request(|p| p.distinguished_name.push(rcgen::DnType::CommonName, "admin"));
        let issued = authority.sign(&csr, &frontend(), None, now()).unwrap();
        assert_eq!(issued.chain.len(), 2);
        assert_eq!(issued.chain[1], authority.root_pem());
        let (_, block) = x509_parser::pem::parse_x509_pem(issued.chain[0].as_bytes()).unwrap();
        let leaf = block.parse_x509().unwrap();
        assert_eq!(leaf.subject().iter().count(), 0);
        let san = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(san.critical);
        assert_eq!(san.value.general_names, [GeneralName::URI("spiffe://cluster.local/ns/default/sa/frontend")]);
        assert!(!leaf.is_ca());
        let seconds = |t: SystemTime| i64::try_from(t.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
        assert_eq!(leaf.validity().not_before.timestamp(), seconds(now() - BACKDATE));
        assert_eq!(leaf.validity().not_after.timestamp(), seconds(now() + TTL_DEFAULT));
        let (_, root) = x509_parser::pem::parse_x509_pem(issued.chain[1].as_bytes()).unwrap();
        leaf.verify_signature(Some(root.parse_x509().unwrap().public_key())).unwrap();
    }

    #[test]
    fn asking_for_another_identity_is_refused() {
        let folder = Folder::new("other");
        let uri = "spiffe://cluster.local/ns/default/sa/admin";
        let csr = request(|p| p.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())]);
        let refused = authority(&folder).sign(&csr, &frontend(), None, now());
        assert!(matches!(refused, Err(CaError::OtherIdentity { asked, .. }) if asked == uri));
    }

    #[test]
    fn extensions_we_do_not_know_are_tolerated() {
        let folder = Folder::new("extension");
        let csr = request(|p| p.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0])]);
        assert!(authority(&folder).sign(&csr, &frontend(), None, now()).is_ok());
    }

    #[test]
    fn a_request_with_a_broken_signature_is_refused() {
        let folder = Folder::new("signature");
        let mut block = pem::parse(request(|_| {})).unwrap().into_contents();
        *block.last_mut().unwrap() ^= 1;
        let csr = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", block));
        assert!(matches!(authority(&folder).sign(&csr, &frontend(), None, now()), Err(CaError::BadRequest(_))));
    }

    #[test]
    fn garbage_is_refused_without_panic() {
        let folder = Folder::new("garbage");
        let authority = authority(&folder);
        for text in ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"] {
            assert!(matches!(authority.sign(text, &frontend(), None, now()), Err(CaError::BadRequest(_))), "{text:?}");
        }
    }

    #[test]
    fn a_lifetime_above_the_maximum_is_refused_and_none_outlives_the_root() {
        let folder = Folder::new("lifetime");
        let authority = authority(&folder);
        let csr = request(|_| {});
        let refused = authority.sign(&csr, &frontend(), Some(TTL_MAX + Duration::from_secs(1)), now());
        assert!(matches!(refused, Err(CaError::LifetimeTooLong { .. })));
        let late = now() + ROOT_TTL - Duration::from_secs(60);
        assert_eq!(authority.sign(&csr, &frontend(), None, late).unwrap().not_after, authority.root_not_after());
    }

    #[test]
    fn the_server_certificate_carries_its_names() {
        let folder = Folder::new("server");
        let server = authority(&folder).server(&["istiod.istio-system.svc".to_owned()], TTL_DEFAULT, now()).unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(server.chain_pem.as_bytes()).unwrap();
        let leaf = block.parse_x509().unwrap();
        let san = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(san.value.general_names, [GeneralName::DNSName("istiod.istio-system.svc")]);
    }
}
