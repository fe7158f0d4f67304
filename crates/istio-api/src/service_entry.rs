//! `ServiceEntry` as a user writes it: every field of the Istio message, typed and strict.
//!
//! - Reads: `networking.istio.io` objects, the `spec` part (`istio.networking.v1alpha3`).
//! - Rule: an unknown field, a wrong type or an unknown enum word is an error; a missing field is its proto3 default.
//! - Not here: what the fields mean, their validation and Istio's later defaults (`kinds/src/service_entry/`).
#![allow(
    missing_docs,
    reason = "fields carry Istio's own names, documented at istio.io/latest/docs/reference/config"
)]

use serde::{Deserialize, Serialize};

use crate::common::LabelSelector;
use crate::workload_entry::WorkloadEntry;

/// `istio.networking.v1alpha3.ServiceEntry`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceEntry {
    pub hosts: Vec<String>,
    pub addresses: Vec<String>,
    pub ports: Vec<ServicePort>,
    pub location: Location,
    pub resolution: Resolution,
    pub endpoints: Vec<WorkloadEntry>,
    pub workload_selector: Option<LabelSelector>,
    pub export_to: Vec<String>,
    pub subject_alt_names: Vec<String>,
}

/// `istio.networking.v1alpha3.ServicePort`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServicePort {
    #[serde(deserialize_with = "crate::number::plain")]
    pub number: u32,
    pub protocol: String,
    pub name: String,
    #[serde(deserialize_with = "crate::number::plain")]
    pub target_port: u32,
}

/// `istio.networking.v1alpha3` enum `Location`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Location {
    #[default]
    #[serde(rename = "MESH_EXTERNAL")]
    MeshExternal,
    #[serde(rename = "MESH_INTERNAL")]
    MeshInternal,
}

/// `istio.networking.v1alpha3` enum `Resolution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Resolution {
    #[default]
    #[serde(rename = "NONE")]
    None,
    #[serde(rename = "STATIC")]
    Static,
    #[serde(rename = "DNS")]
    Dns,
    #[serde(rename = "DNS_ROUND_ROBIN")]
    DnsRoundRobin,
    #[serde(rename = "DYNAMIC_DNS")]
    DynamicDns,
}
