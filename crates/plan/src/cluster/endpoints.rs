//! Endpoints of a cluster, grouped by priority and locality.
//!
//! - Reads: `config.endpoint.v3.ClusterLoadAssignment` (Envoy).
//! - Rule: all endpoints lie in one list; a group is a range of it, so that an index names an endpoint.
//! - Limits: see [`ENDPOINTS_MAX`].
//! - Not here: choosing (`lb`), resolving names (`proxy/src/cluster/dns.rs`).

use crate::names::Name;
use crate::rejected::{Invalid, Within};
use lateen_envoy_api::envoy::config::core::v3 as xcore;
use lateen_envoy_api::envoy::config::endpoint::v3 as xendpoint;
use lateen_envoy_api::wkt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Endpoints one cluster may have: indexes are 32 bits wide, and no balancer here is meant for more.
pub const ENDPOINTS_MAX: usize = 1 << 20;

/// The endpoints of one cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterEndpoints {
    /// The cluster's EDS name.
    pub name: Name,
    /// All endpoints, priority by priority, locality by locality.
    pub endpoints: Vec<Endpoint>,
    /// Priority 0 first. May hold levels without endpoints.
    pub priorities: Vec<PriorityLevel>,
    /// Percentage by which health is scaled before the next priority gets traffic. Envoy's default is 140.
    pub overprovisioning_factor: u32,
    /// A priority fails over to the next as a whole (`weighted_priority_health`).
    pub weighted_priority_health: bool,
}

/// One level of failover.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PriorityLevel {
    /// Its localities.
    pub localities: Vec<LocalityGroup>,
}

/// Endpoints of one locality in one priority.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalityGroup {
    /// Where they are.
    pub locality: Locality,
    /// Share among the level's localities. `None`: not given; the group gets nothing in weighted mode.
    pub weight: Option<u32>,
    /// Its part of [`ClusterEndpoints::endpoints`].
    pub range: Range<usize>,
}

/// A place. Source: `core.v3.Locality`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Region.
    pub region: Name,
    /// Zone.
    pub zone: Name,
    /// Sub-zone.
    pub sub_zone: Name,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Its host name, for health checks and host rewriting; empty: none.
    pub hostname: Name,
    /// What the control plane says of its health.
    pub health: Health,
    /// Share among its neighbours, at least 1.
    pub weight: u32,
    /// Metadata `envoy.transport_socket_match`.
    pub transport_match: Vec<(Name, MetaValue)>,
    /// Metadata `envoy.lb`.
    pub lb: Vec<(Name, MetaValue)>,
    /// Metadata `istio` / `workload`: `workload;namespace;canonical service;revision;cluster`. Empty: none.
    pub workload: Name,
    /// Index of its level in [`ClusterEndpoints::priorities`].
    pub priority: u32,
}

impl Endpoint {
    /// A healthy endpoint of weight 1 at `address`.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address: EndpointAddress::Socket(address),
            hostname: "".into(),
            health: Health::Healthy,
            weight: 1,
            transport_match: Vec::new(),
            lb: Vec::new(),
            workload: "".into(),
            priority: 0,
        }
    }
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// IP address and port.
    Socket(SocketAddr),
    /// A name to resolve, and a port.
    Dns(Name, u16),
    /// Unix socket.
    Pipe(Name),
}

/// Health as the control plane sees it. Source: `HealthStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Usable (also UNKNOWN).
    Healthy,
    /// Usable when nothing better is.
    Degraded,
    /// Not usable (also TIMEOUT).
    Unhealthy,
    /// Not usable; existing connections finish.
    Draining,
}

/// A metadata value that can be compared.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// Text.
    Text(Name),
    /// Number.
    Number(f64),
    /// Truth value.
    Bool(bool),
}
