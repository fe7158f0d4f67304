//! `RequestAuthentication` as a user writes it: every field of the Istio message, typed and strict.
//!
//! - Reads: `security.istio.io` objects, the `spec` part (`istio.security.v1beta1`).
//! - Rule: an unknown field, a wrong type or an unknown enum word is an error; a missing field is its proto3 default.
//! - Not here: what the fields mean, their validation and Istio's later defaults (`kinds/src/request_authentication/`).
#![allow(
    missing_docs,
    reason = "fields carry Istio's own names, documented at istio.io/latest/docs/reference/config"
)]

use serde::{Deserialize, Serialize};

use crate::common::{PolicyTargetReference, WorkloadSelector};
use crate::duration::GoDuration;

/// `istio.security.v1beta1.RequestAuthentication`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RequestAuthentication {
    pub selector: Option<WorkloadSelector>,
    pub target_ref: Option<PolicyTargetReference>,
    pub target_refs: Vec<PolicyTargetReference>,
    pub jwt_rules: Vec<JWTRule>,
}

/// `istio.security.v1beta1.JWTRule`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct JWTRule {
    pub issuer: String,
    pub audiences: Vec<String>,
    pub jwks_uri: String,
    pub jwks: String,
    pub from_headers: Vec<JWTHeader>,
    pub from_params: Vec<String>,
    pub output_payload_to_header: String,
    pub from_cookies: Vec<String>,
    pub forward_original_token: bool,
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    pub timeout: Option<GoDuration>,
    pub space_delimited_claims: Vec<String>,
}

/// `istio.security.v1beta1.JWTHeader`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct JWTHeader {
    pub name: String,
    pub prefix: String,
}

/// `istio.security.v1beta1.ClaimToHeader`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClaimToHeader {
    pub header: String,
    pub claim: String,
}
