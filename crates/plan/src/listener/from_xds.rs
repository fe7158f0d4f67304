//! Listeners off the wire.
//!
//! - Reads: `config.listener.v3.Listener`.
//! - Rule: a chain ends in exactly one terminal filter.

use super::chain_match::{ChainIndex, ChainMatch};
use super::{
    Direction, DownstreamTransport, FilterChain, FilterDisabled, ListenAddress, Listener, ListenerFilter, NetworkFilter, TcpCluster, TcpProxy, Terminal,
};
use crate::access_log::access_logs;
use crate::address::{address, socket_options};
use crate::any::Typed;
use crate::cluster::{EndpointAddress, downstream_tls};
use crate::rejected::{Invalid, Within};
use crate::time::{duration_or, duration_or_none};
use lateen_envoy_api::envoy::config::core::v3 as xcore;
use lateen_envoy_api::envoy::config::listener::v3 as xlistener;
use lateen_envoy_api::envoy::extensions::filters::{listener as xlf, network as xnf};
use lateen_envoy_api::envoy::extensions::transport_sockets as xtransport;
use lateen_envoy_api::envoy::tcp::metadataexchange::config::MetadataExchange;
use lateen_envoy_api::envoy::r#type::v3::HashPolicy as XHashPolicy;
use lateen_envoy_api::stats::PluginConfig;
use prost::Name as _;
use std::sync::Arc;
use std::time::Duration;

/// Envoy waits this long for listener filters.
const LISTENER_FILTERS_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's TCP idle timeout.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Envoy's buffer ceiling.
const BUFFER_BYTES: u32 = 1024 * 1024;

/// Reads a listener.
///
/// # Errors
/// An unknown filter or transport, two chains with one match, a UDP or internal listener.
pub fn listener(given: &xlistener::Listener) -> Result<Listener, Invalid> {
    refuse_unsupported(given)?;
    let address = match address(given.address.as_ref()).within("address")? {
        EndpointAddress::Socket(address) => ListenAddress::Socket(address),
        EndpointAddress::Pipe(path) => ListenAddress::Pipe(path),
        EndpointAddress::Dns(host, _) => return Err(Invalid::new("address", format!("`{host}` is not an IP address"))),
    };
    let chains = given.filter_chains.iter().enumerate();
    let filter_chains: Vec<Arc<FilterChain>> =
        chains.map(|(i, c)| filter_chain(c).map(Arc::new).within(format!("filter_chains[{i}]"))).collect::<Result<_, _>>()?;
    let chain_index = ChainIndex::new(&filter_chains)?;
    let default = given.default_filter_chain.as_ref().map(filter_chain).transpose().within("default_filter_chain")?;
    let old_bind = given.deprecated_v1.as_ref().and_then(|d| d.bind_to_port.as_ref());
    let filters = given.listener_filters.iter().enumerate();
    let stat_prefix = if given.stat_prefix.is_empty() { stat_name(&address) } else { given.stat_prefix.clone() };
    Ok(Listener {
        name: given.name.as_str().into(),
        stat_prefix: stat_prefix.into(),
        address,
        bind_to_port: given.bind_to_port.as_ref().or(old_bind).is_none_or(|v| v.value),
        direction: match xcore::TrafficDirection::try_from(given.traffic_direction) {
            Ok(xcore::TrafficDirection::Inbound) => Direction::Inbound,
            Ok(xcore::TrafficDirection::Outbound) => Direction::Outbound,
            Ok(xcore::TrafficDirection::Unspecified) | Err(_) => Direction::Unspecified,
        },
        use_original_dst: given.use_original_dst.as_ref().is_some_and(|v| v.value),
        listener_filters: filters.map(|(i, f)| listener_filter(f).within(format!("listener_filters[{i}]"))).collect::<Result<_, _>>()?,
        listener_filters_timeout: duration_or(given.listener_filters_timeout.as_ref(), Some(LISTENER_FILTERS_TIMEOUT)).within("listener_filters_timeout")?,
        continue_on_listener_filters_timeout: given.continue_on_listener_filters_timeout,
        filter_chains,
        chain_index,
        default_filter_chain: default.map(Arc::new),
        socket_options: socket_options(&given.socket_options)?,
        tcp_backlog: given.tcp_backlog_size.as_ref().map(|v| v.value),
        per_connection_buffer_bytes_max: given.per_connection_buffer_limit_bytes.as_ref().map_or(BUFFER_BYTES, |v| v.value),
        access_logs: access_logs(&given.access_log)?,
    })
}

