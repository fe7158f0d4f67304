//! The certificate authority: SPIFFE certificates for workloads, a server certificate for the control plane, and the check of the
//! tokens that prove who asks.
//!
//! - Reads: PEM certificate requests, projected service-account tokens.
//! - Rule: a certificate names the authenticated identity and nothing else; whatever the request asks for beyond its key is ignored or refused.
//! - Rule: the clock is an argument.
//! - Not here: transport (`control`), rotation of a workload's certificate (`agent`).

#![forbid(unsafe_code)]

pub mod authority;
pub mod csr;
pub mod root;
pub mod token;

pub use authority::{Authority, Issued, ServerCertificate};
pub use token::{Caller, TokenVerifier};

use std::path::PathBuf;
use std::time::Duration;

/// Lifetime of a workload certificate where the request names none. Source: Istio's `DEFAULT_WORKLOAD_CERT_TTL`.
pub const TTL_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Longest lifetime a request may ask for. Source: Istio's `MAX_WORKLOAD_CERT_TTL`.
pub const TTL_MAX: Duration = Duration::from_secs(90 * 24 * 3600);
/// Lifetime of a self-signed root. Source: Istio's `CITADEL_SELF_SIGNED_CA_CERT_TTL`.
pub const ROOT_TTL: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Certificates are valid from this long before their issue, for clocks that run behind.
pub const BACKDATE: Duration = Duration::from_secs(120);

/// Why a certificate was not issued.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The request is not a usable certificate request.
    #[error("certificate request refused: {0}")]
    BadRequest(String),
    /// The request asks for somebody else's identity.
    #[error("certificate request asks for {asked}, but the caller is {caller}; a workload gets its own identity only")]
    OtherIdentity {
        /// What the request named.
        asked: String,
        /// Who asked.
        caller: String,
    },
    /// The lifetime asked for is too long.
    #[error("certificate lifetime of {asked:?} is above the maximum of {max:?}; ask for less or raise the control plane's maximum")]
    LifetimeTooLong {
        /// Lifetime asked for.
        asked: Duration,
        /// The limit.
        max: Duration,
    },
    /// The root's file cannot be read, written or understood.
    #[error("certificate authority root {path}: {reason}; restore the file from a backup, or delete it to start with a new root (all workloads then need new certificates)")]
    Root {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Signing itself failed.
    #[error("signing failed: {0}")]
    Signing(String),
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Signing(error.to_string())
    }
}
