//! Clusters as a worker uses them: endpoints, balancing state, pools.
//!
//! - Reads: `plan::cluster::{Cluster, ClusterEndpoints}`.
//! - Twin: `kinds/src/destination_rule`.
//! - Rule: a worker owns its pools and balancing state; what workers share is in [`shared`], in atomics.
//! - Rule: a new plan keeps the pools of endpoints that stay; endpoints that leave are retired: idle connections close, busy ones finish.
//! - Limits: [`ORIGINAL_DST_MAX`] remembered destinations per ORIGINAL_DST cluster.
//! - Not here: which policy picks how (`plan/lb`), names to addresses (`dns`).

pub mod circuit_breaker;
pub mod connect;
pub mod dns;
pub mod endpoints;
pub mod outlier_detection;
pub mod pool;
pub mod shared;
pub mod upkeep;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use lateen_plan::cluster::{self as plan, ClusterEndpoints, Discovery, Endpoint, Thresholds, TransportMatch, UpstreamTransport};

use circuit_breaker::Breaker;
use endpoints::HostSet;
use pool::Pool;
use shared::{SharedCluster, SharedHost, inc};

use crate::worker::Worker;

pub use connect::{ConnectError, Connection};
pub use outlier_detection::Outcome;
pub use pool::{Lease, PoolKey, checkout};

/// Destinations an ORIGINAL_DST cluster remembers; the oldest unused are forgotten at the sweep.
pub const ORIGINAL_DST_MAX: usize = 4096;

/// One cluster in one worker.
pub struct Cluster {
    /// Its settings.
    pub plan: Arc<plan::Cluster>,
    /// What all workers share of it.
    pub shared: Arc<SharedCluster>,
    hosts: RefCell<Rc<HostSet>>,
    original_dst: RefCell<HashMap<SocketAddr, Rc<Host>>>,
}

/// One endpoint in one worker.
pub struct Host {
    /// Its settings. The address is never a name.
    pub endpoint: Endpoint,
    /// What all workers share of it.
    pub shared: Arc<SharedHost>,
    /// This worker's connections to it.
    pub pool: Pool,
    /// It left the cluster: connections are not kept.
    pub retired: Cell<bool>,
}

impl Host {
    /// Its address as `%UPSTREAM_HOST%` prints it.
    pub fn address_text(&self) -> String {
        endpoints::address_text(&self.endpoint.address)
    }

    /// Its IP address and port; `None` for a pipe.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.endpoint.address {
            plan::EndpointAddress::Socket(address) => Some(address),
            plan::EndpointAddress::Dns(..) | plan::EndpointAddress::Pipe(_) => None,
        }
    }
}

/// What a pick depends on besides the cluster's own state.
#[derive(Default, Clone)]
pub struct Pick<'a> {
    /// Hash for consistent balancing.
    pub hash: Option<u64>,
    /// Endpoints tried before, which are avoided if others are there.
    pub tried: &'a [Rc<Host>],
    /// How often another endpoint is drawn to avoid a tried one.
    pub attempts_max: u32,
    /// The destination the client dialled, for ORIGINAL_DST clusters; a header may replace it.
    pub original_dst: Option<SocketAddr>,
    /// Labels the endpoint must carry. As in Envoy they count only in clusters divided into subsets, which the plan refuses; Istio makes
    /// one cluster per subset instead.
    pub metadata: &'a [(lateen_plan::names::Name, lateen_plan::names::Name)],
}

impl Cluster {
    /// A cluster with its first endpoints.
    pub fn new(plan: Arc<plan::Cluster>, shared: Arc<SharedCluster>, endpoints: &Arc<ClusterEndpoints>) -> Self {
        let hosts = HostSet::new(&plan, endpoints, &shared, None);
        Cluster { plan, shared, hosts: RefCell::new(Rc::new(hosts)), original_dst: RefCell::default() }
    }

    /// The same cluster under a new plan: endpoints that stay keep their pools.
    pub fn renewed(old: &Cluster, plan: Arc<plan::Cluster>, endpoints: &Arc<ClusterEndpoints>) -> Self {
        let previous = Rc::clone(&old.hosts.borrow());
        // Connections made under other settings must not be used under these.
        let kept = same_connections(&old.plan, &plan);
        let hosts = HostSet::new(&plan, endpoints, &old.shared, kept.then_some(&*previous));
        previous.retire_missing(&hosts);
        inc(&old.shared.stats.membership_change);
        let original_dst = if kept { old.original_dst.take() } else { HashMap::new() };
        let original_dst = RefCell::new(original_dst);
        Cluster { plan, shared: Arc::clone(&old.shared), hosts: RefCell::new(Rc::new(hosts)), original_dst }
    }

