//! Circuit breaking: counted limits per cluster, shared by all workers.
//!
//! - Reads: `cluster.v3.CircuitBreakers.thresholds`, as the plan checked them.
//! - Twin: `kinds/src/destination_rule/connection_pool.rs`.
//! - Rule: a limit is taken and given back by a guard, so that no path can forget to give back.
//! - Rule: the counters outlive a configuration change; the limits come with each call.
//! - Not here: waiting for a free connection (`pool`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Connections to the cluster.
    Connections,
    /// Requests waiting for a connection.
    PendingRequests,
    /// Requests on their way, HTTP/2's limit.
    Requests,
    /// Retries on their way.
    Retries,
}

/// Counters of one cluster and priority.
#[derive(Debug, Default)]
pub struct Breaker {
    counts: [AtomicU32; 4],
    /// Refusals for lack of a connection: `upstream_cx_overflow`.
    pub connections_overflow: AtomicU64,
    /// Refusals of requests, waiting or running: `upstream_rq_pending_overflow`.
    pub pending_overflow: AtomicU64,
    /// Refused retries: `upstream_rq_retry_overflow`.
    pub retries_overflow: AtomicU64,
}

/// Gives the resource back when dropped.
#[derive(Debug)]
pub struct Guard {
    breaker: Arc<Breaker>,
    resource: Resource,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.breaker.count(self.resource).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Breaker {
    fn count(&self, resource: Resource) -> &AtomicU32 {
        let [connections, pending, requests, retries] = &self.counts;
        match resource {
            Resource::Connections => connections,
            Resource::PendingRequests => pending,
            Resource::Requests => requests,
            Resource::Retries => retries,
        }
    }

    /// In use now.
    pub fn in_use(&self, resource: Resource) -> u32 {
        self.count(resource).load(Ordering::Relaxed)
    }

    /// Takes one of `resource` if fewer than `limit` are in use. A refusal is counted.
    pub fn take(self: &Arc<Self>, resource: Resource, limit: u32) -> Option<Guard> {
        let count = self.count(resource);
        if count.fetch_add(1, Ordering::Relaxed) < limit {
            return Some(Guard { breaker: Arc::clone(self), resource });
        }
        count.fetch_sub(1, Ordering::Relaxed);
        match resource {
            Resource::Connections => &self.connections_overflow,
            Resource::PendingRequests | Resource::Requests => &self.pending_overflow,
            Resource::Retries => &self.retries_overflow,
        }
        .fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Takes one of `resource` whatever the limit; for a pool's first connection, which Envoy always allows.
    pub fn take_anyway(self: &Arc<Self>, resource: Resource) -> Guard {
        self.count(resource).fetch_add(1, Ordering::Relaxed);
        Guard { breaker: Arc::clone(self), resource }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_last_one_that_passes() {
        let breaker = Arc::new(Breaker::default());
        let first = breaker.take(Resource::Requests, 1);
        assert!(first.is_some());
        assert!(breaker.take(Resource::Requests, 1).is_none());
        assert_eq!(breaker.pending_overflow.load(Ordering::Relaxed), 1);
        drop(first);
        assert!(breaker.take(Resource::Requests, 1).is_some());
    }

    #[test]
    fn zero_lets_nothing_pass() {
        let breaker = Arc::new(Breaker::default());
        assert!(breaker.take(Resource::Retries, 0).is_none());
        assert_eq!(breaker.in_use(Resource::Retries), 0);
    }
}
