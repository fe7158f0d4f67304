//! Where objects come from: files, and the store's watch; and the snapshot they become.
//!
//! - Reads: YAML and JSON files, the store's `/watch`.
//! - Writes: raw objects with places (`files`), typed snapshots (`snapshot`).
//! - Rule: what cannot be read is reported with a place and a remedy, and the last good state stays.
//! - Not here: what fields mean (`kinds`), the store itself (`store`, `local`).

#![forbid(unsafe_code)]

pub mod files;
pub mod snapshot;
pub mod watch;
pub mod yaml;

pub use files::{Load, Loaded, load, load_text, render};
pub use snapshot::{Applied, Event, SnapshotBuilder};
