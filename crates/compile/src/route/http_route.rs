//! One rule of a VirtualService → the routes it makes, in order.
//!
//! - Reads: `VirtualService.http[]`.
//! - Twin: `plan/src/route/mod.rs`, which tries them.
//! - Rule: every field's meaning comes from `kinds/src/virtual_service/`; here the fragments are put together.
//! - Rule: the first route that takes every request ends the list.
//! - Limits: `delegate` is resolved one level deep, as in Istio.

use super::destination_cluster;
use crate::{View, pb};
use lateen_envoy_api::envoy::config::route::v3::{Decorator, Route, RouteAction, RouteMatch, WeightedCluster, route, route_action, route_match, weighted_cluster};
use lateen_envoy_api::pack;
use lateen_istio_api::{HTTPMatchRequest, HTTPRoute, HTTPRouteDestination, VirtualService};
use lateen_kinds::destination_rule::{load_balancer, subset};
use lateen_kinds::virtual_service::{cors, destination, fault, headers, http_match, mirror, redirect, retry, rewrite, timeout};
use lateen_mesh::{Object, gateway_name};

/// Where requests come in, as rules see it.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// `mesh`, or the gateway's `namespace/name`.
    pub gateway: &'a str,
    /// Port that rules name.
    pub port: u16,
}

/// The routes of a VirtualService for requests from `entry`.
pub(super) fn routes(view: &View<'_>, rule: &Object<VirtualService>, entry: Entry<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for (http, owner) in rules(view, rule) {
        let context = Context { view, rule, namespace: &owner.meta.namespace, entry };
        if http.r#match.is_empty() {
            routes.extend(context.route(&http, None));
        }
        for matching in &http.r#match {
            if context.applies(matching) {
                routes.extend(context.route(&http, Some(matching)));
            }
            if routes.last().is_some_and(is_catch_all) {
                break;
            }
        }
        if routes.last().is_some_and(is_catch_all) {
            break;
        }
    }
    routes
}

/// Whether a route takes every request.
pub(super) fn is_catch_all(route: &Route) -> bool {
    let Some(matching) = &route.r#match else { return false };
    let path = match &matching.path_specifier {
        Some(route_match::PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(route_match::PathSpecifier::SafeRegex(regex)) => regex.regex == ".*" || regex.regex == "*",
        Some(_) | None => false,
    };
    let free = matching.headers.is_empty() && matching.query_parameters.is_empty() && matching.dynamic_metadata.is_empty();
    path && free && matching.runtime_fraction.is_none()
}

/// A VirtualService's rules with those of its delegates in their place, each with the object it stands in.
fn rules<'a>(view: &View<'a>, rule: &'a Object<VirtualService>) -> Vec<(HTTPRoute, &'a Object<VirtualService>)> {
    let mut all = Vec::new();
    for http in &rule.spec.http {
        let Some(delegate) = &http.delegate else {
            all.push((http.clone(), rule));
            continue;
        };
        let namespace = if delegate.namespace.is_empty() { &rule.meta.namespace } else { &delegate.namespace };
        let found = view.snapshot.virtual_services.iter().find(|o| o.meta.name == delegate.name && o.meta.namespace == *namespace && o.spec.hosts.is_empty());
        let Some(owner) = found else { continue };
        all.extend(owner.spec.http.iter().filter_map(|inner| Some((merged(http, inner)?, owner))));
    }
    all
}

/// A delegate's rule as its root lets it through: both matches must hold; `None` when they cannot.
fn merged(root: &HTTPRoute, inner: &HTTPRoute) -> Option<HTTPRoute> {
    let mut http = inner.clone();
    http.r#match = match (root.r#match.is_empty(), inner.r#match.is_empty()) {
        (true, _) => inner.r#match.clone(),
        (false, true) => root.r#match.clone(),
        (false, false) => {
            let pairs = root.r#match.iter().flat_map(|outer| inner.r#match.iter().map(move |i| (outer, i)));
            let all: Vec<HTTPMatchRequest> = pairs.filter_map(|(outer, i)| both(outer, i)).collect();
            if all.is_empty() {
                return None;
            }
            all
        }
    };
    http.timeout = http.timeout.or(root.timeout);
    http.retries = http.retries.or_else(|| root.retries.clone());
    http.fault = http.fault.or_else(|| root.fault.clone());
    http.rewrite = http.rewrite.or_else(|| root.rewrite.clone());
    http.headers = http.headers.or_else(|| root.headers.clone());
    http.cors_policy = http.cors_policy.or_else(|| root.cors_policy.clone());
    Some(http)
}

