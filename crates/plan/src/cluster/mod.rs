//! Clusters: a named group of endpoints, and how they are found, chosen and connected to.
//!
//! - Reads: `config.cluster.v3.Cluster` (Envoy), see `from_xds`.
//! - Twin: `kinds/src/destination_rule`, which owns what the fields mean to a user.
//! - Not here: endpoints (`endpoints`), choosing (`lb`), ejection (`outlier`), connections (`proxy/src/cluster`).

pub mod endpoints;
mod from_xds;
mod options;
mod tls_from_xds;

pub use endpoints::{ClusterEndpoints, Endpoint, EndpointAddress, Health, Locality, LocalityGroup, MetaValue, PriorityLevel, cluster_endpoints};
pub use from_xds::cluster;
pub(crate) use endpoints::metadata_pairs;
pub(crate) use options::{http1, http2};
pub(crate) use tls_from_xds::data_source;
pub use tls_from_xds::{downstream_tls, secret, upstream_tls};

use crate::lb::LbPolicy;
use crate::listener::tls::UpstreamTls;
use crate::names::Name;
use crate::outlier::OutlierDetection;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its name, unique in the plan.
    pub name: Name,
    /// Its name in statistics (`alt_stat_name`, or the name).
    pub stat_name: Name,
    /// How endpoints are found.
    pub discovery: Discovery,
    /// How one is chosen.
    pub lb: LbPolicy,
    /// How endpoints of several localities share traffic.
    pub locality: LocalityMode,
    /// Below this percentage of healthy endpoints, health is ignored; 0: never. Envoy's default is 50.
    pub panic_threshold: f64,
    /// Panic mode picks no endpoint instead of any.
    pub fail_traffic_on_panic: bool,
    /// Time for TCP and TLS together. Envoy's default is 5 s.
    pub connect_timeout: Duration,
    /// Limits for priority default and high.
    pub circuit_breakers: [Thresholds; 2],
    /// Ejection of failing endpoints. `None`: off.
    pub outlier: Option<OutlierDetection>,
    /// How connections are made, unless a match says otherwise.
    pub transport: UpstreamTransport,
    /// The first whose criteria an endpoint meets replaces [`Self::transport`].
    pub transport_matches: Vec<TransportMatch>,
    /// HTTP versions and limits.
    pub http: HttpOptions,
    /// Source address and socket options. `None`: those of the bootstrap.
    pub bind: Option<BindConfig>,
    /// TCP keepalive. `None`: the kernel's default.
    pub keepalive: Option<Keepalive>,
    /// Services this cluster stands for (metadata `istio` / `services`).
    pub services: Vec<IstioService>,
    /// Request header that names the endpoint (`x-envoy-original-dst-host` for ORIGINAL_DST clusters). `None`: none.
    pub override_host_header: Option<Name>,
    /// Close connections to endpoints that left, or turned unhealthy.
    pub close_connections_on_host_health_failure: bool,
    /// Read buffer ceiling of a connection in bytes.
    pub per_connection_buffer_bytes_max: u32,
    /// Whether Istio's peer metadata filter is among the cluster's network filters.
    pub peer_metadata_exchange: bool,
    /// Connections are closed at once when the set of endpoints changes.
    pub close_connections_on_host_set_change: bool,
}

impl Cluster {
    /// Which transport reaches `endpoint`: `None` is [`Self::transport`], else an index of [`Self::transport_matches`].
    #[must_use]
    pub fn transport_index(&self, endpoint: &Endpoint) -> Option<usize> {
        self.transport_matches.iter().position(|m| m.takes(endpoint))
    }

    /// The transport that reaches `endpoint`.
    #[must_use]
    pub fn transport_for(&self, endpoint: &Endpoint) -> &UpstreamTransport {
        self.transport_index(endpoint).and_then(|at| self.transport_matches.get(at)).map_or(&self.transport, |m| &m.transport)
    }

    /// The name under which endpoints arrive by EDS. `None`: they do not.
    #[must_use]
    pub fn eds_name(&self) -> Option<&Name> {
        match &self.discovery {
            Discovery::Eds { service_name } => Some(service_name),
            Discovery::Static(_) | Discovery::StrictDns(_) | Discovery::LogicalDns(_) | Discovery::OriginalDst(_) => None,
        }
    }
}

/// How endpoints are found. Source: `Cluster.type`.
#[derive(Clone, Debug)]
pub enum Discovery {
    /// Given in place.
    Static(Arc<ClusterEndpoints>),
    /// A resource of the plan: `Plan::endpoints`.
    Eds {
        /// Name of that resource.
        service_name: Name,
    },
    /// Every address a name resolves to is an endpoint.
    StrictDns(Dns),
    /// One endpoint, whose address is resolved anew.
    LogicalDns(Dns),
    /// The destination that the client dialled.
    OriginalDst(OriginalDst),
}

/// Settings of DNS clusters.
#[derive(Clone, Debug)]
pub struct Dns {
    /// The names ([`EndpointAddress::Dns`]) in their localities.
    pub endpoints: Arc<ClusterEndpoints>,
    /// Time between look-ups. Envoy's default is 5 s.
    pub refresh_rate: Duration,
    /// Use the answer's time to live instead, when there is one.
    pub respect_ttl: bool,
    /// Which addresses are wanted.
    pub family: DnsFamily,
}