/// Envoy names a listener's statistics by its address.
fn stat_name(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Socket(address) => address.to_string().replace(':', "_"),
        ListenAddress::Pipe(path) => path.replace(':', "_"),
    }
}

fn refuse_unsupported(given: &xlistener::Listener) -> Result<(), Invalid> {
    let refuse = |present: bool, field: &str, what: &str| if present { Err(Invalid::unsupported(field, what)) } else { Ok(()) };
    let udp = given.address.as_ref().is_some_and(|a| {
        matches!(&a.address, Some(xcore::address::Address::SocketAddress(s)) if s.protocol == xcore::socket_address::Protocol::Udp as i32)
    });
    refuse(udp || given.udp_listener_config.is_some(), "udp_listener_config", "a UDP listener")?;
    refuse(given.listener_specifier.is_some(), "internal_listener", "an internal listener")?;
    refuse(given.api_listener.is_some(), "api_listener", "an API listener")?;
    refuse(!given.additional_addresses.is_empty(), "additional_addresses", "more than one address")?;
    refuse(given.filter_chain_matcher.is_some(), "filter_chain_matcher", "a matcher tree")?;
    refuse(given.fcds_config.is_some(), "fcds_config", "fetching filter chains apart")?;
    refuse(given.transparent.as_ref().is_some_and(|v| v.value), "transparent", "transparent interception (TPROXY)")
}

fn listener_filter(given: &xlistener::ListenerFilter) -> Result<ListenerFilter, Invalid> {
    let Some(xlistener::listener_filter::ConfigType::TypedConfig(any)) = &given.config_type else {
        return Err(Invalid::new("typed_config", format!("of `{}` is empty", given.name)));
    };
    let typed = Typed::of(any).within("typed_config")?;
    let disabled = given.filter_disabled.as_ref().map(filter_disabled).transpose().within("filter_disabled")?;
    let is = |full_name: String| typed.name() == full_name;
    if is(xlf::original_dst::v3::OriginalDst::full_name()) {
        Ok(ListenerFilter::OriginalDst)
    } else if is(xlf::tls_inspector::v3::TlsInspector::full_name()) {
        Ok(ListenerFilter::TlsInspector(disabled.unwrap_or_default()))
    } else if is(xlf::http_inspector::v3::HttpInspector::full_name()) {
        Ok(ListenerFilter::HttpInspector(disabled.unwrap_or_default()))
    } else if is(xlf::proxy_protocol::v3::ProxyProtocol::full_name()) {
        let config: xlf::proxy_protocol::v3::ProxyProtocol = typed.read().within("typed_config")?;
        Ok(ListenerFilter::ProxyProtocol { allow_requests_without: config.allow_requests_without_proxy_protocol })
    } else {
        Err(Invalid::unsupported("typed_config", format!("listener filter `{}` ({})", given.name, typed.name())))
    }
}