/// One match out of two: a field only one has is taken over; a path must lie under the root's prefix.
fn both(outer: &HTTPMatchRequest, inner: &HTTPMatchRequest) -> Option<HTTPMatchRequest> {
    use lateen_istio_api::StringMatch::{Exact, Prefix};
    let uri = match (&outer.uri, &inner.uri) {
        (None, uri) | (uri, None) => uri.clone(),
        (Some(Prefix(base)), Some(Prefix(path) | Exact(path))) if path.starts_with(base.as_str()) => inner.uri.clone(),
        (a, b) if a == b => a.clone(),
        _ => return None,
    };
    let mut matching = inner.clone();
    matching.uri = uri;
    matching.headers.extend(outer.headers.clone());
    matching.without_headers.extend(outer.without_headers.clone());
    matching.query_params.extend(outer.query_params.clone());
    matching.source_labels.extend(outer.source_labels.clone());
    matching.method = inner.method.clone().or_else(|| outer.method.clone());
    matching.scheme = inner.scheme.clone().or_else(|| outer.scheme.clone());
    matching.authority = inner.authority.clone().or_else(|| outer.authority.clone());
    if matching.gateways.is_empty() {
        matching.gateways.clone_from(&outer.gateways);
    }
    matching.port = if inner.port == 0 { outer.port } else { inner.port };
    Some(matching)
}

struct Context<'a, 'v> {
    view: &'a View<'v>,
    rule: &'a Object<VirtualService>,
    /// Namespace in which short names are meant.
    namespace: &'a str,
    entry: Entry<'a>,
}

impl Context<'_, '_> {
    fn applies(&self, matching: &HTTPMatchRequest) -> bool {
        let proxy = self.view.proxy;
        let resolved;
        let matching = if matching.gateways.is_empty() {
            matching
        } else {
            let gateways = matching.gateways.iter().map(|g| gateway_name(g, &self.rule.meta.namespace)).collect();
            resolved = HTTPMatchRequest { gateways, ..matching.clone() };
            &resolved
        };
        http_match::applies_to(matching, &proxy.labels, &proxy.namespace, self.entry.gateway, u32::from(self.entry.port))
    }

