//! `PeerAuthentication` as a user writes it: every field of the Istio message, typed and strict.
//!
//! - Reads: `security.istio.io` objects, the `spec` part (`istio.security.v1beta1`).
//! - Rule: an unknown field, a wrong type or an unknown enum word is an error; a missing field is its proto3 default.
//! - Not here: what the fields mean, their validation and Istio's later defaults (`kinds/src/peer_authentication/`).
#![allow(
    missing_docs,
    reason = "fields carry Istio's own names, documented at istio.io/latest/docs/reference/config"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::WorkloadSelector;

/// `istio.security.v1beta1.PeerAuthentication`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PeerAuthentication {
    pub selector: Option<WorkloadSelector>,
    pub mtls: Option<MutualTLS>,
    pub port_level_mtls: BTreeMap<u32, MutualTLS>,
}

/// `istio.security.v1beta1.PeerAuthentication.MutualTLS`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct MutualTLS {
    pub mode: MutualTLSMode,
}

/// `istio.security.v1beta1` enum `Mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MutualTLSMode {
    #[default]
    #[serde(rename = "UNSET")]
    Unset,
    #[serde(rename = "DISABLE")]
    Disable,
    #[serde(rename = "PERMISSIVE")]
    Permissive,
    #[serde(rename = "STRICT")]
    Strict,
}