fn filter_disabled(given: &xlistener::ListenerFilterChainMatchPredicate) -> Result<FilterDisabled, Invalid> {
    use xlistener::listener_filter_chain_match_predicate::Rule as R;
    let port = |v: i32| u32::try_from(v).map_err(|_| Invalid::new("destination_port_range", format!("{v} is negative")));
    match &given.rule {
        Some(R::AnyMatch(true)) => Ok(one_range(0..65_536)),
        Some(R::AnyMatch(false)) => Ok(FilterDisabled::default()),
        Some(R::DestinationPortRange(range)) => Ok(one_range(port(range.start)?..port(range.end)?)),
        Some(R::OrMatch(set)) => {
            let mut all = FilterDisabled::default();
            for one in &set.rules {
                let part = filter_disabled(one).within("or_match")?;
                if part.inverted {
                    return Err(Invalid::unsupported("or_match", "a negation inside"));
                }
                all.ports.extend(part.ports);
            }
            Ok(all)
        }
        Some(R::NotMatch(inner)) => {
            let inner = filter_disabled(inner).within("not_match")?;
            Ok(FilterDisabled { inverted: !inner.inverted, ports: inner.ports })
        }
        Some(R::AndMatch(_)) => Err(Invalid::unsupported("and_match", "a conjunction")),
        None => Err(Invalid::new("rule", "is empty")),
    }
}

fn one_range(ports: std::ops::Range<u32>) -> FilterDisabled {
    FilterDisabled { ports: std::iter::once(ports).collect(), inverted: false }
}

fn filter_chain(given: &xlistener::FilterChain) -> Result<FilterChain, Invalid> {
    if given.use_proxy_proto.as_ref().is_some_and(|v| v.value) {
        return Err(Invalid::unsupported("use_proxy_proto", "the old PROXY protocol switch; use the listener filter"));
    }
    let matches = given.filter_chain_match.as_ref().map(ChainMatch::from_xds).transpose().within("filter_chain_match")?;
    let mut network_filters = Vec::new();
    let mut terminal = None;
    for (i, filter) in given.filters.iter().enumerate() {
        let place = || format!("filters[{i}]");
        if terminal.is_some() {
            return Err(Invalid::new(place(), format!("`{}` comes after a terminal filter", filter.name)));
        }
        match network_filter(filter).within(place())? {
            Either::Filter(filter) => network_filters.push(filter),
            Either::Terminal(found) => terminal = Some(found),
        }
    }
    Ok(FilterChain {
        name: given.name.as_str().into(),
        matches: matches.unwrap_or_default(),
        transport: transport(given.transport_socket.as_ref()).within("transport_socket")?,
        transport_connect_timeout: duration_or_none(given.transport_socket_connect_timeout.as_ref()).within("transport_socket_connect_timeout")?,
        network_filters,
        terminal: terminal.ok_or_else(|| Invalid::new("filters", "end without tcp_proxy or http_connection_manager"))?,
    })
}

fn transport(given: Option<&xcore::TransportSocket>) -> Result<DownstreamTransport, Invalid> {
    use xcore::transport_socket::ConfigType as C;
    let Some(socket) = given else { return Ok(DownstreamTransport::Raw) };
    let Some(C::TypedConfig(any)) = &socket.config_type else {
        return Err(Invalid::new("typed_config", format!("of `{}` is empty", socket.name)));
    };
    let typed = Typed::of(any)?;
    if typed.name() == xtransport::raw_buffer::v3::RawBuffer::full_name() {
        return Ok(DownstreamTransport::Raw);
    }
    if typed.name() == xtransport::tls::v3::DownstreamTlsContext::full_name() {
        return Ok(DownstreamTransport::Tls(Arc::new(downstream_tls(&typed.read()?)?)));
    }
    Err(Invalid::unsupported("typed_config", format!("transport socket `{}` ({})", socket.name, typed.name())))
}

enum Either {
    Filter(NetworkFilter),
    Terminal(Terminal),
}

