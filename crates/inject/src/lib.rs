//! Injection: a pod and the mesh's options to the pod with its sidecar.
//!
//! - Reads: `v1` Pod, the labels of its namespace, Istio's annotations on the pod.
//! - Rule: pure; the webhook, the command line and `lateen up` share it.
//! - Rule: the application's containers keep their image, command, arguments and environment; only probes are redirected to the agent.
//! - Not here: interception rules (`local/src/interception.rs`), what the sidecar does (`agent`, `proxy`).
#![forbid(unsafe_code)]

pub mod policy;
pub mod probes;
pub mod sidecar;

pub use policy::{Decision, NamespaceOrigin, decide, namespace_injects};
pub use sidecar::{InjectOptions, gateway_container, inject};
