//! Routing: from a request to its route and cluster.
//!
//! - Reads: a [`RouteTable`] and a request.
//! - Twin: `kinds/src/virtual_service/redirect.rs`.
//! - Rule: pure and free of allocation; the traced variant calls the same code with a tracer that listens.
//! - Not here: conditions (`matcher`), the domain index (`domains`).

use super::matcher::Miss;
use super::{Action, ClusterChoice, Forward, Route, RouteTable, VirtualHost, WeightedCluster};
use crate::names::Name;
use crate::request::RequestView;
use crate::route::rewrite::split_port;
use crate::trace::{Silent, Tracer};

/// Where a route lies in its table; a stream keeps it beside the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId {
    /// Index into [`RouteTable::virtual_hosts`].
    pub virtual_host: u32,
    /// Index into [`VirtualHost::routes`].
    pub route: u32,
    /// Index into the weighted clusters; [`NOT_WEIGHTED`] when there are none.
    pub weighted: u32,
}

/// [`RouteId::weighted`] of a route without weighted clusters.
pub const NOT_WEIGHTED: u32 = u32::MAX;

/// The answer to «where does this request go?».
#[derive(Clone, Copy, Debug)]
pub enum RouteDecision<'a> {
    /// There.
    Matched(RouteMatched<'a>),
    /// Nowhere: 404, flag `NR`, `route_not_found`.
    NotFound(NotFound),
}

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// No virtual host serves the host.
    VirtualHost,
    /// The virtual host has no route for it.
    Route,
}

/// A route found.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatched<'a> {
    /// Where it lies.
    pub id: RouteId,
    /// Its virtual host.
    pub virtual_host: &'a VirtualHost,
    /// The route.
    pub route: &'a Route,
    /// The weighted cluster drawn.
    pub weighted: Option<&'a WeightedCluster>,
}

impl<'a> RouteMatched<'a> {
    /// The forwarding action. `None`: the request is answered here.
    #[must_use]
    pub fn forward(&self) -> Option<&'a Forward> {
        match &self.route.action {
            Action::Forward(forward) => Some(forward),
            Action::Redirect(_) | Action::Direct(_) | Action::NonForwarding => None,
        }
    }

    /// The cluster, when the table names it. `None`: answered here, or see [`Self::cluster_header`].
    #[must_use]
    pub fn cluster(&self) -> Option<&'a Name> {
        match (&self.forward()?.cluster, self.weighted) {
            (_, Some(weighted)) => Some(&weighted.name),
            (ClusterChoice::One(name), None) => Some(name),
            (ClusterChoice::Header(_) | ClusterChoice::Weighted(_), None) => None,
        }
    }

    /// The request header that names the cluster.
    #[must_use]
    pub fn cluster_header(&self) -> Option<&'a Name> {
        match &self.forward()?.cluster {
            ClusterChoice::Header(name) => Some(name),
            ClusterChoice::One(_) | ClusterChoice::Weighted(_) => None,
        }
    }

    /// The retry policy in force: the route's, else the virtual host's.
    #[must_use]
    pub fn retry(&self) -> Option<&'a super::RetryPolicy> {
        self.forward().and_then(|f| f.retry.as_ref()).or(self.virtual_host.retry.as_ref())
    }

    /// The settings of HTTP filters, most specific first: weighted cluster, route, virtual host.
    pub fn per_filter(&self) -> impl Iterator<Item = &'a crate::http::PerFilterConfig> {
        let weighted = self.weighted.map(|w| &w.per_filter);
        weighted.into_iter().chain([&self.route.per_filter, &self.virtual_host.per_filter])
    }

    /// Header changes in the order in which they are applied (see [`RouteTable::most_specific_header_mutations_wins`]).
    pub fn header_changes(&self, table: &'a RouteTable) -> impl Iterator<Item = &'a super::HeaderChanges> {
        let (weighted, route) = (self.weighted.map(|w| &w.headers), Some(&self.route.headers));
        let (vhost, whole) = (Some(&self.virtual_host.headers), Some(&table.headers));
        let order = if table.most_specific_header_mutations_wins { [whole, vhost, route, weighted] } else { [weighted, route, vhost, whole] };
        order.into_iter().flatten()
    }
}

/// Where `request` goes, having drawn `draw`. Pure.
#[must_use]
pub fn route<'a>(table: &'a RouteTable, request: &impl RequestView, draw: u64) -> RouteDecision<'a> {
    route_traced(table, request, draw, &mut Silent)
}

