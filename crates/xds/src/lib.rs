//! xDS: how a proxy asks for its configuration and a control plane answers, both ends in one crate.
//!
//! - Reads: `envoy.service.discovery.v3` (aggregated, delta and state-of-the-world), `envoy.service.secret.v3`, `istio.v1.auth`.
//! - Rule: the protocol itself ([`client_session`], [`server_session`], [`backoff`]) is sans-I/O: messages in, messages out.
//!   [`client`] and [`server`] only move those messages over gRPC.
//! - Limits: see each module; every queue and set has a stated maximum.
//! - Not here: what a resource means (`compile` writes it, `plan` reads it), who may ask (`control`).

#![forbid(unsafe_code)]

pub mod backoff;
pub mod client;
pub mod client_session;
pub mod message;
pub mod server;
pub mod server_session;
pub mod types;

/// The generated gRPC services, clients and servers.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::panic)]
pub mod r#gen {
    include!("gen/mod.rs");
}

pub use client_session::{ClientSession, Named, Update};
pub use message::{Protocol, Request, Response};
pub use server_session::{Resource, ServerSession, Sets};
