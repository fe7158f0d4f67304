//! Secrets: keys and trust bundles by name, and the TLS configurations made of them.
//!
//! - Reads: `extensions.transport_sockets.tls.v3.Secret` over SDS or ADS, files and inline bytes of a bootstrap.
//! - Twin: `agent/src/sds.rs`, which serves `default` and `ROOTCA`.
//! - Rule: a secret is parsed when it arrives; a bad one is refused and the last good one stays.
//! - Rule: workers hold an immutable [`Secrets`]; a rotation swaps it, and the next handshake uses the new certificate.
//! - Limits: [`SECRET_FILE_BYTES_MAX`] per file.
//! - Not here: asking for secrets (`xds`), handshakes (`tls`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use lateen_plan::listener::tls::{CaSource, CertificateSource, CommonTls, DataSource, DownstreamTls, SanKind, SanMatch, SdsRef, SecretBody, TlsCertificate, TlsVersion, UpstreamTls};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::certificate::PeerCertificate;
use super::tls::{self, ClientCertificate, KeyPair, NamesAccepted, Trust, Versions};

/// Largest file read for one secret.
pub const SECRET_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One secret, parsed.
#[derive(Debug, Clone)]
pub enum Material {
    /// A key and its certificates.
    Key(Arc<KeyPair>),
    /// A trust bundle, and the names it restricts peers to.
    Trust(Arc<TrustBundle>),
}

/// Trust anchors as they arrived.
#[derive(Debug)]
pub struct TrustBundle {
    /// For verification.
    pub roots: Arc<RootCertStore>,
    /// Acceptable names; empty: any.
    pub san: Vec<SanMatch>,
    /// What the anchors say, for `/certs`.
    pub certificates: Vec<PeerCertificate>,
}

impl Material {
    /// Parses a secret.
    ///
    /// # Errors
    /// A sentence that names the unusable part.
    pub fn from_plan(body: &SecretBody) -> Result<Self, String> {
        match body {
            SecretBody::Certificate(certificate) => key_pair(certificate).map(Material::Key),
            SecretBody::Validation { trusted_ca, san } => bundle(trusted_ca, san.clone()).map(Material::Trust),
        }
    }
}

fn key_pair(certificate: &TlsCertificate) -> Result<Arc<KeyPair>, String> {
    KeyPair::from_pem(&bytes(&certificate.chain)?, &bytes(&certificate.key)?).map(Arc::new)
}

fn bundle(source: &DataSource, san: Vec<SanMatch>) -> Result<Arc<TrustBundle>, String> {
    let pem = bytes(source)?;
    let roots = Arc::new(tls::roots_from_pem(&pem)?);
    Ok(Arc::new(TrustBundle { roots, san, certificates: tls::certificates_of(&pem) }))
}

/// The bytes of a data source; files are read now.
fn bytes(source: &DataSource) -> Result<Vec<u8>, String> {
    match source {
        DataSource::Bytes(bytes) => Ok(bytes.to_vec()),
        DataSource::File(path) => {
            let told = |e: std::io::Error| format!("{path}: {e}; check the path and its permissions");
            let length = std::fs::metadata(&**path).map_err(told)?.len();
            if length > SECRET_FILE_BYTES_MAX {
                return Err(format!("{path}: {length} bytes is more than {SECRET_FILE_BYTES_MAX}"));
            }
            std::fs::read(&**path).map_err(told)
        }
    }
}

/// All secrets at one moment.
#[derive(Debug, Default, Clone)]
pub struct Secrets {
    map: HashMap<SdsRef, Material>,
}

impl Secrets {
    /// Adds or replaces a secret.
    pub fn insert(&mut self, name: SdsRef, material: Material) {
        self.map.insert(name, material);
    }

    /// Forgets a secret the control plane withdrew.
    pub fn remove(&mut self, name: &SdsRef) {
        self.map.remove(name);
    }

    /// Whether the secret has arrived.
    pub fn contains(&self, name: &SdsRef) -> bool {
        self.map.contains_key(name)
    }

