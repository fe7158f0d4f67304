//! Route tables: virtual hosts found by host, routes found by match, and what is done with a request.
//!
//! - Reads: `config.route.v3.RouteConfiguration` (Envoy), see `from_xds`.
//! - Twin: `kinds/src/virtual_service`, which owns what the fields mean to a user; `compile/src/route/http_route.rs`.
//! - Rule: a table is immutable; a stream keeps the table it started with and a [`RouteId`] into it.
//! - Not here: choosing (`decide`), the domain index (`domains`), conditions (`matcher`), header changes (`headers`), retries (`retry`).

pub mod decide;
mod domains;
mod from_xds;
pub mod hash;
pub mod headers;
pub mod matcher;
pub mod retry;
pub mod rewrite;

pub use decide::{NotFound, RouteDecision, RouteId, RouteMatched, route, route_traced};
pub use domains::DomainIndex;
pub use from_xds::route_table;
pub use hash::HashPolicy;
pub use headers::{HeaderAction, HeaderOps, HeaderSet, HeaderValue};
pub use matcher::{PathMatch, QueryMatch, RouteMatch};
pub use retry::{RetryPolicy, should_retry};
pub use rewrite::{HostRewrite, PathRewrite, Redirect};

use crate::fraction::Fraction;
use crate::http::PerFilterConfig;
use crate::listener::tls::DataSource;
use crate::names::Name;
use std::time::Duration;

/// One route table. Source: `RouteConfiguration`.
#[derive(Debug)]
pub struct RouteTable {
    /// Its name.
    pub name: Name,
    /// Virtual hosts in configured order.
    pub virtual_hosts: Vec<VirtualHost>,
    /// From host to virtual host.
    pub domains: DomainIndex,
    /// `:port` is ignored when the host is looked up.
    pub ignore_port_in_host_matching: bool,
    /// Header changes of every request and answer.
    pub headers: HeaderChanges,
    /// Header changes are applied table first and weighted cluster last, so that the most specific wins. Off: the other way round.
    pub most_specific_header_mutations_wins: bool,
    /// Filter settings for the whole table.
    pub per_filter: PerFilterConfig,
}

/// Header changes both ways.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderChanges {
    /// Of the request.
    pub request: HeaderOps,
    /// Of the answer.
    pub response: HeaderOps,
}

/// One virtual host.
#[derive(Debug)]
pub struct VirtualHost {
    /// Its name, such as `reviews.default.svc.cluster.local:9080`.
    pub name: Name,
    /// Routes in order; the first that matches is taken.
    pub routes: Vec<Route>,
    /// Answer plaintext requests by a redirect to HTTPS.
    pub require_tls: RequireTls,
    /// Header changes.
    pub headers: HeaderChanges,
    /// Filter settings.
    pub per_filter: PerFilterConfig,
    /// Retry policy of routes that have none.
    pub retry: Option<RetryPolicy>,
    /// Send `x-envoy-attempt-count` upstream.
    pub include_request_attempt_count: bool,
    /// Send `x-envoy-attempt-count` downstream.
    pub include_attempt_count_in_response: bool,
}

/// Which requests must be TLS. Source: `VirtualHost.require_tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RequireTls {
    /// None.
    #[default]
    None,
    /// Those from outside.
    ExternalOnly,
    /// All.
    All,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Its name, for logs; may be empty.
    pub name: Name,
    /// Which requests it takes.
    pub matches: RouteMatch,
    /// What is done with them.
    pub action: Action,
    /// Header changes.
    pub headers: HeaderChanges,
    /// Filter settings.
    pub per_filter: PerFilterConfig,
    /// Operation name for traces, and whether it is sent as `x-envoy-decorator-operation`.
    pub decorator: Option<Decorator>,
    /// Where Istio's configuration of it lies (metadata `istio` / `config`); empty: unknown.
    pub origin: Name,
}