/// The same, telling `tracer` every virtual host and route that was looked at.
pub fn route_traced<'a>(table: &'a RouteTable, request: &impl RequestView, draw: u64, tracer: &mut impl Tracer) -> RouteDecision<'a> {
    let Some(vhost_index) = find_virtual_host(table, request.authority()) else {
        tracer.note(|| format!("no virtual host of route table `{}` serves host `{}`", table.name, text(request.authority())));
        return RouteDecision::NotFound(NotFound::VirtualHost);
    };
    let Some(virtual_host) = table.virtual_hosts.get(vhost_index as usize) else {
        return RouteDecision::NotFound(NotFound::VirtualHost);
    };
    tracer.note(|| format!("host `{}` is served by virtual host `{}`", text(request.authority()), virtual_host.name));
    for (index, route) in (0u32..).zip(&virtual_host.routes) {
        if let Some(miss) = route.matches.miss(request, draw) {
            tracer.note(|| format!("route {index} `{}` does not match: {}", route.name, miss.explain()));
            continue;
        }
        tracer.note(|| format!("route {index} `{}` matches", route.name));
        let (at, weighted) = weighted(route, draw);
        let id = RouteId { virtual_host: vhost_index, route: index, weighted: at };
        if let Some(w) = weighted {
            tracer.note(|| format!("of its weighted clusters, `{}` (weight {}) is drawn", w.name, w.weight));
        }
        return RouteDecision::Matched(RouteMatched { id, virtual_host, route, weighted });
    }
    tracer.note(|| format!("no route of virtual host `{}` matches", virtual_host.name));
    RouteDecision::NotFound(NotFound::Route)
}

impl RouteTable {
    /// The route at `id`. `None`: the id is of another table.
    #[must_use]
    pub fn at(&self, id: RouteId) -> Option<RouteMatched<'_>> {
        let virtual_host = self.virtual_hosts.get(id.virtual_host as usize)?;
        let route = virtual_host.routes.get(id.route as usize)?;
        let weighted = match &route.action {
            Action::Forward(forward) => match &forward.cluster {
                ClusterChoice::Weighted(list) => list.clusters.get(id.weighted as usize),
                ClusterChoice::One(_) | ClusterChoice::Header(_) => None,
            },
            Action::Redirect(_) | Action::Direct(_) | Action::NonForwarding => None,
        };
        Some(RouteMatched { id, virtual_host, route, weighted })
    }
}

fn find_virtual_host(table: &RouteTable, authority: &[u8]) -> Option<u32> {
    let host = if table.ignore_port_in_host_matching { split_port(authority).0 } else { authority };
    table.domains.find(host)
}

