//! The endpoints of one cluster in one worker, and the choice among them.
//!
//! - Reads: `plan::cluster::ClusterEndpoints`.
//! - Rule: a set is immutable; new endpoints make a new set that takes over the hosts that stay.
//! - Rule: which endpoint is picked is `plan::lb`'s decision; here it gets the state it asks for.
//! - Not here: pools (`pool`), ejection (`outlier_detection`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lateen_plan::cluster::{self as plan, ClusterEndpoints, EndpointAddress};
use lateen_plan::lb::{Balancer, PickContext};
use smallvec::SmallVec;

use super::pool::Pool;
use super::shared::SharedCluster;
use super::{Cluster, Host, Pick};
use crate::worker::Worker;

/// All endpoints of a cluster at one moment.
pub struct HostSet {
    source: Arc<ClusterEndpoints>,
    hosts: Vec<Rc<Host>>,
    balancer: RefCell<Balancer>,
    /// Health generation the balancer was last refreshed for.
    refreshed: Cell<Option<u64>>,
}

impl HostSet {
    /// Hosts for `endpoints`; those that `previous` has at the same address and transport keep their pools.
    pub fn new(cluster: &plan::Cluster, endpoints: &Arc<ClusterEndpoints>, shared: &SharedCluster, previous: Option<&HostSet>) -> Self {
        let known: HashMap<&EndpointAddress, &Rc<Host>> = previous.map(|p| p.hosts.iter().map(|h| (&h.endpoint.address, h)).collect()).unwrap_or_default();
        let hosts = endpoints
            .endpoints
            .iter()
            .map(|endpoint| match known.get(&endpoint.address) {
                Some(host) if host.endpoint == *endpoint && !host.retired.get() => Rc::clone(host),
                Some(_) | None => Rc::new(Host {
                    endpoint: endpoint.clone(),
                    shared: shared.host(&endpoint.address),
                    pool: Pool::default(),
                    retired: Cell::new(false),
                }),
            })
            .collect();
        // Workers start their turns at different endpoints, so that few requests spread all the same.
        let balancer = RefCell::new(Balancer::new(cluster, Arc::clone(endpoints), fastrand::u64(..)));
        HostSet { source: Arc::clone(endpoints), hosts, balancer, refreshed: Cell::new(None) }
    }

    /// Chooses an endpoint by the cluster's policy.
    pub fn pick(&self, cluster: &Cluster, worker: &Worker, pick: &Pick<'_>) -> Option<Rc<Host>> {
        let generation = Some(cluster.health_generation());
        let mut balancer = self.balancer.borrow_mut();
        if self.refreshed.get() != generation {
            balancer.refresh(|index| self.hosts.get(index).is_some_and(|h| !h.shared.is_available()));
            self.refreshed.set(generation);
        }
        let place = |tried: &Rc<Host>| self.hosts.iter().position(|h| Rc::ptr_eq(h, tried));
        let avoid: SmallVec<[usize; 4]> = pick.tried.iter().filter_map(place).collect();
        let context = PickContext { draw: worker.draw(), hash: pick.hash, avoid: &avoid, attempts_max: pick.attempts_max };
        let picked = balancer.pick(&context, |index| self.hosts.get(index).map_or(0, |h| h.shared.rq_active.load(Ordering::Relaxed)))?;
        self.hosts.get(picked.index).map(Rc::clone)
    }

    /// True when this set was made of that very object.
    pub fn is_of(&self, endpoints: &Arc<ClusterEndpoints>) -> bool {
        Arc::ptr_eq(&self.source, endpoints)
    }

    /// What it was made of.
    pub fn source(&self) -> &Arc<ClusterEndpoints> {
        &self.source
    }

    /// Endpoints.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// True without endpoints.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The endpoints in the plan's order.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Host>> {
        self.hosts.iter()
    }

    /// Marks hosts that `next` lacks.
    pub fn retire_missing(&self, next: &HostSet) {
        for host in &self.hosts {
            if !next.hosts.iter().any(|h| Rc::ptr_eq(h, host)) {
                retire(host);
            }
        }
    }

    /// Marks all hosts.
    pub fn retire_all(&self) {
        self.hosts.iter().for_each(retire);
    }
}

fn retire(host: &Rc<Host>) {
    host.retired.set(true);
    host.pool.close_idle();
}

/// `1.2.3.4:80`, or the pipe's path.
pub fn address_text(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Socket(address) => address.to_string(),
        EndpointAddress::Dns(name, port) => format!("{name}:{port}"),
        EndpointAddress::Pipe(path) => path.to_string(),
    }
}
