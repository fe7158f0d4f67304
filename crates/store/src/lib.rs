//! Objects in memory with the semantics of Kubernetes' API server, so that such an API can be served from here.
//!
//! - Reads: Kubernetes objects as JSON, already checked against their schema.
//! - Rule: each change raises one counter, which becomes the object's `resourceVersion`; watchers see changes in that order and miss none.
//! - Rule: `generation` rises when the object changes outside of `metadata` and `status`.
//! - Limits: [`watch::QUEUE_MAX`] events wait for a watcher; one that falls further behind is ended and lists again. [`watch::HISTORY_MAX`]
//!   past events can be replayed.
//! - Lock: one mutex around everything, never held across an await.
//! - Not here: schemas (`kube-api`, `istio-api`), files (`source`), HTTP (`local/src/api.rs`).
#![forbid(unsafe_code)]

pub mod apply;
pub mod key;
pub mod objects;
pub mod selector;
pub mod watch;

pub use key::Key;
pub use objects::{Outcome, Store, StoreError, timestamp};
pub use selector::{Filter, Selector};
pub use watch::{Event, EventKind, Watcher};
