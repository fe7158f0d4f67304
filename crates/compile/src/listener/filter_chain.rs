//! Filter chains: what a connection must look like, and the filters it then passes.
//!
//! - Reads: matches decided by the callers.
//! - Rule: a chain's last filter is an HTTP connection manager or a TCP proxy.
//! - Not here: order of filters (`filter_order`), TLS (`tls`).

use crate::filter_order::{Stack, network_filter, network_filters};
use crate::{View, access_log, pb};
use lateen_base::names;
use lateen_envoy_api::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, ListenerFilter, ListenerFilterChainMatchPredicate, listener_filter, listener_filter_chain_match_predicate};
use lateen_envoy_api::envoy::extensions::filters::listener::{http_inspector, original_dst, tls_inspector};
use lateen_envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use lateen_envoy_api::envoy::r#type::v3::Int32Range;
use lateen_envoy_api::{Any, pack};
use lateen_mesh::OutboundMode;

/// `transport_protocol` of a connection without TLS.
pub(crate) const RAW_BUFFER: &str = "raw_buffer";
/// `transport_protocol` of a TLS connection.
pub(crate) const TLS: &str = "tls";
/// What the HTTP inspector says of a plaintext HTTP connection.
pub(crate) const PLAINTEXT_HTTP: [&str; 2] = ["http/1.1", "h2c"];

/// A match by transport and application protocol; empty means any.
pub(crate) fn protocol_match(transport: &str, application: &[&str]) -> FilterChainMatch {
    FilterChainMatch {
        transport_protocol: transport.to_owned(),
        application_protocols: application.iter().map(|p| (*p).to_owned()).collect(),
        ..Default::default()
    }
}

/// The chain's network filters for one cluster, the TCP proxy last.
pub(crate) fn tcp_filters(view: &View<'_>, stack: Stack, policies: &[Filter], target: tcp_proxy::ClusterSpecifier) -> Vec<Filter> {
    let stat_prefix = match &target {
        tcp_proxy::ClusterSpecifier::Cluster(name) => name.clone(),
        tcp_proxy::ClusterSpecifier::WeightedClusters(w) => w.clusters.first().map(|c| c.name.clone()).unwrap_or_default(),
    };
    named_tcp_filters(view, (stack, policies), &stat_prefix, target)
}

/// As [`tcp_filters`], with a statistics prefix of its own.
pub(crate) fn named_tcp_filters(view: &View<'_>, (stack, policies): (Stack, &[Filter]), stat_prefix: &str, target: tcp_proxy::ClusterSpecifier) -> Vec<Filter> {
    let proxy = TcpProxy { stat_prefix: stat_prefix.to_owned(), access_log: access_log::filter_logs(view), cluster_specifier: Some(target), ..Default::default() };
    let mut filters = network_filters(view, stack, policies);
    filters.push(network_filter("envoy.filters.network.tcp_proxy", pack(&proxy)));
    filters
}

/// One cluster as a TCP proxy's target.
pub(crate) fn to_cluster(name: &str) -> tcp_proxy::ClusterSpecifier {
    tcp_proxy::ClusterSpecifier::Cluster(name.to_owned())
}

/// The chain for connections to nobody we know: passed through, or dropped under `REGISTRY_ONLY`.
pub(crate) fn passthrough_chain(view: &View<'_>) -> FilterChain {
    FilterChain {
        filter_chain_match: Some(FilterChainMatch::default()),
        filters: tcp_filters(view, Stack::Outbound, &[], to_cluster(passthrough_cluster(view))),
        name: "PassthroughFilterChain".to_owned(),
        ..Default::default()
    }
}

/// Where traffic to undeclared destinations goes.
pub(crate) fn passthrough_cluster(view: &View<'_>) -> &'static str {
    match view.outbound_mode() {
        OutboundMode::AllowAny => names::PASSTHROUGH_CLUSTER,
        OutboundMode::RegistryOnly => names::BLACK_HOLE_CLUSTER,
    }
}

/// How long a TLS handshake may take; Istio's default.
pub(crate) const TRANSPORT_CONNECT_SECONDS: u64 = 15;

/// A chain with Istio's handshake limit.
pub(crate) fn chain(filter_chain_match: Option<FilterChainMatch>, filters: Vec<Filter>) -> FilterChain {
    FilterChain { filter_chain_match, filters, transport_socket_connect_timeout: pb::seconds(TRANSPORT_CONNECT_SECONDS), ..Default::default() }
}

/// Ports on which a listener filter acts.
pub(crate) enum Sniffing {
    /// All ports but these.
    AllBut(Vec<u16>),
    /// These ports; never empty.
    Only(Vec<u16>),
}

impl Sniffing {
    /// Every port.
    pub(crate) const ALL: Self = Self::AllBut(Vec::new());

    fn disabled(&self) -> Option<ListenerFilterChainMatchPredicate> {
        match self {
            Self::AllBut(ports) => any_of(ports),
            Self::Only(ports) => {
                let not = listener_filter_chain_match_predicate::Rule::NotMatch(Box::new(any_of(ports)?));
                Some(ListenerFilterChainMatchPredicate { rule: Some(not) })
            }
        }
    }
}

/// The listener filter that sniffs HTTP.
pub(crate) fn http_inspector(on: &Sniffing) -> ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", pack(&http_inspector::v3::HttpInspector::default()), on)
}

/// The listener filter that reads the TLS client hello.
pub(crate) fn tls_inspector(on: &Sniffing) -> ListenerFilter {
    // 512 bytes hold most client hellos; the buffer grows when one is larger.
    let config = tls_inspector::v3::TlsInspector { initial_read_buffer_size: pb::uint(512), ..Default::default() };
    listener_filter("envoy.filters.listener.tls_inspector", pack(&config), on)
}

/// The listener filter that recovers the destination before redirection.
pub(crate) fn original_dst() -> ListenerFilter {
    listener_filter("envoy.filters.listener.original_dst", pack(&original_dst::v3::OriginalDst::default()), &Sniffing::ALL)
}

fn listener_filter(name: &str, config: Any, on: &Sniffing) -> ListenerFilter {
    ListenerFilter { name: name.to_owned(), filter_disabled: on.disabled(), config_type: Some(listener_filter::ConfigType::TypedConfig(config)) }
}

fn any_of(ports: &[u16]) -> Option<ListenerFilterChainMatchPredicate> {
    use listener_filter_chain_match_predicate::{MatchSet, Rule};
    let one = |port: &u16| ListenerFilterChainMatchPredicate {
        rule: Some(Rule::DestinationPortRange(Int32Range { start: i32::from(*port), end: i32::from(*port) + 1 })),
    };
    match ports {
        [] => None,
        [port] => Some(one(port)),
        _ => Some(ListenerFilterChainMatchPredicate { rule: Some(Rule::OrMatch(MatchSet { rules: ports.iter().map(one).collect() })) }),
    }
}