    fn route(&self, http: &HTTPRoute, matching: Option<&HTTPMatchRequest>) -> Option<Route> {
        let matched = http_match::lower(matching);
        let path = operation_path(&matched);
        let mut route = Route { name: route_name(http, matching), r#match: Some(matched), metadata: pb::config_metadata("virtual-service", &self.rule.meta), ..Default::default() };
        if let Some(prefix) = matching.map(|m| &m.stat_prefix) {
            route.stat_prefix.clone_from(prefix);
        }
        let rule_headers = headers::lower(http.headers.as_ref());
        let mut operation = format!("{}:{}{path}", self.rule.meta.name, self.entry.port);
        route.action = Some(if let Some(to) = &http.redirect {
            route::Action::Redirect(redirect::lower(to, u32::from(self.entry.port)))
        } else if let Some(response) = &http.direct_response {
            route::Action::DirectResponse(redirect::lower_direct(response))
        } else {
            let action = self.action(http, &rule_headers, &mut route)?;
            if let Some(route_action::ClusterSpecifier::Cluster(name)) = &action.cluster_specifier
                && let Some(cluster) = lateen_base::names::split_cluster(name)
            {
                operation = format!("{}:{}{path}", cluster.host, cluster.port);
            }
            route::Action::Route(action)
        });
        route.decorator = Some(Decorator { operation, ..Default::default() });
        prepend(&mut route, rule_headers);
        if let Some(injected) = http.fault.as_ref().and_then(fault::lower) {
            route.typed_per_filter_config.insert(fault::FILTER.to_owned(), pack(&injected));
        }
        if let Some(policy) = &http.cors_policy {
            route.typed_per_filter_config.insert(cors::FILTER.to_owned(), pack(&cors::lower(policy)));
        }
        Some(route)
    }

    fn action(&self, http: &HTTPRoute, rule_headers: &headers::HeaderLists, route: &mut Route) -> Option<RouteAction> {
        let limit = timeout::lower(http.timeout);
        let mut action = super::timed_action(Some(limit));
        action.retry_policy = retry::lower(http.retries.as_ref(), self.view.config().default_http_retry_policy.as_ref());
        if let Some(authority) = &rule_headers.authority {
            action.host_rewrite_specifier = Some(route_action::HostRewriteSpecifier::HostRewriteLiteral(authority.clone()));
        }
        if let Some(change) = &http.rewrite {
            rewrite::lower(change, &mut action);
        }
        action.request_mirror_policies = mirror::mirrors(http).iter().map(|copy| mirror::lower(copy, self.cluster(copy.destination))).collect();
        action.cluster_specifier = Some(self.clusters(&http.route, &mut action, route)?);
        Some(action)
    }

    /// The cluster, or the weighted clusters, of a rule. A single destination's header changes become the route's own.
    fn clusters(&self, destinations: &[HTTPRouteDestination], action: &mut RouteAction, route: &mut Route) -> Option<route_action::ClusterSpecifier> {
        if let [only] = destinations {
            let own = headers::lower(only.headers.as_ref());
            if let Some(authority) = &own.authority {
                action.host_rewrite_specifier = Some(route_action::HostRewriteSpecifier::HostRewriteLiteral(authority.clone()));
            }
            prepend(route, own);
            let target = only.destination.as_ref()?;
            action.hash_policy.extend(self.hash_policy(target));
            return Some(route_action::ClusterSpecifier::Cluster(self.cluster(target)));
        }
        let mut clusters = Vec::new();
        for each in destinations {
            let (Some(target), Some(weight)) = (&each.destination, destination::share(each.weight, destinations.len())) else { continue };
            let own = headers::lower(each.headers.as_ref());
            clusters.push(weighted_cluster::ClusterWeight {
                name: self.cluster(target),
                weight: pb::uint(weight),
                request_headers_to_add: own.request_add,
                request_headers_to_remove: own.request_remove,
                response_headers_to_add: own.response_add,
                response_headers_to_remove: own.response_remove,
                host_rewrite_specifier: own.authority.map(weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
                ..Default::default()
            });
            if action.hash_policy.is_empty() {
                action.hash_policy.extend(self.hash_policy(target));
            }
        }
        (!clusters.is_empty()).then(|| route_action::ClusterSpecifier::WeightedClusters(WeightedCluster { clusters, ..Default::default() }))
    }

    fn cluster(&self, target: &lateen_istio_api::Destination) -> String {
        destination_cluster(self.view, target, self.namespace, self.entry.port)
    }

    fn hash_policy(&self, target: &lateen_istio_api::Destination) -> Option<route_action::HashPolicy> {
        let service = self.view.service(&self.view.resolve(&target.host, self.namespace))?;
        let port = super::destination_port(self.view, target, &service.hostname, self.entry.port);
        let rule = self.view.destination_rule(service).map(|object| object.spec.as_ref());
        let group = rule.and_then(|rule| subset::find(rule, &target.subset));
        load_balancer::hash_policy(subset::effective(rule, group, u32::from(port)).load_balancer)
    }
}

/// Puts header changes before those already there: Envoy performs them in order.
fn prepend(route: &mut Route, lists: headers::HeaderLists) {
    route.request_headers_to_add.splice(0..0, lists.request_add);
    route.request_headers_to_remove.splice(0..0, lists.request_remove);
    route.response_headers_to_add.splice(0..0, lists.response_add);
    route.response_headers_to_remove.splice(0..0, lists.response_remove);
}

fn route_name(http: &HTTPRoute, matching: Option<&HTTPMatchRequest>) -> String {
    match matching.map(|m| m.name.as_str()).filter(|n| !n.is_empty()) {
        Some(name) if http.name.is_empty() => name.to_owned(),
        Some(name) => format!("{}.{name}", http.name),
        None => http.name.clone(),
    }
}

/// The path part of a route's operation name.
pub(super) fn operation_path(matching: &RouteMatch) -> String {
    match &matching.path_specifier {
        Some(route_match::PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
        Some(route_match::PathSpecifier::Path(path)) => path.clone(),
        Some(route_match::PathSpecifier::SafeRegex(regex)) => regex.regex.clone(),
        Some(_) | None => "/*".to_owned(),
    }
}
