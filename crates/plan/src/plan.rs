//! The plan: everything a proxy does, checked and immutable.
//!
//! - Rule: a plan is never changed; an update makes a new one that shares whatever did not change.
//! - Twin: `compile`, which writes the resources that a plan is built from.
//! - Not here: building (`builder`).

use crate::cluster::{Cluster, ClusterEndpoints};
use crate::listener::Listener;
use crate::listener::tls::Secret;
use crate::names::NameMap;
use crate::route::RouteTable;
use std::sync::Arc;

/// All configuration in force at one moment. Cloning costs five reference counts.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Counts updates, from 0 for the empty plan.
    pub generation: u64,
    /// Listeners by name.
    pub listeners: Arc<NameMap<Arc<Listener>>>,
    /// Route tables by name.
    pub routes: Arc<NameMap<Arc<RouteTable>>>,
    /// Clusters by name.
    pub clusters: Arc<NameMap<Arc<Cluster>>>,
    /// Endpoints by EDS name.
    pub endpoints: Arc<NameMap<Arc<ClusterEndpoints>>>,
    /// Secrets that arrived over the aggregated stream, by name.
    pub secrets: Arc<NameMap<Arc<Secret>>>,
}

impl Plan {
    /// The endpoints of `cluster`, when they are known without DNS. `None`: not yet arrived, or found another way.
    #[must_use]
    pub fn endpoints_of<'a>(&'a self, cluster: &'a Cluster) -> Option<&'a Arc<ClusterEndpoints>> {
        use crate::cluster::Discovery;
        match &cluster.discovery {
            Discovery::Static(endpoints) => Some(endpoints),
            Discovery::Eds { service_name } => self.endpoints.get(service_name),
            Discovery::StrictDns(_) | Discovery::LogicalDns(_) | Discovery::OriginalDst(_) => None,
        }
    }
}
