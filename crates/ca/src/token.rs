//! Tokens: the projected service-account JWT by which a pod proves its namespace and service account.
//!
//! - Reads: `Authorization: Bearer` tokens (RFC 7519), ES256 only, audience `istio-ca`.
//! - Twin: `local/src/supervisor/tokens.rs`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
    use serde_json::{Value, json};

    const NOW: u64 = 1_800_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    struct Issuer {
        key: KeyPair,
    }

    impl Issuer {
        fn new() -> Self {
            Self { key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap() }
        }
        fn verifier(&self) -> TokenVerifier {
            TokenVerifier::new(&self.key.public_key_pem(), "istio-ca").unwrap()
        }
        fn token(&self, claims: &Value) -> String {
            let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
            jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &key).unwrap()
        }
    }

    fn claims() -> Value {
        json!({
            "sub": "system:serviceaccount:default:frontend", "aud": ["istio-ca"], "exp": NOW + 3600,
            "kubernetes.io": {"namespace": "default", "pod": {"name": "frontend-1", "uid": "u"}, "serviceaccount": {"name": "frontend"}}
        })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[key] = value;
        claims
    }

    #[test]
    fn a_good_token_gives_namespace_account_and_pod() {
        let issuer = Issuer::new();
        let caller = issuer.verifier().verify(&issuer.token(&claims()), now()).unwrap();
        assert_eq!(caller, Caller { namespace: "default".into(), service_account: "frontend".into(), pod: Some("frontend-1".into()) });
        assert_eq!(caller.identity("td").to_string(), "spiffe://td/ns/default/sa/frontend");
    }

    #[test]
    fn a_token_for_another_audience_is_refused() {
        let issuer = Issuer::new();
        let token = issuer.token(&with("aud", json!(["https://kubernetes.default.svc"])));
        assert!(matches!(issuer.verifier().verify(&token, now()), Err(TokenError::Invalid(_))));
    }

    #[test]
    fn an_expired_token_is_refused_and_a_minute_of_skew_is_not() {
        let issuer = Issuer::new();
        assert_eq!(issuer.verifier().verify(&issuer.token(&with("exp", json!(NOW - 61))), now()), Err(TokenError::Expired));
        assert!(issuer.verifier().verify(&issuer.token(&with("exp", json!(NOW - 59))), now()).is_ok());
    }

    #[test]
    fn a_token_from_the_future_is_refused() {
        let issuer = Issuer::new();
        assert_eq!(issuer.verifier().verify(&issuer.token(&with("nbf", json!(NOW + 3600))), now()), Err(TokenError::NotYetValid));
    }

    #[test]
    fn a_token_without_expiry_is_refused() {
        let issuer = Issuer::new();
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove("exp");
        assert!(matches!(issuer.verifier().verify(&issuer.token(&claims), now()), Err(TokenError::Invalid(_))));
    }

    #[test]
    fn a_token_without_signature_is_refused() {
        let issuer = Issuer::new();
        let token = issuer.token(&claims());
        let body = token.split('.').nth(1).unwrap();
        // {"alg":"none","typ":"JWT"}
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
        assert!(matches!(issuer.verifier().verify(&none, now()), Err(TokenError::Invalid(_))));
    }

    #[test]
    fn a_token_of_another_key_is_refused() {
        let token = Issuer::new().token(&claims());
        assert!(matches!(Issuer::new().verifier().verify(&token, now()), Err(TokenError::Invalid(_))));
    }

    #[test]
    fn claims_that_contradict_the_subject_are_refused() {
        let issuer = Issuer::new();
        let token = issuer.token(&with("sub", json!("system:serviceaccount:default:admin")));
        assert!(matches!(issuer.verifier().verify(&token, now()), Err(TokenError::Invalid(_))));
    }

    #[test]
    fn odd_subjects_are_refused() {
        let issuer = Issuer::new();
        for subject in ["frontend", "system:serviceaccount:default", "system:serviceaccount::x", "system:serviceaccount:a/b:c"] {
            let mut claims = with("sub", json!(subject));
            claims.as_object_mut().unwrap().remove("kubernetes.io");
            assert!(issuer.verifier().verify(&issuer.token(&claims), now()).is_err(), "{subject}");
        }
    }
}
