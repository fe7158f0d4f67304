//! What is wrong at the moment, by topic: shown once when it appears, and listed until it is put right.
//!
//! - Rule: a topic's findings replace those it had; an empty list clears it.
//! - Limits: [`TOPICS_MAX`] topics; further ones are shown but not kept.

use super::host_link::HostLink;
use lateen_base::Finding;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// More than all containers of a large mesh.
const TOPICS_MAX: usize = 4096;

/// The findings of now.
pub(crate) struct Board {
    topics: Mutex<BTreeMap<String, Vec<Finding>>>,
    host: Arc<HostLink>,
}

impl Board {
    pub(crate) fn new(host: Arc<HostLink>) -> Self {
        Self { topics: Mutex::default(), host }
    }

    /// Sets a topic's findings, and shows the user those that are new. Needs the runtime.
    pub(crate) fn set(&self, topic: &str, findings: Vec<Finding>) {
        let fresh: Vec<Finding> = {
            let mut topics = self.lock();
            let known = topics.get(topic).cloned().unwrap_or_default();
            let fresh = findings.iter().filter(|finding| !known.contains(finding)).cloned().collect();
            if findings.is_empty() {
                topics.remove(topic);
            } else if topics.len() < TOPICS_MAX || topics.contains_key(topic) {
                topics.insert(topic.to_owned(), findings);
            }
            fresh
        };
        if fresh.is_empty() {
            return;
        }
        let host = Arc::clone(&self.host);
        tokio::spawn(async move {
            for finding in fresh {
                host.finding(finding).await;
            }
        });
    }

    /// Forgets a topic.
    pub(crate) fn clear(&self, topic: &str) {
        self.lock().remove(topic);
    }

    /// Everything that is wrong, worst first.
    pub(crate) fn all(&self) -> Vec<Finding> {
        let mut all: Vec<Finding> = self.lock().values().flatten().cloned().collect();
        all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        all
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Finding>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
