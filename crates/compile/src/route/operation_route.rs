//! Routes nobody wrote: to a service without rules, and for hosts nobody declared.
//!
//! - Reads: a service and its port.
//! - Rule: no timeout; Istio's default retries.
//! - Not here: routes of VirtualServices (`http_route`).

use super::timed_action;
use super::virtual_host::virtual_host;
use crate::{View, pb};
use lateen_base::names;
use lateen_envoy_api::envoy::config::route::v3::{Decorator, DirectResponseAction, Route, RouteAction, RouteMatch, VirtualHost, route, route_action, route_match};
use lateen_kinds::destination_rule::{load_balancer, subset};
use lateen_kinds::virtual_service::{retry, timeout};
use lateen_mesh::Service;

/// Everything to the service's own cluster.
pub(super) fn default_route(view: &View<'_>, service: &Service, port: u16) -> Route {
    let limit = timeout::lower(None);
    let rule = view.destination_rule(service).map(|object| object.spec.as_ref());
    let policy = subset::effective(rule, None, u32::from(port));
    let action = RouteAction {
        retry_policy: retry::lower(None, view.config().default_http_retry_policy.as_ref()),
        hash_policy: load_balancer::hash_policy(policy.load_balancer).into_iter().collect(),
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(names::outbound_cluster(port, "", service.hostname.as_str()))),
        ..timed_action(Some(limit))
    };
    Route {
        name: "default".to_owned(),
        decorator: Some(Decorator { operation: format!("{}:{port}/*", service.hostname), ..Default::default() }),
        ..everything(route::Action::Route(action))
    }
}

/// The virtual host for undeclared hosts: passed through, or answered 502.
pub(super) fn catch_all(allow_any: bool) -> VirtualHost {
    let (name, action) = if allow_any {
        let limit = pb::seconds(0);
        let cluster = route_action::ClusterSpecifier::Cluster(names::PASSTHROUGH_CLUSTER.to_owned());
        let action = RouteAction { cluster_specifier: Some(cluster), ..timed_action(limit) };
        (names::VHOST_ALLOW_ANY, route::Action::Route(action))
    } else {
        (names::VHOST_BLOCK_ALL, route::Action::DirectResponse(DirectResponseAction { status: 502, ..Default::default() }))
    };
    let route = Route { name: name.to_owned(), ..everything(action) };
    virtual_host(name.to_owned(), vec!["*".to_owned()], vec![route])
}

fn everything(action: route::Action) -> Route {
    let matching = RouteMatch { path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    Route { r#match: Some(matching), action: Some(action), ..Default::default() }
}
