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
use std::net::SocketAddr;
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

impl ClusterEndpoints {
    /// All endpoints in one locality of priority 0.
    #[must_use]
    pub fn flat(name: Name, endpoints: Vec<Endpoint>) -> Self {
        let group = LocalityGroup { locality: Locality::default(), weight: None, range: 0..endpoints.len() };
        let priorities = vec![PriorityLevel { localities: vec![group] }];
        Self { name, endpoints, priorities, overprovisioning_factor: OVERPROVISIONING, weighted_priority_health: false }
    }

    /// The same groups with other endpoints: `replace` gives those that stand in for each. For DNS clusters.
    #[must_use]
    pub fn resolved(&self, mut replace: impl FnMut(&Endpoint) -> Vec<Endpoint>) -> Self {
        let mut new = Self { endpoints: Vec::new(), priorities: Vec::new(), name: self.name.clone(), ..*self };
        for level in &self.priorities {
            let mut localities = Vec::with_capacity(level.localities.len());
            for group in &level.localities {
                let from = new.endpoints.len();
                for endpoint in self.endpoints.get(group.range.clone()).unwrap_or_default() {
                    new.endpoints.extend(replace(endpoint));
                }
                localities.push(LocalityGroup { range: from..new.endpoints.len(), ..group.clone() });
            }
            new.priorities.push(PriorityLevel { localities });
        }
        new
    }

    /// The index of the endpoint at `address`.
    #[must_use]
    pub fn position(&self, address: SocketAddr) -> Option<usize> {
        self.endpoints.iter().position(|e| e.address == EndpointAddress::Socket(address))
    }
}

/// Envoy's default overprovisioning factor, in percent.
pub const OVERPROVISIONING: u32 = 140;

/// Reads the endpoints of a cluster.
///
/// # Errors
/// An address that is none; too many endpoints; named endpoints; dropping by the control plane.
pub fn cluster_endpoints(given: &xendpoint::ClusterLoadAssignment) -> Result<ClusterEndpoints, Invalid> {
    if let Some(policy) = given.policy.as_ref().filter(|p| !p.drop_overloads.is_empty()) {
        return Err(Invalid::unsupported("policy.drop_overloads", format!("{} drop rule(s)", policy.drop_overloads.len())));
    }
    let count: usize = given.endpoints.iter().map(|l| l.lb_endpoints.len()).sum();
    if count > ENDPOINTS_MAX {
        return Err(Invalid::new("endpoints", format!("{count} endpoints are more than {ENDPOINTS_MAX}")));
    }
    let levels = given.endpoints.iter().map(|l| l.priority.saturating_add(1)).max().unwrap_or(1);
    if levels > PRIORITIES_MAX {
        return Err(Invalid::new("priority", format!("{} is above {}", levels - 1, PRIORITIES_MAX - 1)));
    }
    let policy = given.policy.as_ref();
    let mut read = ClusterEndpoints {
        name: given.cluster_name.as_str().into(),
        endpoints: Vec::with_capacity(count),
        priorities: vec![PriorityLevel::default(); levels as usize],
        overprovisioning_factor: policy.and_then(|p| p.overprovisioning_factor.as_ref()).map_or(OVERPROVISIONING, |v| v.value),
        weighted_priority_health: policy.is_some_and(|p| p.weighted_priority_health),
    };
    for (priority, level) in (0u32..).zip(read.priorities.iter_mut()) {
        for (i, group) in given.endpoints.iter().enumerate().filter(|(_, g)| g.priority == priority) {
            let from = read.endpoints.len();
            if group.lb_config.is_some() {
                return Err(Invalid::unsupported(format!("endpoints[{i}]"), "a locality whose endpoints are fetched apart"));
            }
            for (j, one) in group.lb_endpoints.iter().enumerate() {
                read.endpoints.push(endpoint(one, priority).within(format!("endpoints[{i}].lb_endpoints[{j}]"))?);
            }
            level.localities.push(LocalityGroup {
                locality: locality(group.locality.as_ref()),
                weight: group.load_balancing_weight.as_ref().map(|w| w.value),
                range: from..read.endpoints.len(),
            });
        }
    }
    Ok(read)
}

/// Envoy allows priorities 0 to 128.
const PRIORITIES_MAX: u32 = 129;

fn locality(given: Option<&xcore::Locality>) -> Locality {
    given.map_or_else(Locality::default, |l| Locality {
        region: l.region.as_str().into(),
        zone: l.zone.as_str().into(),
        sub_zone: l.sub_zone.as_str().into(),
    })
}