    /// True when the endpoints are the very same object as before, so nothing has to be rebuilt.
    pub fn has_endpoints(&self, endpoints: &Arc<ClusterEndpoints>) -> bool {
        self.hosts.borrow().is_of(endpoints)
    }

    /// The cluster left the plan.
    pub fn retire(&self) {
        self.hosts.borrow().retire_all();
        for host in self.original_dst.borrow().values() {
            host.retired.set(true);
            host.pool.close_idle();
        }
    }

    /// Its endpoints now.
    pub fn hosts(&self) -> Rc<HostSet> {
        Rc::clone(&self.hosts.borrow())
    }

    /// Limits of a priority (0 default, 1 high).
    pub fn thresholds(&self, priority: usize) -> &Thresholds {
        let [normal, high] = &self.plan.circuit_breakers;
        if priority == 0 { normal } else { high }
    }

    /// Counted limits of a priority (0 default, 1 high).
    pub fn breaker(&self, priority: usize) -> &Arc<Breaker> {
        let [normal, high] = &self.shared.breakers;
        if priority == 0 { normal } else { high }
    }

    /// Chooses an endpoint; `None`: no healthy upstream (`UH`).
    pub fn pick(&self, worker: &Worker, pick: &Pick<'_>) -> Option<Rc<Host>> {
        let chosen = match &self.plan.discovery {
            Discovery::OriginalDst(settings) => pick.original_dst.map(|mut address| {
                if let Some(port) = settings.port_override {
                    address.set_port(port);
                }
                self.original(address)
            }),
            Discovery::Static(_) | Discovery::Eds { .. } | Discovery::StrictDns(_) | Discovery::LogicalDns(_) => self.hosts().pick(self, worker, pick),
        };
        if chosen.is_none() {
            inc(&self.shared.stats.upstream_cx_none_healthy);
        }
        chosen
    }

    fn original(&self, address: SocketAddr) -> Rc<Host> {
        let mut known = self.original_dst.borrow_mut();
        if let Some(host) = known.get(&address) {
            return Rc::clone(host);
        }
        let endpoint = Endpoint::at(address);
        let shared = self.shared.host(&endpoint.address);
        let host = Rc::new(Host { endpoint, shared, pool: Pool::default(), retired: Cell::new(false) });
        known.insert(address, Rc::clone(&host));
        host
    }

    /// Reports how an endpoint did, for outlier detection. `now_ms` is the worker's clock.
    pub fn report(&self, worker: &Worker, host: &Host, outcome: Outcome) {
        let Some(settings) = &self.plan.outlier else { return };
        let hosts = self.hosts.borrow().len();
        if self.shared.detector.observe(&host.shared.record, settings, outcome, hosts, worker.clock_ms(), worker.draw()) {
            self.shared.health_changed();
            if self.plan.close_connections_on_host_health_failure {
                host.pool.close_idle();
            }
        }
    }

    /// Closes idle connections past their time and forgets unused original destinations.
    pub fn sweep(&self, now: Instant) {
        let idle_timeout = self.plan.http.idle_timeout;
        for host in self.hosts.borrow().iter() {
            host.pool.sweep(now, idle_timeout);
        }
        let mut known = self.original_dst.borrow_mut();
        known.retain(|_, host| {
            host.pool.sweep(now, idle_timeout);
            Rc::strong_count(host) > 1 || host.pool.idle_len() > 0
        });
        if known.len() > ORIGINAL_DST_MAX {
            known.retain(|_, host| Rc::strong_count(host) > 1);
        }
    }

    /// Number that changes with any endpoint's health.
    pub fn health_generation(&self) -> u64 {
        self.shared.health_generation.load(Ordering::Acquire)
    }
}

/// Whether connections made for `old` are what `new` would make.
fn same_connections(old: &Arc<plan::Cluster>, new: &Arc<plan::Cluster>) -> bool {
    let same = |a: &UpstreamTransport, b: &UpstreamTransport| match (a, b) {
        (UpstreamTransport::Raw, UpstreamTransport::Raw) => true,
        (UpstreamTransport::Tls(a), UpstreamTransport::Tls(b)) => a == b,
        (UpstreamTransport::Raw, UpstreamTransport::Tls(_)) | (UpstreamTransport::Tls(_), UpstreamTransport::Raw) => false,
    };
    let matches = |a: &TransportMatch, b: &TransportMatch| a.criteria == b.criteria && same(&a.transport, &b.transport);
    Arc::ptr_eq(old, new)
        || (same(&old.transport, &new.transport)
            && old.transport_matches.len() == new.transport_matches.len()
            && old.transport_matches.iter().zip(&new.transport_matches).all(|(a, b)| matches(a, b))
            && old.http == new.http
            && old.bind == new.bind
            && old.keepalive == new.keepalive)
}
