//! Service-account tokens: what a pod proves its identity with to the certificate service.
//!
//! - Reads: the mesh's token key in the state folder; makes it once.
//! - Twin: `ca/src/token.rs`, which verifies them.
//! - Source: Kubernetes' projected service-account tokens (bound to the pod).

use crate::state_dir;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use lateen_kube_api::ObjectMeta;
use lateen_sys::mount::write_file;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a token is valid; it is written anew at half of it.
pub(crate) const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// Signs tokens.
pub(crate) struct TokenIssuer {
    key: EncodingKey,
}

impl TokenIssuer {
    /// The issuer of the mesh in this folder, with a new key if there is none.
    ///
    /// # Errors
    /// When the key cannot be read or written.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = state_dir::token_key(folder);
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?.serialize_pem();
                write_file(&path, pem.as_bytes(), 0o600)?;
                pem
            }
            Err(error) => return Err(error),
        };
        let pair = KeyPair::from_pem(&pem).map_err(|error| io::Error::other(format!("{}: {error}; delete the file to make a new key", path.display())))?;
        write_file(&state_dir::token_public_key(folder), pair.public_key_pem().as_bytes(), 0o644)?;
        let key = EncodingKey::from_ec_pem(pem.as_bytes()).map_err(io::Error::other)?;
        Ok(Self { key })
    }

    /// A token for a pod with this audience.
    ///
    /// # Errors
    /// When signing fails.
    pub(crate) fn issue(&self, pod: &ObjectMeta, account: &str, audience: &str, now: SystemTime) -> io::Result<String> {
        let issued = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let claims = json!({
            "iss": "https://kubernetes.default.svc.cluster.local",
            "sub": format!("system:serviceaccount:{}:{account}", pod.namespace),
            "aud": [audience],
            "iat": issued, "nbf": issued, "exp": issued + TOKEN_TTL.as_secs(),
            "kubernetes.io": {"namespace": pod.namespace, "pod": {"name": pod.name, "uid": pod.uid}, "serviceaccount": {"name": account}},
        });
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_base::names;

    #[test]
    fn the_certificate_authority_accepts_the_token_and_reads_the_identity() {
        let folder = std::env::temp_dir().join(format!("lateen-token-{}", std::process::id()));
        let issuer = TokenIssuer::open(&folder).unwrap();
        let pod = ObjectMeta { name: "web-1".into(), namespace: "shop".into(), uid: "u".into(), ..ObjectMeta::default() };
        let now = SystemTime::now();
        let token = issuer.issue(&pod, "web", names::TOKEN_AUDIENCE, now).unwrap();
        let public = fs::read_to_string(state_dir::token_public_key(&folder)).unwrap();
        let caller = lateen_ca::TokenVerifier::new(&public, names::TOKEN_AUDIENCE).unwrap().verify(&token, now).unwrap();
        assert_eq!((caller.namespace.as_str(), caller.service_account.as_str()), ("shop", "web"));
        fs::remove_dir_all(folder).unwrap();
    }
}
