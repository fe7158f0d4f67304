//! RDS: which cluster an HTTP request goes to.
//!
//! - Reads: a [`View`].
//! - Rule: clusters are named, never checked: a subset that no DestinationRule declares is a name nobody answers to (503, flag `NC`), as in Istio.
//! - Not here: what a rule's fields mean (`kinds/src/virtual_service/`).

mod gateway;
mod http_route;
mod operation_route;
mod outbound;
mod virtual_host;

use crate::{Named, Resource, View, pb};
use lateen_base::{Host, names};
use lateen_envoy_api::envoy::config::route::v3::{Decorator, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_action, route_match};
use lateen_envoy_api::wkt;
use lateen_istio_api::Destination;

/// All route configurations of one proxy.
pub(crate) fn routes(view: &View<'_>) -> Named {
    let all = if view.proxy.is_router() { gateway::routes(view) } else { outbound::routes(view) };
    all.into_iter().map(|config| (config.name.clone(), Resource::new(&config))).collect()
}

/// Longest body of a direct response that a route may hold. Source: istiod.
const DIRECT_RESPONSE_BYTES_MAX: u32 = 1024 * 1024;

/// A route configuration as istiod's: clusters are not checked, ports in `Host` are ignored.
fn route_configuration(name: String, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name,
        virtual_hosts,
        validate_clusters: pb::boolean(false),
        max_direct_response_body_size_bytes: pb::uint(DIRECT_RESPONSE_BYTES_MAX),
        ignore_port_in_host_matching: true,
        ..Default::default()
    }
}

/// An action with its timeout, for gRPC the same.
#[expect(deprecated, reason = "istiod writes max_grpc_timeout")]
fn timed_action(limit: Option<wkt::Duration>) -> RouteAction {
    RouteAction { timeout: limit, max_grpc_timeout: limit, ..Default::default() }
}

/// The cluster a rule in `namespace` means by a destination.
pub(crate) fn destination_cluster(view: &View<'_>, destination: &Destination, namespace: &str, port: u16) -> String {
    let host = view.resolve(&destination.host, namespace);
    names::outbound_cluster(destination_port(view, destination, &host, port), &destination.subset, host.as_str())
}

/// The port a destination means. Where it names none: in a gateway the service's only port, else the port called.
/// A sidecar takes the port called even if the service has another, as istiod does; analysis reports it.
fn destination_port(view: &View<'_>, destination: &Destination, host: &Host, port: u16) -> u16 {
    let named = destination.port.as_ref().and_then(|p| u16::try_from(p.number).ok());
    let only = || match view.service(host).map(|s| s.ports.as_slice()) {
        Some([one]) if view.proxy.is_router() => Some(one.number),
        Some(_) | None => None,
    };
    named.or_else(only).unwrap_or(port)
}

/// The route of a listener chain for the workload itself: everything to one cluster, once more only if nothing was sent.
pub(crate) fn inbound_routes(name: &str, cluster: &str, port: u16, host: &str) -> RouteConfiguration {
    let zero = pb::seconds(0);
    let action = RouteAction {
        timeout: zero,
        retry_policy: Some(RetryPolicy { retry_on: "reset-before-request".to_owned(), num_retries: pb::uint(2), ..Default::default() }),
        max_stream_duration: Some(route_action::MaxStreamDuration { max_stream_duration: zero, grpc_timeout_header_max: zero, ..Default::default() }),
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    let route = Route {
        name: "default".to_owned(),
        r#match: Some(RouteMatch { path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())), ..Default::default() }),
        decorator: Some(Decorator { operation: format!("{host}:{port}/*"), ..Default::default() }),
        action: Some(route::Action::Route(action)),
        ..Default::default()
    };
    let host_port = if host.is_empty() { 0 } else { port };
    let virtual_host = VirtualHost { name: format!("inbound|http|{host_port}"), domains: vec!["*".to_owned()], routes: vec![route], ..Default::default() };
    RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![virtual_host], validate_clusters: pb::boolean(false), ..Default::default() }
}
