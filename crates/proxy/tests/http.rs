//! HTTP through a running proxy over loopback sockets: what a client sees, what the origin sees, what the log says.
//!
//! - Rule: the proxy is started as a program would start it, from a bootstrap; clients and origins are plain sockets.
//! - Not here: TLS, xDS (their own tests), whole meshes (`tests/e2e`).
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "http/support.rs"]
mod support;

#[path = "http/bodies.rs"]
mod bodies;
#[path = "http/filters.rs"]
mod filters;
#[path = "http/h2.rs"]
mod h2_tests;
#[path = "http/hostile.rs"]
mod hostile;
#[path = "http/replies.rs"]
mod replies;
#[path = "http/retries.rs"]
mod retries;
#[path = "http/routes.rs"]
mod routes;
