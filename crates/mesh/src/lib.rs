//! The mesh at one moment, typed: every object, service, workload and endpoint, and the node that asks about them.
//!
//! - Reads: typed Istio and Kubernetes objects, put together by `source`.
//! - Rule: a [`Snapshot`] never changes; a change makes a new one that shares what stayed.
//! - Rule: pure. No clock, files, environment or randomness.
//! - Not here: meaning of fields (`kinds`), assembly of xDS (`compile`).

#![forbid(unsafe_code)]

mod export_to;
mod kubernetes;
mod lookup;
mod mesh_config;
mod meta;
mod protocol;
mod proxy;
mod service;
mod service_entry;
mod snapshot;
mod workload;

pub use export_to::ExportTo;
pub use lookup::{MtlsMode, gateway_name};
pub use mesh_config::{AccessLogEncoding, MeshConfig, NormalizationType, OutboundMode};
pub use meta::{Meta, Object, selects};
pub use protocol::Protocol;
pub use proxy::{BadNode, DEFAULT_CLUSTER_ID, NodeType, Proxy};
pub use service::{Registry, Resolution, Service, ServicePort, TargetPort};
pub use snapshot::{Parts, Snapshot};
pub use workload::{Endpoint, Health, Locality, TlsMode, Workload, canonical_name, canonical_revision};
