//! Tokens: the projected service-account JWT by which a pod proves its namespace and service account.
//!
//! - Reads: `Authorization: Bearer` tokens (RFC 7519), ES256 only, audience `istio-ca`.
//! - Rule: the algorithm is ours, never the token's; a token without expiry is refused; namespace and service account come from `sub`,
//!   and the `kubernetes.io` claim must agree with it.
//! - Limits: `TOKEN_BYTES_MAX`; `SKEW` of clock difference.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use lateen_base::SpiffeId;
use serde::Deserialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A projected token takes about 1 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Clock difference tolerated between issuer and verifier.
pub const SKEW: Duration = Duration::from_secs(60);
/// What `sub` starts with.
const SUBJECT_PREFIX: &str = "system:serviceaccount:";

/// Who a token says the caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Namespace of the service account.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
    /// Pod the token is bound to, if it says so.
    pub pod: Option<String>,
}

impl Caller {
    /// The caller's identity in `trust_domain`.
    #[must_use]
    pub fn identity(&self, trust_domain: &str) -> SpiffeId {
        SpiffeId::new(trust_domain, &self.namespace, &self.service_account)
    }
}

/// Why a token was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Signature, algorithm, audience or form.
    #[error("token refused: {0}")]
    Invalid(String),
    /// Its time is over.
    #[error("token expired; the workload has to read its renewed token file")]
    Expired,
    /// Its time has not come.
    #[error("token is not valid yet; compare the clocks")]
    NotYetValid,
    /// The verifying key is unusable.
    #[error("token verification key: {0}")]
    Key(String),
}

/// Verifies tokens against one public key.
pub struct TokenVerifier {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    nbf: Option<u64>,
    #[serde(default, rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    #[serde(default)]
    pod: Option<Reference>,
    serviceaccount: Reference,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
}

impl TokenVerifier {
    /// A verifier for tokens signed with the key whose public half is `public_key_pem` (P-256, SubjectPublicKeyInfo), meant for `audience`.
    ///
    /// # Errors
    /// [`TokenError::Key`] when the PEM is no P-256 public key.
    pub fn new(public_key_pem: &str, audience: &str) -> Result<Self, TokenError> {
        let key = DecodingKey::from_ec_pem(public_key_pem.as_bytes()).map_err(|e| TokenError::Key(e.to_string()))?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        // Times are checked against the caller's clock below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Ok(Self { key, validation })
    }

    /// Who `token` proves the caller to be at time `now`.
    ///
    /// # Errors
    /// Why the token is no proof.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Caller, TokenError> {
        let invalid = |reason: &str| TokenError::Invalid(reason.to_owned());
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("too long"));
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).map_err(|e| TokenError::Invalid(e.to_string()))?.claims;
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        if claims.exp.saturating_add(SKEW.as_secs()) < seconds {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > seconds.saturating_add(SKEW.as_secs())) {
            return Err(TokenError::NotYetValid);
        }
        let subject = claims.sub.strip_prefix(SUBJECT_PREFIX).ok_or_else(|| invalid("its subject is no service account"))?;
        let (namespace, service_account) = subject.split_once(':').ok_or_else(|| invalid("its subject names no service account"))?;
        let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if !plain(namespace) || !plain(service_account) {
            return Err(invalid("its subject is malformed"));
        }
        let pod = match claims.kubernetes {
            Some(k) if k.namespace != namespace || k.serviceaccount.name != service_account => return Err(invalid("its claims contradict each other")),
            Some(k) => k.pod.map(|p| p.name),
            None => None,
        };
        Ok(Caller { namespace: namespace.to_owned(), service_account: service_account.to_owned(), pod })
    }
}
