//! The data half's configuration: Envoy resources in, a checked immutable [`Plan`] out, and every decision a proxy takes.
//!
//! - Reads: `envoy.config.{listener, route, cluster, endpoint}.v3` and TLS secrets, as the control plane sends them.
//! - Twin: `compile`, which writes those resources.
//! - Rule: pure. No clock, no randomness, no I/O: callers bring `now` and draws. Decisions allocate nothing on the usual path.
//! - Rule: what is not understood is [`Rejected`] by name; nothing that was asked for is ignored in silence.
//! - Not here: sockets and streams (`proxy`), the protocol (`xds`), log lines and metrics (`telemetry`).

#![forbid(unsafe_code)]
#![allow(deprecated, reason = "control planes still send fields that Envoy calls deprecated, Istio among them")]

pub mod access_log;
mod address;
mod any;
pub mod builder;
pub mod cluster;
pub mod fault;
pub mod fraction;
pub mod http;
pub mod lb;
pub mod listener;
pub mod names;
pub mod normalize;
pub mod outlier;
pub mod plan;
pub mod rbac;
pub mod rejected;
pub mod request;
pub mod route;
pub mod string_match;
mod time;
pub mod trace;
pub mod understood;

pub use address::bind_config;
pub use builder::{Applied, PlanBuilder, Resource};
pub use names::{Name, NameMap};
pub use plan::Plan;
pub use rejected::Rejected;
pub use request::{Connection, RequestView};
pub use trace::{Silent, Trace, Tracer};
