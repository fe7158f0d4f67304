//! The words both halves of the mesh share: ports, labels, annotations, names, identities and findings.
//!
//! - Rule: every port, label, annotation, header and well-known name is a constant here and nowhere else.
//! - Rule: no I/O, no clock, no environment.
//! - Not here: Istio's resources (`istio-api`), Envoy's messages (`envoy-api`), what any of them means (`kinds`, `plan`).

#![forbid(unsafe_code)]

pub mod annotations;
pub mod finding;
pub mod go_duration;
pub mod headers;
pub mod host;
pub mod labels;
pub mod names;
pub mod ports;
pub mod spiffe;

pub use finding::{Code, Finding, Findings, Location, Severity};
pub use host::Host;
pub use spiffe::SpiffeId;
