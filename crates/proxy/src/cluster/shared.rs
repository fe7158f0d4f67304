//! What all workers know together of a cluster and its endpoints: limits in use, records of failure, counters.
//!
//! - Rule: atomics only; kept by name over configuration changes, so that a new plan forgets no ejection and leaks no count.
//! - Rule: an entry lives as long as a worker or the plan refers to it; [`Registry::sweep`] drops the rest.
//! - Not here: what a worker keeps for itself (`mod.rs`, `pool.rs`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lateen_plan::cluster::EndpointAddress;
use lateen_plan::names::Name;

use super::circuit_breaker::Breaker;
use super::outlier_detection::{Detector, Record};

/// A cluster, as all workers see it.
#[derive(Debug, Default)]
pub struct SharedCluster {
    /// Counted limits, by [`lateen_plan::route::Priority`].
    pub breakers: [Arc<Breaker>; 2],
    /// Ejections.
    pub detector: Detector,
    /// Changes whenever an endpoint's health changed, so that workers look again.
    pub health_generation: AtomicU64,
    /// Statistics.
    pub stats: ClusterStats,
    hosts: Mutex<HashMap<EndpointAddress, Arc<SharedHost>>>,
}

/// Envoy's cluster statistics that are kept. Names are Envoy's.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each is the Envoy statistic of its name")]
pub struct ClusterStats {
    pub upstream_cx_total: AtomicU64,
    pub upstream_cx_active: AtomicU64,
    pub upstream_cx_connect_fail: AtomicU64,
    pub upstream_cx_connect_timeout: AtomicU64,
    pub upstream_cx_overflow: AtomicU64,
    pub upstream_cx_none_healthy: AtomicU64,
    pub upstream_cx_http1_total: AtomicU64,
    pub upstream_cx_http2_total: AtomicU64,
    pub upstream_cx_rx_bytes_total: AtomicU64,
    pub upstream_cx_tx_bytes_total: AtomicU64,
    pub upstream_rq_total: AtomicU64,
    pub upstream_rq_active: AtomicU64,
    pub upstream_rq_2xx: AtomicU64,
    pub upstream_rq_3xx: AtomicU64,
    pub upstream_rq_4xx: AtomicU64,
    pub upstream_rq_5xx: AtomicU64,
    pub upstream_rq_pending_total: AtomicU64,
    pub upstream_rq_timeout: AtomicU64,
    pub upstream_rq_per_try_timeout: AtomicU64,
    pub upstream_rq_retry: AtomicU64,
    pub upstream_rq_retry_success: AtomicU64,
    pub ssl_handshake: AtomicU64,
    pub ssl_fail_verify_san: AtomicU64,
    pub ssl_fail_verify_error: AtomicU64,
    pub membership_change: AtomicU64,
}

/// Adds one.
pub fn inc(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One endpoint, as all workers see it.
#[derive(Debug, Default)]
pub struct SharedHost {
    /// Requests (or TCP connections) on their way: what least-request balancing compares.
    pub rq_active: AtomicU32,
    /// Failure record.
    pub record: Record,
    /// An active health check failed.
    pub failed_active_check: AtomicBool,
    /// Statistics of `/clusters`.
    pub stats: HostStats,
}

/// Envoy's per-endpoint statistics.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each is the Envoy statistic of its name")]
pub struct HostStats {
    pub cx_active: AtomicU64,
    pub cx_connect_fail: AtomicU64,
    pub cx_total: AtomicU64,
    pub rq_error: AtomicU64,
    pub rq_success: AtomicU64,
    pub rq_timeout: AtomicU64,
    pub rq_total: AtomicU64,
}

impl SharedHost {
    /// False while ejected or failing its active check.
    pub fn is_available(&self) -> bool {
        !self.record.is_ejected() && !self.failed_active_check.load(Ordering::Relaxed)
    }
}

impl SharedCluster {
    /// The record of the endpoint at `address`.
    pub fn host(&self, address: &EndpointAddress) -> Arc<SharedHost> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(address.clone()).or_default())
    }

    /// Records now in use.
    pub fn hosts(&self) -> Vec<(EndpointAddress, Arc<SharedHost>)> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().map(|(a, h)| (a.clone(), Arc::clone(h))).collect()
    }

    /// Tells workers to look at health again.
    pub fn health_changed(&self) {
        self.health_generation.fetch_add(1, Ordering::Release);
    }

    fn sweep(&self) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, host| {
            let used = Arc::strong_count(host) > 1;
            if !used {
                self.detector.forget(&host.record);
            }
            used
        });
    }
}

/// All clusters, by name. The lock is held only while a plan is put in force and when the admin interface looks.
#[derive(Debug, Default)]
pub struct Registry {
    clusters: Mutex<HashMap<Name, Arc<SharedCluster>>>,
}

impl Registry {
    /// The shared part of `name`, made when new.
    pub fn cluster(&self, name: &Name) -> Arc<SharedCluster> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(clusters.entry(Name::clone(name)).or_default())
    }

    /// Every cluster, by name.
    pub fn all(&self) -> Vec<(Name, Arc<SharedCluster>)> {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = clusters.iter().map(|(n, c)| (Name::clone(n), Arc::clone(c))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Forgets clusters and endpoints that nobody uses any more.
    pub fn sweep(&self) {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.retain(|_, cluster| {
            cluster.sweep();
            Arc::strong_count(cluster) > 1
        });
    }
}
