//! The bench of the end-to-end tests: starts a mesh with the real binary, talks to it as a user would.
//!
//! - Rule: a test drives `lateen` by its command line and real sockets only; nothing is linked.
//! - Rule: each test has a namespace of its own, so that many share one mesh; mesh-wide tests start their own.
//! - Limits: every wait has a deadline; traffic goes to loopback and to the mesh's own namespaces.

#![forbid(unsafe_code)]

pub mod mesh;
pub mod yaml;

pub use mesh::{Answer, Load, Mesh, Output, Person, wait_until};
