//! The certificate service: Istio's `CreateCertificate` over our authority.
//!
//! - Reads: `istio.v1.auth.IstioCertificateRequest`.
//! - Twin: `agent/src/identity.rs`, the caller.
//! - Rule: the certificate names the caller as authenticated, whatever it asks for.

use crate::auth::Authenticator;
use crate::metrics::Metrics;
use lateen_ca::{Authority, CaError};
use lateen_envoy_api::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use lateen_xds::r#gen::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tonic::{Request, Response, Status};

/// The service.
pub struct Certificates {
    /// Signs.
    pub authority: Arc<Authority>,
    /// Tells who calls.
    pub authenticator: Arc<Authenticator>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl IstioCertificateService for Certificates {
    async fn create_certificate(&self, request: Request<IstioCertificateRequest>) -> Result<Response<IstioCertificateResponse>, Status> {
        self.metrics.add("citadel_server_csr_count", "", 1);
        let now = SystemTime::now();
        let identity = self.authenticator.identify(request.metadata(), request.extensions(), now).inspect_err(|_| {
            self.metrics.add("citadel_server_authentication_failure_count", "", 1);
        })?;
        let Some(identity) = identity else {
            self.metrics.add("citadel_server_authentication_failure_count", "", 1);
            return Err(Status::unauthenticated("a certificate is issued only to a caller that shows a token or a certificate"));
        };
        let request = request.into_inner();
        let seconds = u64::try_from(request.validity_duration)
            .map_err(|_| Status::invalid_argument(format!("validity_duration {} is negative; use 0 for the default", request.validity_duration)))?;
        match self.authority.sign(&request.csr, &identity, Some(Duration::from_secs(seconds)), now) {
            Ok(issued) => {
                self.metrics.add("citadel_server_success_cert_issuance_count", "", 1);
                tracing::debug!(%identity, "certificate issued");
                Ok(Response::new(IstioCertificateResponse { cert_chain: issued.chain }))
            }
            Err(error) => {
                self.metrics.add("citadel_server_csr_sign_err_count", "", 1);
                tracing::warn!(%identity, %error, "certificate refused");
                Err(status(&error))
            }
        }
    }
}

fn status(error: &CaError) -> Status {
    match error {
        CaError::BadRequest(_) | CaError::LifetimeTooLong { .. } => Status::invalid_argument(error.to_string()),
        CaError::OtherIdentity { .. } => Status::permission_denied(error.to_string()),
        CaError::Root { .. } | CaError::Signing(_) => Status::internal(error.to_string()),
    }
}
