//! What a proxy tells about its traffic: access logs, Istio's metrics, peer metadata.
//!
//! - Rule: everything that can be prepared is prepared when configuration arrives; per request there is no allocation after warm-up.
//! - Rule: no I/O and no clock here; callers bring the time and write the bytes.
//! - Not here: Envoy's statistics and serving them (`proxy/src/admin/stats.rs`), merging pages (`agent`), traces.

#![forbid(unsafe_code)]

pub mod access_log;
pub mod flags;
mod hash;
pub mod histogram;
pub mod istio;
pub mod peer;
pub mod prometheus;

pub use access_log::{AccessRecord, Format, HeaderSource};
pub use flags::ResponseFlags;
pub use peer::PeerMetadata;
