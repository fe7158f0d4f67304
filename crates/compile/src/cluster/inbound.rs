//! Inbound clusters: from the sidecar to its own workload.
//!
//! - Reads: the workload's ports, `Sidecar.ingress[]`.
//! - Twin: `kinds/src/sidecar/ingress.rs`.
//! - Rule: connections come from 127.0.0.6, so that interception lets them pass to the workload and not back to 15006.
//! - Rule: the socket mark stands here too, since a cluster's own bind settings replace those of the bootstrap.
//! - Not here: who may call (`listener/inbound.rs`).

use super::{cluster, connect_timeout, original_destination};
use crate::view::InboundPort;
use crate::{View, pb};
use lateen_base::{names, ports};
use lateen_envoy_api::envoy::config::cluster::v3::Cluster;
use lateen_envoy_api::envoy::config::cluster::v3::cluster::{CommonLbConfig, DiscoveryType, LbPolicy};
use lateen_envoy_api::envoy::config::core::v3::{BindConfig, Metadata, SocketOption, socket_option};
use lateen_envoy_api::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier};
use lateen_istio_api::{ConnectionPoolSettings, H2UpgradePolicy};
use lateen_kinds::destination_rule::connection_pool::{self, UpstreamHttp};
use lateen_kinds::destination_rule::subset;
use lateen_mesh::Protocol;

/// `SOL_SOCKET`. Source: Linux.
const SOL_SOCKET: i64 = 1;
/// `SO_MARK`. Source: Linux.
const SO_MARK: i64 = 36;
/// Hosts of an original-destination cluster never expire. Source: istiod.
const CLEANUP_SECONDS: u64 = 9_223_372_035;

/// One cluster for each declared port.
pub(super) fn clusters(view: &View<'_>) -> Vec<Cluster> {
    view.inbound.iter().map(|port| of_port(view, port)).collect()
}

/// Connections to undeclared ports.
pub(super) fn passthrough(view: &View<'_>) -> Cluster {
    Cluster { upstream_bind_config: Some(bind_config()), ..original_destination(view, names::INBOUND_PASSTHROUGH_CLUSTER) }
}

fn of_port(view: &View<'_>, port: &InboundPort<'_>) -> Cluster {
    let name = names::inbound_cluster(port.port);
    let endpoint = port.ingress.and_then(|ingress| fixed_endpoint(view, &ingress.default_endpoint));
    let mut cluster = match endpoint {
        Some((address, number)) => Cluster {
            load_assignment: Some(assignment(&name, &address, number)),
            upstream_bind_config: view.proxy.ip_addresses.contains(&address).then(bind_config),
            ..cluster(view, &name, DiscoveryType::Static)
        },
        None => Cluster {
            lb_policy: LbPolicy::ClusterProvided as i32,
            cleanup_interval: pb::seconds(CLEANUP_SECONDS),
            upstream_bind_config: Some(bind_config()),
            ..cluster(view, &name, DiscoveryType::OriginalDst)
        },
    };
    let pool = pool(view, port);
    let pool = pool.as_ref();
    connection_pool::apply(pool, None, Some(connect_timeout(view)), &mut cluster);
    let http = match port.protocol {
        Protocol::Http2 | Protocol::Grpc => UpstreamHttp::Http2,
        Protocol::Auto => UpstreamHttp::SameAsDownstream,
        Protocol::Http | Protocol::GrpcWeb => UpstreamHttp::Http1,
        Protocol::Https | Protocol::Tls | Protocol::Tcp | Protocol::Mongo | Protocol::MySql | Protocol::Redis | Protocol::Udp => UpstreamHttp::Tcp,
    };
    cluster.typed_extension_protocol_options = connection_pool::http_options(pool, http);
    cluster.common_lb_config = Some(CommonLbConfig::default());
    cluster.metadata = services_metadata(view, port);
    cluster
}

/// Where a Sidecar's ingress listener sends connections; `None`: to the port they came for.
fn fixed_endpoint(view: &View<'_>, endpoint: &str) -> Option<(String, u16)> {
    if let Some(path) = endpoint.strip_prefix("unix://") {
        return Some((format!("unix://{path}"), 0));
    }
    let (address, port) = endpoint.rsplit_once(':')?;
    let port = port.parse().ok()?;
    match address {
        // The workload's own address, as opposed to its loopback.
        "0.0.0.0" | "[::]" => Some((view.proxy.ip_addresses.first()?.clone(), port)),
        other => Some((other.trim_matches(['[', ']']).to_owned(), port)),
    }
}

fn assignment(name: &str, address: &str, port: u16) -> ClusterLoadAssignment {
    let endpoint = Endpoint { address: Some(pb::address(address, port)), ..Default::default() };
    let lb_endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![lb_endpoint], ..Default::default() }],
        ..Default::default()
    }
}

fn bind_config() -> BindConfig {
    let mark = SocketOption {
        description: "keeps interception away".to_owned(),
        level: SOL_SOCKET,
        name: SO_MARK,
        state: socket_option::SocketState::StatePrebind as i32,
        value: Some(socket_option::Value::IntValue(i64::from(ports::PROXY_MARK))),
        ..Default::default()
    };
    BindConfig {
        source_address: Some(pb::socket_address(&ports::INBOUND_PASSTHROUGH_SOURCE.to_string(), 0)),
        socket_options: vec![mark],
        ..Default::default()
    }
}

/// Limits of the port: its ingress listener's, else the Sidecar's, else the service's own DestinationRule's.
fn pool(view: &View<'_>, port: &InboundPort<'_>) -> Option<ConnectionPoolSettings> {
    let of_sidecar = view.sidecar.and_then(|s| s.spec.inbound_connection_pool.as_ref());
    if let Some(pool) = port.ingress.and_then(|ingress| ingress.connection_pool.as_ref()).or(of_sidecar) {
        return Some(pool.clone());
    }
    let (service, service_port) = port.services.first().filter(|_| port.ingress.is_none())?;
    let rule = view.destination_rule(service).map(|r| r.spec.as_ref());
    let mut pool = subset::effective(rule, None, u32::from(service_port.number)).connection_pool?.clone();
    if let Some(http) = &mut pool.http {
        // An upgrade concerns the way between sidecars, not the workload behind one.
        http.h2_upgrade_policy = H2UpgradePolicy::DoNotUpgrade;
    }
    Some(pool)
}

fn services_metadata(view: &View<'_>, port: &InboundPort<'_>) -> Option<Metadata> {
    let services: Vec<_> = port.services.iter().map(|(service, _)| super::outbound::service_facts(service)).collect();
    if services.is_empty() {
        return None;
    }
    let mut facts = pb::structure([("services", pb::list(services))]);
    let rule = port.services.first().filter(|_| port.ingress.is_none()).and_then(|(service, _)| view.destination_rule(service)).filter(|r| r.spec.traffic_policy.is_some());
    if let Some(rule) = rule {
        facts.fields.insert("config".to_owned(), pb::text(pb::config_path("destination-rule", &rule.meta)));
    }
    pb::metadata([(pb::ISTIO_METADATA, facts)])
}