fn endpoint(given: &xendpoint::LbEndpoint, priority: u32) -> Result<Endpoint, Invalid> {
    use xendpoint::lb_endpoint::HostIdentifier as H;
    let inner = match &given.host_identifier {
        Some(H::Endpoint(endpoint)) => endpoint,
        Some(H::EndpointName(name)) => return Err(Invalid::unsupported("endpoint_name", format!("endpoint by name `{name}`"))),
        None => return Err(Invalid::new("endpoint", "is required")),
    };
    let health = match xcore::HealthStatus::try_from(given.health_status) {
        Ok(xcore::HealthStatus::Unknown | xcore::HealthStatus::Healthy) => Health::Healthy,
        Ok(xcore::HealthStatus::Degraded) => Health::Degraded,
        Ok(xcore::HealthStatus::Draining) => Health::Draining,
        Ok(xcore::HealthStatus::Unhealthy | xcore::HealthStatus::Timeout) => Health::Unhealthy,
        Err(_) => return Err(Invalid::new("health_status", format!("{} is not known", given.health_status))),
    };
    let metadata = |namespace| metadata_pairs(given.metadata.as_ref(), namespace);
    Ok(Endpoint {
        address: crate::address::address(inner.address.as_ref()).within("endpoint.address")?,
        hostname: inner.hostname.as_str().into(),
        health,
        weight: given.load_balancing_weight.as_ref().map_or(1, |w| w.value.max(1)),
        transport_match: metadata("envoy.transport_socket_match"),
        lb: metadata("envoy.lb"),
        workload: metadata("istio").into_iter().find_map(|(k, v)| match v {
            MetaValue::Text(text) if &*k == "workload" => Some(text),
            MetaValue::Text(_) | MetaValue::Number(_) | MetaValue::Bool(_) => None,
        }).unwrap_or_default(),
        priority,
    })
}

/// Text, numbers and truth values of one metadata namespace, sorted by key.
pub(crate) fn metadata_pairs(given: Option<&xcore::Metadata>, namespace: &str) -> Vec<(Name, MetaValue)> {
    let fields = given.and_then(|m| m.filter_metadata.get(namespace)).map(|s| &s.fields);
    let mut pairs: Vec<(Name, MetaValue)> = fields.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str().into(), meta_value(v)?))).collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

/// A value that can be compared. `None`: a list, an object or null.
pub(crate) fn meta_value(given: &wkt::Value) -> Option<MetaValue> {
    use wkt::value::Kind;
    match &given.kind {
        Some(Kind::StringValue(text)) => Some(MetaValue::Text(text.as_str().into())),
        Some(Kind::NumberValue(number)) => Some(MetaValue::Number(*number)),
        Some(Kind::BoolValue(truth)) => Some(MetaValue::Bool(*truth)),
        Some(Kind::NullValue(_) | Kind::StructValue(_) | Kind::ListValue(_)) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> Result<ClusterEndpoints, Invalid> {
        cluster_endpoints(&serde_json::from_value(json).unwrap())
    }

    fn one(ip: &str) -> serde_json::Value {
        serde_json::json!({"endpoint": {"address": {"socket_address": {"address": ip, "port_value": 80}}}})
    }

    #[test]
    fn endpoints_are_ordered_by_priority_whatever_the_order_on_the_wire() {
        let json = serde_json::json!({"cluster_name": "c", "endpoints": [
            {"priority": 1, "lb_endpoints": [one("10.0.0.2")]}, {"lb_endpoints": [one("10.0.0.1")]}]});
        let read = read(json).unwrap();
        assert_eq!(read.position("10.0.0.1:80".parse().unwrap()), Some(0));
        assert_eq!(read.priorities.iter().map(|p| p.localities[0].range.clone()).collect::<Vec<_>>(), [0..1, 1..2]);
    }

    #[test]
    fn the_mtls_label_is_kept_for_the_transport() {
        let mut endpoint = one("10.0.0.1");
        endpoint["metadata"] = serde_json::json!({"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}});
        let read = read(serde_json::json!({"cluster_name": "c", "endpoints": [{"lb_endpoints": [endpoint]}]})).unwrap();
        assert_eq!(read.endpoints[0].transport_match, [("tlsMode".into(), MetaValue::Text("istio".into()))]);
    }

    #[test]
    fn a_priority_out_of_bounds_is_refused() {
        let json = serde_json::json!({"cluster_name": "c", "endpoints": [{"priority": 4_000_000_000_u32, "lb_endpoints": []}]});
        assert!(read(json).unwrap_err().why.contains("4000000000"));
    }

    #[test]
    fn a_name_may_stand_for_several_addresses() {
        let json = serde_json::json!({"cluster_name": "c", "endpoints": [{"lb_endpoints": [one("db.example")]}]});
        let resolved = read(json).unwrap().resolved(|_| vec![Endpoint::at(([10, 0, 0, 1], 80).into()), Endpoint::at(([10, 0, 0, 2], 80).into())]);
        assert_eq!((resolved.endpoints.len(), resolved.priorities[0].localities[0].range.clone()), (2, 0..2));
    }
}
