//! HTTP through a running proxy over loopback sockets: what a client sees, what the origin sees, what the log says.
//!
//! - Rule: the proxy is started as a program would start it, from a bootstrap; clients and origins are plain sockets.
//! - Not here: TLS, xDS (their own tests), whole meshes (`tests/e2e`).
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "request_path/support.rs"]
mod support;

#[path = "request_path/bodies.rs"]
mod bodies;
#[path = "request_path/filters.rs"]
mod filters;
#[path = "request_path/h2.rs"]
mod h2_tests;
#[path = "request_path/hostile.rs"]
mod hostile;
#[path = "request_path/replies.rs"]
mod replies;
#[path = "request_path/retries.rs"]
mod retries;
#[path = "request_path/routes.rs"]
mod routes;
