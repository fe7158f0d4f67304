//! The one table of filter order, each row with its reason.
//!
//! | HTTP filter | outbound | inbound | gateway | why here |
//! |---|---|---|---|---|
//! | `istio.metadata_exchange` | x | x | x | peers are known before anything judges or counts a request |
//! | `envoy.filters.http.jwt_authn` | | x | x | policies may ask for the token's claims |
//! | `envoy.filters.http.rbac` | | x | x | a refused request costs as little as possible |
//! | `envoy.filters.http.grpc_stats` | x | x | x | counts messages that were let in |
//! | `istio.alpn` | x | | x | before the router picks a connection |
//! | `envoy.filters.http.fault` | x | x | x | after judging, before forwarding |
//! | `envoy.filters.http.cors` | x | x | x | answers preflights itself |
//! | `istio.stats` | x | x | x | sees the result of all others |
//! | `envoy.filters.http.router` | x | x | x | last: it forwards |
//!
//! Network filters: `envoy.filters.network.rbac` (inbound), then `istio.stats`, then `tcp_proxy`; an HTTP connection manager stands alone.
//!
//! - Reads: what the node understands, `MeshConfig.defaultProviders.metrics`.
//! - Rule: filters named `istio.*` go only to nodes that say they understand them.
//! - Limits: `istio.metadata_exchange` for TCP is not sent, as no node of ours speaks `istio-peer-exchange`.
//! - Not here: what the policy filters contain (`listener/policy.rs`).

use crate::View;
use crate::pb;
use lateen_envoy_api::envoy::config::listener::v3::{Filter, filter};
use lateen_envoy_api::envoy::extensions::filters::http::{cors, fault, grpc_stats, router};
use lateen_envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use lateen_envoy_api::istio::envoy::config::filter::http::alpn::v2alpha1::{self as alpn, filter_config};
use lateen_envoy_api::stats::PluginConfig;
use lateen_envoy_api::udpa::r#type::v1::TypedStruct;
use lateen_envoy_api::{Any, pack, wkt};
use lateen_base::names;

/// Which listener a filter stack is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stack {
    /// A sidecar's calls to others.
    Outbound,
    /// Calls to the workload.
    Inbound,
    /// An edge proxy.
    Gateway,
}

/// HTTP filters in order; `policies` are the authentication and authorization filters of the workload.
pub(crate) fn http_filters(view: &View<'_>, stack: Stack, policies: &[HttpFilter]) -> Vec<HttpFilter> {
    let istio = view.proxy.speaks_istio();
    let mut filters = Vec::new();
    if istio {
        filters.push(http_filter("istio.metadata_exchange", peer_metadata(stack)));
    }
    filters.extend_from_slice(policies);
    let grpc = grpc_stats::v3::FilterConfig {
        emit_filter_state: true,
        per_method_stat_specifier: Some(grpc_stats::v3::filter_config::PerMethodStatSpecifier::StatsForAllMethods(wkt::BoolValue { value: false })),
        ..Default::default()
    };
    filters.push(http_filter("envoy.filters.http.grpc_stats", pack(&grpc)));
    if istio && stack != Stack::Inbound {
        filters.push(http_filter("istio.alpn", pack(&alpn_override())));
    }
    filters.push(http_filter(FAULT, pack(&fault::v3::HttpFault::default())));
    filters.push(http_filter(CORS, pack(&cors::v3::Cors::default())));
    if stats_on(view) {
        filters.push(http_filter("istio.stats", stats(stack)));
    }
    filters.push(http_filter("envoy.filters.http.router", pack(&router::v3::Router::default())));
    filters
}

/// Network filters before the last one of a TCP chain; `policies` are the workload's authorization filters.
pub(crate) fn network_filters(view: &View<'_>, stack: Stack, policies: &[Filter]) -> Vec<Filter> {
    let mut filters = policies.to_vec();
    if stats_on(view) {
        filters.push(network_filter("istio.stats", stats(stack)));
    }
    filters
}

/// Name of the fault filter, also the key of per-route faults.
pub(crate) const FAULT: &str = "envoy.filters.http.fault";
/// Name of the CORS filter, also the key of per-route policies.
pub(crate) const CORS: &str = "envoy.filters.http.cors";

fn stats_on(view: &View<'_>) -> bool {
    view.proxy.speaks_istio() && view.config().prometheus_metrics
}

fn stats(stack: Stack) -> Any {
    pack(&PluginConfig { disable_host_header_fallback: stack != Stack::Outbound, ..Default::default() })
}

/// An HTTP filter with its configuration.
pub(crate) fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter { name: name.to_owned(), config_type: Some(http_filter::ConfigType::TypedConfig(config)), ..Default::default() }
}

/// A network filter with its configuration.
pub(crate) fn network_filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// Peer metadata over HTTP headers, as istiod writes it: the type is named inside a `TypedStruct`.
fn peer_metadata(stack: Stack) -> Any {
    let method = |name: &str| pb::object(pb::structure([(name, pb::object(wkt::Struct::default()))]));
    let discovery = pb::list(vec![method("istio_headers"), method("workload_discovery")]);
    let propagation = pb::list(vec![method("istio_headers")]);
    let value = match stack {
        Stack::Inbound => pb::structure([("downstream_discovery", discovery), ("downstream_propagation", propagation)]),
        Stack::Outbound | Stack::Gateway => pb::structure([("upstream_discovery", discovery), ("upstream_propagation", propagation)]),
    };
    pack(&TypedStruct { type_url: "type.googleapis.com/io.istio.http.peer_metadata.Config".to_owned(), value: Some(value) })
}

fn alpn_override() -> alpn::FilterConfig {
    let row = |protocol: filter_config::Protocol, offers: [&str; 3]| filter_config::AlpnOverride {
        upstream_protocol: protocol as i32,
        alpn_override: offers.iter().map(|s| (*s).to_owned()).collect(),
    };
    alpn::FilterConfig {
        alpn_override: vec![
            row(filter_config::Protocol::Http10, [names::ALPN_ISTIO_HTTP10, names::ALPN_ISTIO, "http/1.0"]),
            row(filter_config::Protocol::Http11, [names::ALPN_ISTIO_HTTP11, names::ALPN_ISTIO, "http/1.1"]),
            row(filter_config::Protocol::Http2, [names::ALPN_ISTIO_H2, names::ALPN_ISTIO, "h2"]),
        ],
    }
}
