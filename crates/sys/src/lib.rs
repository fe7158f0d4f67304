//! Every system call that has no safe wrapper elsewhere, and the only `unsafe` code of the workspace.
//!
//! - Reads: Linux namespaces(7), netlink(7), nftables' netlink interface, unix(7).
//! - Rule: one unsafe operation per block, each with its proof; the functions around them are safe.
//! - Limits: Linux only; kernels from 5.8 (single-file bind mounts and nftables in user namespaces).
//! - Not here: what the namespaces are for (`local`), what listens on the redirected ports (`proxy`).

pub mod fds;
pub mod link;
pub mod mount;
pub mod namespace;
pub mod nft;
pub mod process;
pub mod sandbox;
pub mod socket;