    /// Every secret, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&SdsRef, &Material)> {
        self.map.iter()
    }

    fn key(&self, name: &SdsRef) -> Option<Arc<KeyPair>> {
        match self.map.get(name) {
            Some(Material::Key(key)) => Some(Arc::clone(key)),
            Some(Material::Trust(_)) | None => None,
        }
    }

    fn trust(&self, name: &SdsRef) -> Option<Arc<TrustBundle>> {
        match self.map.get(name) {
            Some(Material::Trust(trust)) => Some(Arc::clone(trust)),
            Some(Material::Key(_)) | None => None,
        }
    }
}

/// Secrets a context refers to by name.
pub fn references(common: &CommonTls) -> impl Iterator<Item = &SdsRef> {
    let certificate = match &common.certificate {
        Some(CertificateSource::Sds(name)) => Some(name),
        Some(CertificateSource::Inline(_)) | None => None,
    };
    let trust = match common.validation.as_ref().map(|v| &v.trusted_ca) {
        Some(CaSource::Sds(name)) => Some(name),
        Some(CaSource::Inline(_) | CaSource::Unchecked) | None => None,
    };
    certificate.into_iter().chain(trust)
}

/// A TLS configuration ready for handshakes.
#[derive(Debug)]
pub struct Ready<Config> {
    /// For rustls.
    pub config: Arc<Config>,
    /// What this side shows; `None` when it shows nothing.
    pub local: Option<Arc<KeyPair>>,
}

impl<Config> Clone for Ready<Config> {
    fn clone(&self) -> Self {
        Ready { config: Arc::clone(&self.config), local: self.local.clone() }
    }
}

/// The parts a configuration was made of; when all are still the same objects, so is the configuration.
struct Parts {
    key: Option<Arc<KeyPair>>,
    trust: Option<Arc<TrustBundle>>,
}

