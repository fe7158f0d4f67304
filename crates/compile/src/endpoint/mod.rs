//! EDS: the addresses behind each cluster.
//!
//! - Reads: endpoints of visible services, subsets, PeerAuthentication.
//! - Rule: only healthy endpoints are sent; a cluster without any gets an empty assignment, so that its removal is not awaited.
//! - Rule: an endpoint is marked for mTLS when its proxy accepts it and no PeerAuthentication forbids it.
//! - Rule: endpoints stand grouped by locality; `locality.rs` gives localities priorities or weights.
//! - Not here: picking one (`plan/src/lb/`).

mod locality;

use crate::{Named, Resource, View, pb};
use lateen_base::names;
use lateen_envoy_api::envoy::config::core::v3::{HealthStatus, Locality as EnvoyLocality, Metadata};
use lateen_envoy_api::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier};
use lateen_istio_api::{ClientTLSMode, SimpleLB, Subset};
use lateen_kinds::destination_rule::{subset, tls};
use lateen_mesh::{Endpoint, Health, Locality, MtlsMode, Registry, Resolution, Service, ServicePort, TlsMode, canonical_name, canonical_revision};
use std::collections::BTreeMap;

/// Assignments of every EDS cluster of one proxy.
pub(crate) fn endpoints(view: &View<'_>) -> Named {
    let mut all = Named::new();
    for service in view.services.values().filter(|s| view.resolution(s) == Resolution::ClientSide) {
        let rule = view.destination_rule(service).map(|r| r.spec.as_ref());
        let subsets = rule.iter().flat_map(|r| &r.subsets).map(Some);
        for group in std::iter::once(None).chain(subsets) {
            for port in &service.ports {
                let policy = subset::effective(rule, group, u32::from(port.number));
                if policy.load_balancer.is_some_and(|lb| lb.simple == Some(SimpleLB::Passthrough)) {
                    continue;
                }
                let name = names::outbound_cluster(port.number, group.map(|g| g.name.as_str()).unwrap_or_default(), service.hostname.as_str());
                let assignment = assignment(view, service, port, group, &name);
                all.insert(name, Resource::new(&assignment));
            }
        }
    }
    all
}

/// The addresses of one cluster.
pub(crate) fn assignment(view: &View<'_>, service: &Service, port: &ServicePort, group: Option<&Subset>, name: &str) -> ClusterLoadAssignment {
    let rule = view.destination_rule(service).map(|r| r.spec.as_ref());
    let policy = subset::effective(rule, group, u32::from(port.number));
    let may_use_mtls = matches!(tls::mode(policy.tls), None | Some(ClientTLSMode::IstioMutual));
    let mut by_locality: BTreeMap<&Locality, Vec<LbEndpoint>> = BTreeMap::new();
    let in_group = |e: &&Endpoint| group.is_none_or(|g| subset::takes(g, &e.labels));
    for (index, endpoint) in service.endpoints.iter().enumerate().filter(|(_, e)| e.health == Health::Healthy) {
        if !in_group(&endpoint) {
            continue;
        }
        if let Some(number) = endpoint.ports.get(&port.name) {
            let metadata = metadata(view, service, (index, endpoint), *number, may_use_mtls);
            by_locality.entry(&endpoint.locality).or_default().push(lb_endpoint(service, endpoint, *number, metadata));
        }
    }
    let endpoints = by_locality.into_iter().map(|(locality, endpoints)| of_locality(locality, endpoints)).collect();
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: locality::prioritized(view, endpoints, &policy),
        ..Default::default()
    }
}

fn of_locality(locality: &Locality, lb_endpoints: Vec<LbEndpoint>) -> LocalityLbEndpoints {
    let weight = lb_endpoints.iter().filter_map(|e| e.load_balancing_weight).map(|w| w.value).sum();
    LocalityLbEndpoints {
        locality: Some(EnvoyLocality { region: locality.region.clone(), zone: locality.zone.clone(), sub_zone: locality.sub_zone.clone() }),
        lb_endpoints,
        load_balancing_weight: pb::uint(weight),
        ..Default::default()
    }
}

fn lb_endpoint(service: &Service, endpoint: &Endpoint, port: u16, metadata: Option<Metadata>) -> LbEndpoint {
    let address = EnvoyEndpoint { address: Some(pb::address(&endpoint.address, port)), ..Default::default() };
    let health = if service.registry == Registry::Kubernetes { HealthStatus::Healthy } else { HealthStatus::Unknown };
    LbEndpoint {
        health_status: health as i32,
        metadata,
        load_balancing_weight: pb::uint(endpoint.weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(address)),
    }
}

/// What matters of an endpoint: whether it takes mTLS, and whose it is (`name;namespace;canonical name;revision;cluster`).
fn metadata(view: &View<'_>, service: &Service, (index, endpoint): (usize, &Endpoint), port: u16, may_use_mtls: bool) -> Option<Metadata> {
    let declared = service.name();
    let own = match (endpoint.workload_name.is_empty(), service.resolution) {
        (false, _) => endpoint.workload_name.clone(),
        (true, Resolution::ClientSide) if service.registry == Registry::External => format!("{declared}-{index}"),
        (true, _) => declared.to_owned(),
    };
    let revision = canonical_revision(&endpoint.labels).unwrap_or_default();
    let workload = format!("{own};{};{};{revision};{}", endpoint.namespace, canonical_name(&endpoint.labels, &own), view.proxy.cluster_id);
    let istio = (pb::ISTIO_METADATA, pb::structure([("workload", pb::text(workload))]));
    if may_use_mtls && endpoint.tls_mode == TlsMode::Istio && view.snapshot.mtls_mode(&endpoint.namespace, &endpoint.labels, port) != MtlsMode::Disable {
        return pb::metadata([("envoy.transport_socket_match", pb::structure([("tlsMode", pb::text("istio"))])), istio]);
    }
    pb::metadata([istio])
}