/// Address families a DNS cluster asks for. Source: `DnsLookupFamily`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DnsFamily {
    /// IPv6, else IPv4.
    #[default]
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4, else IPv6.
    V4Preferred,
    /// Both.
    All,
}

/// Settings of ORIGINAL_DST clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginalDst {
    /// Header that names `IP:port` instead. `None`: none.
    pub header: Option<Name>,
    /// Port used instead of the dialled one.
    pub port_override: Option<u16>,
}

/// How endpoints of several localities share traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LocalityMode {
    /// Localities are ignored.
    #[default]
    Ignored,
    /// By `load_balancing_weight` of each locality.
    Weighted,
}

/// Circuit breaker limits. Source: `CircuitBreakers.Thresholds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Connections.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests at once.
    pub max_requests: u32,
    /// Retries at once.
    pub max_retries: u32,
    /// Percentage of active requests that may be retries, and the least number, instead of `max_retries`.
    pub retry_budget: Option<RetryBudget>,
}

impl Default for Thresholds {
    /// Envoy's: 1024, 1024, 1024, 3.
    fn default() -> Self {
        Self { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024, max_retries: 3, retry_budget: None }
    }
}

/// A ceiling on retries that grows with traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Percentage of active and pending requests, in hundredths.
    pub budget_percent_hundredths: u32,
    /// Retries always allowed.
    pub min_retry_concurrency: u32,
}

/// How connections are made.
#[derive(Clone, Debug)]
pub enum UpstreamTransport {
    /// In plain.
    Raw,
    /// Inside TLS.
    Tls(Arc<UpstreamTls>),
}

/// A transport for endpoints with certain metadata. Source: `Cluster.transport_socket_matches`.
#[derive(Clone, Debug)]
pub struct TransportMatch {
    /// Its name, such as `tlsMode-istio`.
    pub name: Name,
    /// What the endpoint's `envoy.transport_socket_match` metadata must hold. Empty: any endpoint.
    pub criteria: Vec<(Name, MetaValue)>,
    /// The transport.
    pub transport: UpstreamTransport,
}

impl TransportMatch {
    /// Whether `endpoint` meets all criteria.
    #[must_use]
    pub fn takes(&self, endpoint: &Endpoint) -> bool {
        self.criteria.iter().all(|want| endpoint.transport_match.contains(want))
    }
}

/// HTTP towards endpoints. Source: `extensions.upstreams.http.v3.HttpProtocolOptions`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpOptions {
    /// Version spoken.
    pub protocol: UpstreamProtocol,
    /// HTTP/2 settings.
    pub http2: crate::http::Http2Options,
    /// HTTP/1 settings.
    pub http1: crate::http::Http1Options,
    /// Requests on one connection; 0: no limit.
    pub max_requests_per_connection: u32,
    /// An idle connection is closed after. `None`: never. Envoy's default is 1 h.
    pub idle_timeout: Option<Duration>,
    /// A connection is retired at this age. `None`: never.
    pub max_connection_duration: Option<Duration>,
    /// Longest stream. `None`: no limit.
    pub max_stream_duration: Option<Duration>,
    /// Answer head ceiling in bytes. Envoy's default is 60 KiB.
    pub response_headers_bytes_max: usize,
    /// Answer header count ceiling. Envoy's default is 100.
    pub response_headers_count_max: usize,
    /// Server name follows the request's host.
    pub auto_sni: bool,
    /// The certificate must name that server name.
    pub auto_san_validation: bool,
}

/// HTTP version spoken upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// Whatever downstream spoke.
    UseDownstream,
    /// By ALPN.
    Auto,
}

/// Source address and socket options. Source: `BindConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindConfig {
    /// Source address; port 0: any.
    pub source: Option<SocketAddr>,
    /// Options of the socket.
    pub socket_options: Vec<SocketOption>,
}

/// One `setsockopt`. Source: `SocketOption`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOption {
    /// Level, such as `SOL_SOCKET` = 1.
    pub level: i32,
    /// Name, such as `SO_MARK` = 36.
    pub name: i32,
    /// Value.
    pub value: SocketOptionValue,
    /// When it is set.
    pub when: SocketState,
}

/// A socket option's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketOptionValue {
    /// A C `int`.
    Int(i32),
    /// Raw bytes.
    Bytes(Arc<[u8]>),
}

/// When a socket option is set. Source: `SocketOption.SocketState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SocketState {
    /// Before `bind`.
    #[default]
    PreBind,
    /// After `bind`.
    Bound,
    /// After `listen`.
    Listening,
}

/// TCP keepalive. `None`: the kernel's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Unanswered probes before the connection is dead.
    pub probes: Option<u32>,
    /// Idle seconds before the first probe.
    pub time: Option<u32>,
    /// Seconds between probes.
    pub interval: Option<u32>,
}

/// A service that a cluster stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IstioService {
    /// Full DNS name.
    pub host: Name,
    /// Name.
    pub name: Name,
    /// Namespace.
    pub namespace: Name,
}
