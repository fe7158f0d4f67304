//! The self-signed root: made once, kept on disk, the same after every restart.
//!
//! - Reads: `ca.pem` (key and certificate in one file, so that it can never be half there) in the state folder; writes it once,
//!   and `root-cert.pem` (the certificate alone) beside it.
//! - Rule: a file is written to a temporary name, synced, and put in place in one step; of two processes that start at once, one wins and the other reads.
//! - Limits: a file above `FILE_BYTES_MAX` is refused.

use crate::{BACKDATE, CaError, ROOT_TTL};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

/// Key and certificate of the root.
pub const ROOT_FILE: &str = "ca.pem";
/// The root certificate alone, for those who have to trust it.
pub const ROOT_CERT_FILE: &str = "root-cert.pem";
/// A key and a certificate take some 1 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The root's key and certificate.
pub struct Root {
    /// Private key.
    pub key: KeyPair,
    /// Certificate, PEM.
    pub certificate_pem: String,
}

/// Reads the root from `folder`, or makes one there.
///
/// # Errors
/// [`CaError::Root`] when the folder cannot be used or the file in it is not a root. An existing file is never replaced.
pub fn open(folder: &Path, organization: &str, now: SystemTime) -> Result<Root, CaError> {
    let path = folder.join(ROOT_FILE);
    let fail = |reason: String| CaError::Root { path: path.clone(), reason };
    if !path.exists() {
        let text = generate(organization, now)?;
        fs::create_dir_all(folder).map_err(|e| fail(e.to_string()))?;
        write_new(folder, &path, &text, 0o600).map_err(|e| fail(e.to_string()))?;
    }
    let root = parse(&read(&path).map_err(&fail)?).map_err(&fail)?;
    let public = folder.join(ROOT_CERT_FILE);
    if fs::read_to_string(&public).ok().as_deref() != Some(root.certificate_pem.as_str()) {
        replace(folder, &public, &root.certificate_pem).map_err(|e| CaError::Root { path: public, reason: e.to_string() })?;
    }
    Ok(root)
}

fn generate(organization: &str, now: SystemTime) -> Result<String, CaError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + ROOT_TTL).into();
    params.serial_number = Some(crate::authority::serial()?);
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut text = String::new();
    let bytes = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

fn parse(text: &str) -> Result<Root, String> {
    let blocks = pem::parse_many(text).map_err(|e| format!("not PEM: {e}"))?;
    let key = blocks.iter().find(|b| b.tag().ends_with("PRIVATE KEY")).ok_or("no private key in it")?;
    let certificate = blocks.iter().find(|b| b.tag() == "CERTIFICATE").ok_or("no certificate in it")?;
    let key = KeyPair::from_pem(&pem::encode(key)).map_err(|e| format!("private key: {e}"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate.contents()).map_err(|e| format!("certificate: {e}"))?;
    if !parsed.is_ca() {
        return Err("the certificate is not one of a certificate authority".to_owned());
    }
    if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
        return Err("key and certificate do not belong together".to_owned());
    }
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(Root { key, certificate_pem: pem::encode_config(certificate, config) })
}

/// Puts a file in place unless one is already there.
fn write_new(folder: &Path, path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let temporary = folder.join(format!(".{ROOT_FILE}.{}", std::process::id()));
    write_synced(&temporary, text, mode)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.and_then(|()| File::open(folder)?.sync_all()),
    }
}

fn replace(folder: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = folder.join(format!(".{ROOT_CERT_FILE}.{}", std::process::id()));
    write_synced(&temporary, text, 0o644)?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
