//! Watching: every change, in order, to each watcher, through a bounded queue.
//!
//! - Rule: a watcher that does not keep up is ended, never skipped ahead silently; it lists again.

use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events that may wait for one watcher. A mesh of this size changes far less between two looks.
pub const QUEUE_MAX: usize = 4096;
/// Past events kept for watchers that reconnect.
pub const HISTORY_MAX: usize = 1024;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It is new, or was there when the watch began.
    Added,
    /// It changed.
    Modified,
    /// It is gone; the event carries its last form.
    Deleted,
}

impl EventKind {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
        }
    }
}

/// One change.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The version of the store after it.
    pub version: u64,
    /// The object after it.
    pub object: Arc<Value>,
}

/// The receiving end of a watch.
#[derive(Debug)]
pub struct Watcher {
    /// The objects at the start, to be treated as added; empty for a replayed watch.
    pub initial: Vec<Arc<Value>>,
    /// Version of the store at the start.
    pub version: u64,
    events: mpsc::Receiver<Event>,
}

impl Watcher {
    /// The next change. `None` when the store is gone or this watcher fell behind: watch anew.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// A change that is already waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

/// The sending ends and the recent past.
#[derive(Debug, Default)]
pub(crate) struct Fanout {
    watchers: Vec<mpsc::Sender<Event>>,
    history: VecDeque<Event>,
}

impl Fanout {
    pub(crate) fn publish(&mut self, event: &Event) {
        self.watchers.retain(|watcher| watcher.try_send(event.clone()).is_ok());
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(event.clone());
    }

    pub(crate) fn subscribe(&mut self, initial: Vec<Arc<Value>>, version: u64) -> Watcher {
        let (sender, events) = mpsc::channel(QUEUE_MAX);
        self.watchers.retain(|watcher| !watcher.is_closed());
        self.watchers.push(sender);
        Watcher { initial, version, events }
    }

    /// A watch of what came after `since`; `None` when that is no longer known.
    pub(crate) fn replay(&mut self, since: u64, version: u64) -> Option<Watcher> {
        let known = since == version || self.history.front().is_some_and(|oldest| oldest.version <= since + 1);
        if !known || since > version {
            return None;
        }
        let (sender, events) = mpsc::channel(QUEUE_MAX);
        for event in self.history.iter().filter(|event| event.version > since) {
            sender.try_send(event.clone()).ok()?;
        }
        self.watchers.push(sender);
        Some(Watcher { initial: Vec::new(), version, events })
    }
}
