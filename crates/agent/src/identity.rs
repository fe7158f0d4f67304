//! The workload's identity: a P-256 key that never leaves memory, and a certificate renewed at half its life.
//!
//! - Reads: the control plane's `CreateCertificate`.
//! - Twin: `control/src/certificates.rs`, the issuer.
//! - Rule: each certificate has a new key. A failed renewal keeps the old certificate and is retried; an expired one is reported at every try.
//! - Not here: the schedule's arithmetic (`schedule.rs`), handing the certificate to the proxy (`sds.rs`).

use crate::schedule;
use crate::upstream::Upstream;
use lateen_base::SpiffeId;
use lateen_envoy_api::istio::v1::auth::IstioCertificateRequest;
use lateen_xds::r#gen::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use lateen_xds::backoff::Backoff;
use lateen_xds::client;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// A call that takes longer is given up and tried again.
const CALL_MAX: Duration = Duration::from_secs(10);

/// Key and certificates in use.
#[derive(Debug)]
pub struct Identity {
    /// PEM certificates: leaf first.
    pub chain_pem: String,
    /// PKCS #8 key, PEM.
    pub key_pem: String,
    /// PEM certificates to trust.
    pub roots_pem: String,
    /// When the leaf expires.
    pub not_after: SystemTime,
}

/// Gets a first certificate and keeps it fresh, for ever. Each new one goes into `identities`.
pub async fn keep(upstream: Upstream, id: SpiffeId, lifetime: Duration, identities: watch::Sender<Option<Arc<Identity>>>) {
    loop {
        let identity = obtain(&upstream, &id, lifetime, &identities).await;
        let left = identity.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        let wait = schedule::renew_after(left, client::jitter());
        tracing::info!(%id, valid_for = ?left, renew_in = ?wait, "certificate issued");
        identities.send_replace(Some(Arc::new(identity)));
        tokio::time::sleep(wait.max(Duration::from_secs(1))).await;
    }
}

async fn obtain(upstream: &Upstream, id: &SpiffeId, lifetime: Duration, identities: &watch::Sender<Option<Arc<Identity>>>) -> Identity {
    let started = Instant::now();
    let mut backoff = Backoff::new(schedule::RETRY_FIRST, schedule::RETRY_MAX_RENEWING);
    let mut reported = Duration::ZERO;
    loop {
        let error = match request(upstream, id, lifetime).await {
            Ok(identity) => return identity,
            Err(error) => error,
        };
        let held = identities.borrow().clone();
        let expired = held.as_ref().is_some_and(|i| i.not_after <= SystemTime::now());
        // The control plane may start after us: the first seconds of failures are normal, then one line per second is enough.
        if started.elapsed() >= reported + Duration::from_secs(1) {
            reported = started.elapsed();
            if expired {
                tracing::error!(%id, error, "certificate has EXPIRED and cannot be renewed; new mutual TLS connections fail until the control plane answers");
            } else {
                tracing::warn!(%id, error, "no certificate from the control plane yet; trying again");
            }
        }
        let wait = backoff.next(client::jitter()).min(schedule::retry_max(held.is_some(), started.elapsed()));
        tokio::time::sleep(wait).await;
    }
}

async fn request(upstream: &Upstream, id: &SpiffeId, lifetime: Duration) -> Result<Identity, String> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| e.to_string())?;
    let csr = csr(&key, id)?;
    let connect = upstream.clone();
    let connector: client::Connector = Arc::new(move || {
        let upstream = connect.clone();
        Box::pin(async move { upstream.connect().await.map(|s| Box::new(s) as Box<dyn client::Io>) })
    });
    let channel = client::connect(&connector).await?;
    let validity_duration = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let mut call = tonic::Request::new(IstioCertificateRequest { csr, validity_duration, ..Default::default() });
    let bearer = upstream.bearer().map_err(|e| e.to_string())?;
    call.metadata_mut().insert("authorization", bearer.parse().map_err(|_| "the token is not ASCII".to_owned())?);
    call.set_timeout(CALL_MAX);
    let response = IstioCertificateServiceClient::new(channel).create_certificate(call).await.map_err(|s| format!("{:?}: {}", s.code(), s.message()))?;
    accept(response.into_inner().cert_chain, &key, id, &upstream.roots().map_err(|e| e.to_string())?)
}

fn csr(key: &KeyPair, id: &SpiffeId) -> Result<String, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let uri = id.to_string().try_into().map_err(|_| format!("identity {id} is not ASCII"))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.serialize_request(key).and_then(|r| r.pem()).map_err(|e| e.to_string())
}

/// Checks that the answer is for our key and our identity before it is used.
fn accept(chain: Vec<String>, key: &KeyPair, id: &SpiffeId, configured_roots: &str) -> Result<Identity, String> {
    let (Some(leaf), Some(root), true) = (chain.first(), chain.last(), chain.len() >= 2) else {
        return Err(format!("the control plane answered with {} certificates; a leaf and a root are expected", chain.len()));
    };
    let (_, block) = x509_parser::pem::parse_x509_pem(leaf.as_bytes()).map_err(|e| format!("leaf: {e}"))?;
    let certificate = block.parse_x509().map_err(|e| format!("leaf: {e}"))?;
    if certificate.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(key) {
        return Err("the certificate is for another key".to_owned());
    }
    let san = certificate.subject_alternative_name().map_err(|e| e.to_string())?;
    let named = san.is_some_and(|s| s.value.general_names.iter().any(|n| matches!(n, x509_parser::extensions::GeneralName::URI(u) if *u == id.to_string())));
    if !named {
        return Err(format!("the certificate does not name {id}"));
    }
    let not_after = SystemTime::from(certificate.validity().not_after.to_datetime());
    let mut roots_pem = configured_roots.to_owned();
    if !configured_roots.contains(root.trim()) {
        if !roots_pem.ends_with('\n') {
            roots_pem.push('\n');
        }
        roots_pem.push_str(root);
    }
    let chain_pem = chain.get(..chain.len() - 1).unwrap_or_default().concat();
    Ok(Identity { chain_pem, key_pem: key.serialize_pem(), roots_pem, not_after })
}