impl Parts {
    fn same(&self, other: &Parts) -> bool {
        let key = match (&self.key, &other.key) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        key && match (&self.trust, &other.trust) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

struct Entry<Context, Config> {
    /// Keeps the address, which is the key, from being used again.
    _context: Arc<Context>,
    parts: Parts,
    ready: Ready<Config>,
}

type Key = (usize, Option<Rc<[Vec<u8>]>>);

/// A worker's TLS configurations, made at the first handshake that needs them.
#[derive(Default)]
pub struct TlsCache {
    secrets: RefCell<Arc<Secrets>>,
    inline: RefCell<HashMap<usize, Parts>>,
    server: RefCell<HashMap<usize, Entry<DownstreamTls, ServerConfig>>>,
    client: RefCell<HashMap<Key, Entry<UpstreamTls, ClientConfig>>>,
}

impl TlsCache {
    /// The secrets now in force.
    pub fn swap(&self, secrets: Arc<Secrets>) {
        *self.secrets.borrow_mut() = secrets;
    }

    /// Forgets configurations of contexts that only this cache still holds; called after a plan swap.
    pub fn forget_unused(&self) {
        self.server.borrow_mut().retain(|_, e| Arc::strong_count(&e._context) > 1);
        self.client.borrow_mut().retain(|_, e| Arc::strong_count(&e._context) > 1);
        let (server, client) = (self.server.borrow(), self.client.borrow());
        self.inline.borrow_mut().retain(|at, _| server.contains_key(at) || client.keys().any(|(k, _)| k == at));
    }

    /// The configuration for accepting under `context`.
    ///
    /// # Errors
    /// A sentence: a secret has not arrived, or its parts do not fit together.
    pub fn server(&self, context: &Arc<DownstreamTls>) -> Result<Ready<ServerConfig>, String> {
        let at = Arc::as_ptr(context) as usize;
        let parts = self.parts(at, &context.common)?;
        if let Some(entry) = self.server.borrow().get(&at)
            && entry.parts.same(&parts)
        {
            return Ok(entry.ready.clone());
        }
        let key = parts.key.clone().ok_or("tls_certificates: a server needs a certificate")?;
        let trust = trust(&context.common, parts.trust.as_deref());
        let client = if context.require_client_certificate { ClientCertificate::Required } else { ClientCertificate::Optional };
        let config = tls::server_config(&key, trust.as_ref().map(|t| (t, client)), alpn(&context.common), versions(&context.common))?;
        let ready = Ready { config: Arc::new(config), local: Some(key) };
        let entry = Entry { _context: Arc::clone(context), parts, ready: ready.clone() };
        self.server.borrow_mut().insert(at, entry);
        Ok(ready)
    }

    /// The configuration for connecting under `context`; `alpn_override` replaces the context's protocols.
    ///
    /// # Errors
    /// As [`TlsCache::server`].
    pub fn client(&self, context: &Arc<UpstreamTls>, alpn_override: Option<&Rc<[Vec<u8>]>>) -> Result<Ready<ClientConfig>, String> {
        let at = Arc::as_ptr(context) as usize;
        let parts = self.parts(at, &context.common)?;
        let cache_key = (at, alpn_override.cloned());
        if let Some(entry) = self.client.borrow().get(&cache_key)
            && entry.parts.same(&parts)
        {
            return Ok(entry.ready.clone());
        }
        let trust = trust(&context.common, parts.trust.as_deref());
        let protocols = alpn_override.map_or_else(|| alpn(&context.common), |list| list.to_vec());
        let config = tls::client_config(parts.key.as_deref(), trust.as_ref(), protocols, versions(&context.common))?;
        let ready = Ready { config: Arc::new(config), local: parts.key.clone() };
        let entry = Entry { _context: Arc::clone(context), parts, ready: ready.clone() };
        self.client.borrow_mut().insert(cache_key, entry);
        Ok(ready)
    }

    fn parts(&self, at: usize, common: &CommonTls) -> Result<Parts, String> {
        let secrets = self.secrets.borrow();
        let missing = |name: &SdsRef| format!("secret {} has not arrived", name.name);
        let mut inline = self.inline.borrow_mut();
        let known = inline.get(&at);
        let key = match &common.certificate {
            None => None,
            Some(CertificateSource::Sds(name)) => Some(secrets.key(name).ok_or_else(|| missing(name))?),
            Some(CertificateSource::Inline(certificate)) => match known.and_then(|p| p.key.clone()) {
                Some(key) => Some(key),
                None => Some(key_pair(certificate)?),
            },
        };
        let trust = match common.validation.as_ref().map(|v| &v.trusted_ca) {
            None | Some(CaSource::Unchecked) => None,
            Some(CaSource::Sds(name)) => Some(secrets.trust(name).ok_or_else(|| missing(name))?),
            Some(CaSource::Inline(source)) => match known.and_then(|p| p.trust.clone()) {
                Some(trust) => Some(trust),
                None => Some(bundle(source, Vec::new())?),
            },
        };
        inline.insert(at, Parts { key: key.clone(), trust: trust.clone() });
        Ok(Parts { key, trust })
    }
}

/// Anchors and names of a context, or `None` when it checks nothing.
fn trust(common: &CommonTls, bundle: Option<&TrustBundle>) -> Option<Trust> {
    let validation = common.validation.as_ref()?;
    // Envoy merges the context's names with the secret's into one list, of which one must match.
    let list: Vec<SanMatch> = validation.san.iter().chain(bundle.map(|b| b.san.as_slice()).unwrap_or_default()).cloned().collect();
    let names: Option<NamesAccepted> =
        if list.is_empty() { None } else { Some(Arc::new(move |peer: &PeerCertificate| list.iter().any(|san| san_matches(san, peer)))) };
    let roots = if validation.accept_untrusted { None } else { bundle.map(|b| Arc::clone(&b.roots)) };
    Some(Trust { roots, names })
}

fn san_matches(san: &SanMatch, peer: &PeerCertificate) -> bool {
    let any = |names: &[String]| names.iter().any(|name| san.matcher.is_match(name.as_bytes()));
    match san.kind {
        SanKind::Uri => any(&peer.uri_sans),
        SanKind::Dns => any(&peer.dns_sans),
        SanKind::Email => any(&peer.email_sans),
        SanKind::Ip => any(&peer.ip_sans),
        SanKind::Any => any(&peer.uri_sans) || any(&peer.dns_sans) || any(&peer.email_sans) || any(&peer.ip_sans),
    }
}

fn alpn(common: &CommonTls) -> Vec<Vec<u8>> {
    common.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

fn versions(common: &CommonTls) -> Versions {
    Versions { tls12: common.min_version <= TlsVersion::Tls12, tls13: common.max_version >= TlsVersion::Tls13 }
}
