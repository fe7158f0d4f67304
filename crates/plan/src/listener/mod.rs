//! Listeners: where connections are taken, and which filter chain gets each.
//!
//! - Reads: `config.listener.v3.Listener` (Envoy), see `from_xds`.
//! - Twin: none on this side; `proxy/src/listener` performs what is described here.
//! - Rule: past this crate nobody checks a listener again.
//! - Not here: choosing the chain (`chain_match`), TLS settings (`tls`), HTTP (`http`).

mod chain_match;
mod from_xds;
pub mod tls;

pub use chain_match::{ChainIndex, ChainMatch, ConnInfo, select_chain, select_chain_traced};
pub use from_xds::listener;

use crate::access_log::AccessLog;
use crate::cluster::SocketOption;
use crate::http::Hcm;
use crate::names::Name;
use crate::rbac::Rbac;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tls::DownstreamTls;

/// One listener. Source: `Listener`.
#[derive(Debug)]
pub struct Listener {
    /// Its name, unique in the plan.
    pub name: Name,
    /// Where it listens, or, with `bind_to_port` off, the destination it stands for.
    pub address: ListenAddress,
    /// Whether a socket is opened. Off: connections come only from a listener with `use_original_dst`.
    pub bind_to_port: bool,
    /// Which way traffic flows.
    pub direction: Direction,
    /// Hand each connection to the listener of its original destination, when there is one.
    pub use_original_dst: bool,
    /// Listener filters, in order.
    pub listener_filters: Vec<ListenerFilter>,
    /// How long the listener filters may wait for bytes. `None`: for ever.
    pub listener_filters_timeout: Option<Duration>,
    /// After that timeout: go on with what is known (`true`) or close (`false`).
    pub continue_on_listener_filters_timeout: bool,
    /// Filter chains; [`select_chain`] picks one.
    pub filter_chains: Vec<Arc<FilterChain>>,
    /// What [`select_chain`] searches, built once.
    pub chain_index: ChainIndex,
    /// Taken when no chain matches. `None`: such a connection is closed.
    pub default_filter_chain: Option<Arc<FilterChain>>,
    /// Options set on the listening socket.
    pub socket_options: Vec<SocketOption>,
    /// Kernel backlog. `None`: the default.
    pub tcp_backlog: Option<u32>,
    /// Read buffer ceiling of a connection in bytes, from which backpressure follows.
    pub per_connection_buffer_bytes_max: u32,
    /// Logs of connections that end before any filter chain takes them.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// Prefix of the listener's statistics, usually its address.
    pub stat_prefix: Name,
}

/// An address a listener stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// IP address and port.
    Socket(SocketAddr),
    /// Unix socket.
    Pipe(Name),
}

/// Which way traffic flows, seen from the workload. Source: `core.v3.TrafficDirection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// Not said: a gateway's listeners.
    #[default]
    Unspecified,
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

/// What looks at a connection before a filter chain is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerFilter {
    /// Reads `SO_ORIGINAL_DST`.
    OriginalDst,
    /// Recognises TLS; finds server name and ALPN. Skipped when its rule says so.
    TlsInspector(FilterDisabled),
    /// Recognises HTTP/1 and HTTP/2 prefaces in plaintext. Skipped when its rule says so.
    HttpInspector(FilterDisabled),
    /// Reads a PROXY protocol header, v1 or v2. `allow_requests_without` accepts connections without one.
    ProxyProtocol {
        /// Accept connections without the header.
        allow_requests_without: bool,
    },
}

/// Original destination ports (start inclusive, end exclusive) for which a listener filter is skipped.
/// Source: `ListenerFilter.filter_disabled`, restricted to `destination_port_range`, `not_match`, `or_match`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterDisabled {
    /// Ports for which the filter is skipped.
    pub ports: Vec<std::ops::Range<u32>>,
    /// The list names the ports where the filter runs instead.
    pub inverted: bool,
}

impl FilterDisabled {
    /// Whether the filter is skipped for a connection to `port`.
    #[must_use]
    pub fn skips(&self, port: u16) -> bool {
        let listed = self.ports.iter().any(|range| range.contains(&u32::from(port)));
        if self.ports.is_empty() { false } else { listed != self.inverted }
    }
}

/// One filter chain.
#[derive(Debug)]
pub struct FilterChain {
    /// Its name, for logs; may be empty.
    pub name: Name,
    /// Which connections it takes.
    pub matches: ChainMatch,
    /// How bytes arrive.
    pub transport: DownstreamTransport,
    /// How long the TLS handshake may take. `None`: for ever.
    pub transport_connect_timeout: Option<Duration>,
    /// Network filters before the terminal one, in order.
    pub network_filters: Vec<NetworkFilter>,
    /// What serves the connection.
    pub terminal: Terminal,
}

/// How bytes arrive from downstream.
#[derive(Clone, Debug)]
pub enum DownstreamTransport {
    /// In plain.
    Raw,
    /// Inside TLS.
    Tls(Arc<DownstreamTls>),
}

/// A network filter that is not terminal.
#[derive(Clone, Debug)]
pub enum NetworkFilter {
    /// Authorization of the connection.
    Rbac(Arc<Rbac>),
    /// Istio's peer metadata over TCP: does nothing unless ALPN `protocol` was negotiated.
    MetadataExchange {
        /// The ALPN protocol that switches it on.
        protocol: Name,
    },
    /// Istio's TCP metrics.
    IstioStats(IstioStats),
    /// Takes the cluster's name from the server name.
    SniCluster,
}

/// What serves a connection once the filters let it pass.
#[derive(Clone, Debug)]
pub enum Terminal {
    /// Bytes are copied.
    TcpProxy(Arc<TcpProxy>),
    /// HTTP is spoken.
    Http(Arc<Hcm>),
}

/// Settings of Istio's metrics filter. Source: `stats.PluginConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IstioStats {
    /// Report as `destination` although the listener is a gateway's.
    pub server_gateway: bool,
    /// Do not take the service's name from the Host header when the cluster says none.
    pub disable_host_header_fallback: bool,
    /// How often open TCP connections are reported. `None`: every 5 s.
    pub tcp_reporting_duration: Option<Duration>,
}

/// Byte copying. Source: `extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Debug)]
pub struct TcpProxy {
    /// Prefix of its statistics.
    pub stat_prefix: Name,
    /// Where bytes go.
    pub cluster: TcpCluster,
    /// Closed after this long without bytes either way. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// Connection attempts upstream, at least 1.
    pub max_connect_attempts: u32,
    /// Closed after this long at the latest. `None`: never.
    pub max_downstream_connection_duration: Option<Duration>,
    /// Its access logs.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// Hash the source address for consistent hashing.
    pub hash_source_ip: bool,
}

/// Where a TCP proxy sends bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpCluster {
    /// Always there.
    One(Name),
    /// Drawn by weight; the sum is at least 1.
    Weighted(Vec<(Name, u32)>),
}

impl TcpProxy {
    /// The cluster for a connection that drew `draw`. Pure.
    #[must_use]
    pub fn pick(&self, draw: u64) -> &Name {
        match &self.cluster {
            TcpCluster::One(name) => name,
            TcpCluster::Weighted(list) => {
                let sum: u64 = list.iter().map(|(_, w)| u64::from(*w)).sum();
                let mut left = draw % sum.max(1);
                for (name, weight) in list {
                    match left.checked_sub(u64::from(*weight)) {
                        Some(rest) => left = rest,
                        None => return name,
                    }
                }
                &list.last().expect("from_xds refuses an empty list of weighted clusters").0
            }
        }
    }
}
