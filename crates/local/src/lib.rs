//! `lateen up`: a whole mesh in one sandbox on one machine, without Kubernetes, Docker or root.
//!
//! - Reads: YAML files, through `source`; objects of the store.
//! - Rule: everything lives inside one process namespace whose process 1 is the supervisor, so that its end is the end of everything.
//! - Rule: one thing changes pods and another describes them: users change objects of the store, controllers make pods follow.
//! - Not here: what mesh objects mean (`kinds`, `compile`), the control plane (`control`), the proxy (`agent`, `proxy`).
//!
//! ```text
//! lateen up ── host stage: ports, egress, signals        host/
//!    └─ launcher ── supervisor, process 1 of the sandbox  supervisor/
//!          ├─ store ◄ files ▸ API                          files.rs api.rs
//!          ├─ controllers: Deployment → Pod, Service       controllers/
//!          ├─ pods: namespaces, containers, probes         pod/
//!          ├─ DNS, service addresses, egress, ingress      dns.rs network.rs interception.rs
//!          └─ istiod · gateway · sidecars · applications
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "findings are made a few times in a mesh's life")]

mod channel;
mod host;
pub mod options;
pub mod stage;
pub mod state_dir;
mod supervisor;

pub use host::down::{Down, down};
pub use host::{UpError, up};
pub use options::{Hooks, UpOptions};
pub use stage::dispatch;
pub use state_dir::{api_socket, exec_socket, running};