/// Operation name for traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decorator {
    /// The name.
    pub operation: Name,
    /// Send it to the caller in the answer.
    pub propagate: bool,
}

/// What is done with a request.
#[derive(Debug)]
pub enum Action {
    /// Sent to a cluster.
    Forward(Box<Forward>),
    /// Answered by a redirect.
    Redirect(Box<Redirect>),
    /// Answered in place.
    Direct(Box<DirectResponse>),
    /// Passed to filters only; the router answers 404.
    NonForwarding,
}

/// An answer given in place. Source: `DirectResponseAction`.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectResponse {
    /// Status code.
    pub status: u16,
    /// Body; `None`: empty.
    pub body: Option<DataSource>,
}

/// Sending to a cluster. Source: `RouteAction`.
#[derive(Debug)]
pub struct Forward {
    /// Where to.
    pub cluster: ClusterChoice,
    /// Answer when the cluster does not exist: 503, 404 or 500.
    pub cluster_not_found_status: u16,
    /// Deadline of the whole exchange, from the end of the request. `None`: none. Envoy's default is 15 s.
    pub timeout: Option<Duration>,
    /// Stream idle deadline. `None`: that of the connection manager; zero: none.
    pub idle_timeout: Option<Duration>,
    /// Longest stream. `None`: that of the connection manager; zero: none.
    pub max_stream_duration: Option<Duration>,
    /// Ceiling for `grpc-timeout`. `None`: that header is not read; zero: no ceiling.
    pub max_grpc_timeout: Option<Duration>,
    /// Retries. `None`: see [`VirtualHost::retry`].
    pub retry: Option<RetryPolicy>,
    /// Copies sent elsewhere.
    pub mirrors: Vec<Mirror>,
    /// New path.
    pub path_rewrite: Option<PathRewrite>,
    /// New host.
    pub host_rewrite: Option<HostRewrite>,
    /// Append the old host to `x-forwarded-host` when it is rewritten.
    pub append_x_forwarded_host: bool,
    /// What consistent hashing hashes, in order.
    pub hash: Vec<HashPolicy>,
    /// Circuit breaker class.
    pub priority: Priority,
    /// Upgrades switched on or off for this route, lower case.
    pub upgrades: Vec<(Name, bool)>,
    /// Labels that the endpoint must carry (namespace `envoy.lb`).
    pub metadata_match: Vec<(Name, Name)>,
}

/// Where a request is sent.
#[derive(Debug)]
pub enum ClusterChoice {
    /// Always there.
    One(Name),
    /// Drawn by weight.
    Weighted(WeightedClusters),
    /// Named by a request header.
    Header(Name),
}

/// Clusters by weight. The sum is at least 1.
#[derive(Debug)]
pub struct WeightedClusters {
    /// The clusters.
    pub clusters: Vec<WeightedCluster>,
    /// Sum of weights.
    pub total: u64,
}

/// One of several clusters.
#[derive(Debug)]
pub struct WeightedCluster {
    /// The cluster.
    pub name: Name,
    /// Its share.
    pub weight: u32,
    /// Header changes.
    pub headers: HeaderChanges,
    /// New host.
    pub host_rewrite: Option<Name>,
    /// Filter settings.
    pub per_filter: PerFilterConfig,
    /// Labels that the endpoint must carry (namespace `envoy.lb`).
    pub metadata_match: Vec<(Name, Name)>,
}

/// Circuit breaker class. Source: `RoutingPriority`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Priority {
    /// Ordinary.
    #[default]
    Default,
    /// High.
    High,
}

/// Copies of requests sent elsewhere. Source: `RequestMirrorPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Where to.
    pub cluster: Name,
    /// Which requests.
    pub fraction: Fraction,
    /// Leave the host as it is; off: `-shadow` is appended.
    pub keep_host: bool,
    /// Host of the copy. Empty: unchanged.
    pub host_rewrite: Name,
    /// Whether the copy is traced. `None`: as the original.
    pub trace_sampled: Option<bool>,
}
