//! The data plane: accepts connections, routes them by the plan, and carries their bytes.
//!
//! One request's way: `listener/accept.rs` → `listener/inspect.rs` → `listener/match.rs` → `transport/tls.rs` → `network/` →
//! `http/` and `filters/` → `cluster/` → `transport/`.
//!
//! - Reads: an Envoy bootstrap (`bootstrap.rs`), then xDS (`xds.rs`), both through crate `plan`.
//! - Rule: one worker thread per core; a worker shares nothing but atomics and immutable plans with the others.
//! - Not here: what configuration means (`plan`), the xDS protocol (`xds` crate), HTTP/1.1 parsing (`http1`).

#![forbid(unsafe_code)]

pub mod bootstrap;
pub mod buffer;
pub mod listener;
pub mod log_sink;
pub mod transport;