/// Envoy takes the draw modulo the sum and walks the list; the same here, so that equal draws give equal clusters.
fn weighted(route: &Route, draw: u64) -> (u32, Option<&WeightedCluster>) {
    let Action::Forward(forward) = &route.action else { return (NOT_WEIGHTED, None) };
    let ClusterChoice::Weighted(list) = &forward.cluster else { return (NOT_WEIGHTED, None) };
    let mut left = draw % list.total.max(1);
    for (index, cluster) in (0u32..).zip(&list.clusters) {
        match left.checked_sub(u64::from(cluster.weight)) {
            Some(rest) => left = rest,
            None => return (index, Some(cluster)),
        }
    }
    (NOT_WEIGHTED, None)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Miss<'_> {
    /// The condition in words.
    #[must_use]
    pub fn explain(&self) -> String {
        match self {
            Miss::Path(want) => format!("path is not {}", want.describe()),
            Miss::Header(want) => format!("header `{}` is not {}", want.name, want.describe()),
            Miss::Query(want) => format!("query parameter `{}` does not fit", want.name),
            Miss::Grpc => "it is not gRPC".into(),
            Miss::Fraction(f) => format!("the draw is outside {}/{}", f.numerator, f.denominator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PlainRequest;
    use crate::trace::Trace;
    use lateen_envoy_api::envoy::config::route::v3 as xroute;

    fn table(json: serde_json::Value) -> RouteTable {
        let given: xroute::RouteConfiguration = serde_json::from_value(json).unwrap();
        super::super::route_table(&given).unwrap()
    }

    fn canary(v1: u32, v2: u32) -> RouteTable {
        table(serde_json::json!({"name": "80", "virtual_hosts": [{
            "name": "reviews:80", "domains": ["reviews", "reviews.default.svc.cluster.local"],
            "routes": [
                {"name": "jason", "match": {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}]}, "route": {"cluster": "v2"}},
                {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": "v1", "weight": v1}, {"name": "v2", "weight": v2}]}}}
            ]}]}))
    }

    fn cluster(table: &RouteTable, request: &PlainRequest, draw: u64) -> Option<String> {
        match route(table, request, draw) {
            RouteDecision::Matched(found) => found.cluster().map(|c| c.to_string()),
            RouteDecision::NotFound(_) => None,
        }
    }

    #[test]
    fn weights_share_the_draws_exactly() {
        let (table, request) = (canary(90, 10), PlainRequest::get("reviews", "/"));
        let second = (0..1000).filter(|draw| cluster(&table, &request, *draw).unwrap() == "v2").count();
        assert_eq!(second, 100);
    }

    #[test]
    fn weight_zero_gets_nothing() {
        let (table, request) = (canary(100, 0), PlainRequest::get("reviews", "/"));
        assert!((0..1000).all(|draw| cluster(&table, &request, draw).unwrap() == "v1"));
    }

    #[test]
    fn the_first_route_that_matches_is_taken() {
        let request = PlainRequest::get("reviews", "/").with("end-user", "jason");
        assert_eq!(cluster(&canary(100, 0), &request, 0), Some("v2".into()));
    }

    #[test]
    fn an_unknown_host_has_no_virtual_host() {
        let (table, request) = (canary(1, 1), PlainRequest::get("ratings", "/"));
        assert!(matches!(route(&table, &request, 0), RouteDecision::NotFound(NotFound::VirtualHost)));
    }

    #[test]
    fn the_port_of_a_host_counts_unless_it_is_ignored() {
        let vhost = serde_json::json!([{"name": "a", "domains": ["a"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]}]);
        let strict = table(serde_json::json!({"name": "r", "virtual_hosts": vhost}));
        let lenient = table(serde_json::json!({"name": "r", "virtual_hosts": vhost, "ignore_port_in_host_matching": true}));
        let request = PlainRequest::get("a:8080", "/");
        assert_eq!((cluster(&strict, &request, 0), cluster(&lenient, &request, 0)), (None, Some("c".into())));
    }

    #[test]
    fn an_id_finds_its_route_again() {
        let (table, request) = (canary(50, 50), PlainRequest::get("reviews", "/"));
        let RouteDecision::Matched(found) = route(&table, &request, 99) else { panic!("no route") };
        assert_eq!(table.at(found.id).unwrap().cluster(), found.cluster());
    }

    #[test]
    fn a_trace_says_why_a_route_was_passed_over() {
        let mut trace = Trace::default();
        let table = canary(1, 1);
        let _ = route_traced(&table, &PlainRequest::get("reviews", "/"), 1, &mut trace);
        assert_eq!(trace.steps[1], "route 0 `jason` does not match: header `end-user` is not `jason`");
        assert_eq!(trace.steps[3], "of its weighted clusters, `v2` (weight 1) is drawn");
    }

    #[test]
    fn weights_that_sum_to_zero_are_refused() {
        let json = serde_json::json!({"name": "r", "virtual_hosts": [{"name": "a", "domains": ["a"], "routes": [
            {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": "v1", "weight": 0}]}}}]}]});
        let given: xroute::RouteConfiguration = serde_json::from_value(json).unwrap();
        let error = super::super::route_table(&given).unwrap_err();
        assert_eq!(error.field, "virtual_hosts[a].routes[0].route.weighted_clusters.clusters");
    }

    #[test]
    fn no_timeout_means_envoys_default_and_zero_means_none() {
        let timeout = |route: serde_json::Value| {
            let routes = serde_json::json!([{"match": {"prefix": "/"}, "route": route}]);
            let table = table(serde_json::json!({"name": "r", "virtual_hosts": [{"name": "a", "domains": ["*"], "routes": routes}]}));
            match route_of(&table) {
                Action::Forward(forward) => forward.timeout,
                Action::Redirect(_) | Action::Direct(_) | Action::NonForwarding => None,
            }
        };
        assert_eq!(timeout(serde_json::json!({"cluster": "c"})), Some(std::time::Duration::from_secs(15)));
        assert_eq!(timeout(serde_json::json!({"cluster": "c", "timeout": "0s"})), None);
    }

    fn route_of(table: &RouteTable) -> &Action {
        &table.virtual_hosts[0].routes[0].action
    }
}