/// The list of network filters. To add one, add a branch here and a variant in the parent.
fn network_filter(given: &xlistener::Filter) -> Result<Either, Invalid> {
    let Some(xlistener::filter::ConfigType::TypedConfig(any)) = &given.config_type else {
        return Err(Invalid::new("typed_config", format!("of `{}` is empty", given.name)));
    };
    let typed = Typed::of(any).within("typed_config")?;
    let is = |full_name: String| typed.name() == full_name;
    let read = if is(xnf::http_connection_manager::v3::HttpConnectionManager::full_name()) {
        typed.read().and_then(|m| crate::http::hcm(&m)).map(|h| Either::Terminal(Terminal::Http(Arc::new(h))))
    } else if is(xnf::tcp_proxy::v3::TcpProxy::full_name()) {
        typed.read().and_then(|m| tcp_proxy(&m)).map(|t| Either::Terminal(Terminal::TcpProxy(Arc::new(t))))
    } else if is(xnf::rbac::v3::Rbac::full_name()) {
        typed.read().and_then(|m| crate::rbac::network_rbac(&m)).map(|r| Either::Filter(NetworkFilter::Rbac(Arc::new(r))))
    } else if is(MetadataExchange::full_name()) {
        typed.read::<MetadataExchange>().map(|m| Either::Filter(NetworkFilter::MetadataExchange { protocol: m.protocol.as_str().into() }))
    } else if is(PluginConfig::full_name()) {
        typed.read().and_then(|m| crate::http::istio_stats(&m)).map(|s| Either::Filter(NetworkFilter::IstioStats(s)))
    } else if is(xnf::sni_cluster::v3::SniCluster::full_name()) {
        Ok(Either::Filter(NetworkFilter::SniCluster))
    } else {
        Err(Invalid::unsupported("", format!("network filter `{}` ({})", given.name, typed.name())))
    };
    read.within("typed_config")
}

fn tcp_proxy(given: &xnf::tcp_proxy::v3::TcpProxy) -> Result<TcpProxy, Invalid> {
    use lateen_envoy_api::envoy::r#type::v3::hash_policy::PolicySpecifier as P;
    use xnf::tcp_proxy::v3::tcp_proxy::ClusterSpecifier as S;
    if given.tunneling_config.is_some() {
        return Err(Invalid::unsupported("tunneling_config", "tunnelling TCP through HTTP"));
    }
    if given.metadata_match.is_some() {
        return Err(Invalid::unsupported("metadata_match", "choosing endpoints by metadata"));
    }
    if given.on_demand.is_some() {
        return Err(Invalid::unsupported("on_demand", "fetching clusters on demand"));
    }
    let cluster = match &given.cluster_specifier {
        Some(S::Cluster(name)) => TcpCluster::One(name.as_str().into()),
        Some(S::WeightedClusters(weighted)) => {
            let list: Vec<_> = weighted.clusters.iter().map(|c| (c.name.as_str().into(), c.weight)).collect();
            if list.iter().all(|(_, weight)| *weight == 0) {
                return Err(Invalid::new("weighted_clusters", "weights sum to 0; at least one cluster needs a weight"));
            }
            TcpCluster::Weighted(list)
        }
        None => return Err(Invalid::new("cluster", "is required")),
    };
    let hash_source_ip = |p: &XHashPolicy| matches!(p.policy_specifier, Some(P::SourceIp(_)));
    if given.hash_policy.iter().any(|p| !hash_source_ip(p)) {
        return Err(Invalid::unsupported("hash_policy", "hashing anything but the source address"));
    }
    Ok(TcpProxy {
        stat_prefix: given.stat_prefix.trim_end_matches(['.', ';']).into(),
        cluster,
        idle_timeout: duration_or(given.idle_timeout.as_ref(), Some(TCP_IDLE_TIMEOUT)).within("idle_timeout")?,
        max_connect_attempts: given.max_connect_attempts.as_ref().map_or(1, |v| v.value.max(1)),
        max_downstream_connection_duration: duration_or_none(given.max_downstream_connection_duration.as_ref()).within("max_downstream_connection_duration")?,
        access_logs: access_logs(&given.access_log)?,
        hash_source_ip: !given.hash_policy.is_empty(),
    })
}
