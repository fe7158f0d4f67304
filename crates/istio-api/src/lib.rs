//! Istio's resources as Rust types: one struct per Istio message, strict, in the field names of Istio's proto files.
//!
//! - Reads: the `spec` of Istio objects as JSON (YAML becomes JSON first, in `source`).
//! - Rule: unknown fields, wrong types and unknown enum words are errors. Absent fields take their proto3 default.
//! - Limits: JSON names only in camelCase, as Istio's CRDs have them.
//! - Not here: what a field means (`kinds`), object metadata (`kube-api`), `MeshConfig` (`mesh`).
#![forbid(unsafe_code)]

pub mod authorization_policy;
pub mod common;
pub mod destination_rule;
pub mod duration;
pub mod gateway;
pub mod number;
pub mod peer_authentication;
pub mod request_authentication;
pub mod service_entry;
pub mod sidecar;
pub mod telemetry;
pub mod virtual_service;
pub mod workload_entry;

pub use authorization_policy::*;
pub use common::*;
pub use destination_rule::*;
pub use duration::GoDuration;
pub use gateway::*;
pub use peer_authentication::*;
pub use request_authentication::*;
pub use service_entry::*;
pub use sidecar::*;
pub use telemetry::*;
pub use virtual_service::*;
pub use workload_entry::*;
