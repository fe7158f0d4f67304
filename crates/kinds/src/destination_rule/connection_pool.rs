//! Connection pools: how many connections, waiting requests and retries a destination may have, and how long connections live.
//!
//! - Reads: `trafficPolicy.connectionPool`, `trafficPolicy.retryBudget`.
//! - Writes: `circuit_breakers`, `connect_timeout`, TCP keepalive and `HttpProtocolOptions` of a cluster.
//! - Twin: `proxy/src/cluster/circuit_breaker.rs` and `proxy/src/cluster/pool.rs`.
//! - Rule: every threshold that is not set is [`UNLIMITED`], not Envoy's own default of 1024.

use std::collections::HashMap;

use lateen_envoy_api::Any;
use lateen_envoy_api::envoy::config::cluster::v3::{CircuitBreakers, Cluster, UpstreamConnectionOptions, circuit_breakers::{Thresholds, thresholds::RetryBudget as EnvoyRetryBudget}};
use lateen_envoy_api::envoy::config::core::v3::{self as core};
use lateen_envoy_api::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config::ProtocolConfig},
};
use lateen_istio_api::{ConnectionPoolSettings, GoDuration, H2UpgradePolicy, HTTPSettings, RetryBudget, TCPSettings};

use crate::check::Check;
use crate::wire;

/// A threshold that no one reaches. Source: Istio's default for all four.
pub const UNLIMITED: u32 = u32::MAX;
/// Connect timeout where neither rule nor mesh says one. Source: Istio's `connectTimeout`.
pub const CONNECT_TIMEOUT_DEFAULT: GoDuration = GoDuration::from_secs(10);
/// Name of the extension that holds HTTP options of a cluster.
pub const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What a cluster speaks when no pool setting says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamHttp {
    /// Raw TCP: no HTTP options at all.
    Tcp,
    /// HTTP/1.1, Envoy's default: options only where a setting needs them.
    Http1,
    /// HTTP/2, as named by the port.
    Http2,
    /// Whatever the client spoke.
    SameAsDownstream,
}

/// Checks the settings at `path`.
pub fn validate(pool: &ConnectionPoolSettings, path: &str, check: &mut Check<'_>) {
    if pool.tcp.is_none() && pool.http.is_none() {
        check.error(path, "the connection pool sets nothing", "add tcp or http");
    }
    if let Some(tcp) = &pool.tcp {
        validate_tcp(tcp, &format!("{path}.tcp"), check);
    }
    if let Some(http) = &pool.http {
        validate_http(http, &format!("{path}.http"), check);
    }
}

fn not_negative(path: &str, fields: &[(&str, i32)], check: &mut Check<'_>) {
    for (field, value) in fields {
        if *value < 0 {
            check.error(format!("{path}.{field}"), format!("{value} is negative"), "use 0 (no limit) or more");
        }
    }
}

fn validate_tcp(tcp: &TCPSettings, path: &str, check: &mut Check<'_>) {
    not_negative(path, &[("maxConnections", tcp.max_connections)], check);
    check.duration(&format!("{path}.connectTimeout"), tcp.connect_timeout);
    check.duration(&format!("{path}.maxConnectionDuration"), tcp.max_connection_duration);
    check.duration_or_zero(&format!("{path}.idleTimeout"), tcp.idle_timeout);
    if let Some(keepalive) = &tcp.tcp_keepalive {
        check.duration(&format!("{path}.tcpKeepalive.time"), keepalive.time);
        check.duration(&format!("{path}.tcpKeepalive.interval"), keepalive.interval);
    }
}

fn validate_http(http: &HTTPSettings, path: &str, check: &mut Check<'_>) {
    let fields = [
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ];
    not_negative(path, &fields, check);
    check.duration_or_zero(&format!("{path}.idleTimeout"), http.idle_timeout);
    if http.h2_upgrade_policy == H2UpgradePolicy::Upgrade && http.use_client_protocol {
        check.error(format!("{path}.useClientProtocol"), "useClientProtocol contradicts h2UpgradePolicy: UPGRADE", "keep one of them");
    }
    if let Some(keepalive) = &http.http2_keep_alive {
        for (field, span) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
            match span {
                Some(_) => check.duration(&format!("{path}.http2KeepAlive.{field}"), span),
                None => check.error(format!("{path}.http2KeepAlive.{field}"), format!("{field} is needed"), "add it, such as 10s"),
            }
        }
    }
    check.not_enforced_if(path, &[("http2KeepAlive", http.http2_keep_alive.is_some())]);
}

/// Checks a retry budget at `path`.
pub fn validate_retry_budget(budget: &RetryBudget, path: &str, check: &mut Check<'_>) {
    if let Some(percent) = budget.percent {
        check.percent(&format!("{path}.percent"), percent);
    }
    check.duration(&format!("{path}.budgetInterval"), budget.budget_interval);
}

/// Writes thresholds, timeouts and keepalive into `cluster`. `mesh_timeout` is `MeshConfig.connectTimeout`.
pub fn apply(pool: Option<&ConnectionPoolSettings>, budget: Option<&RetryBudget>, mesh_timeout: Option<GoDuration>, cluster: &mut Cluster) {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    let threshold = |value: Option<i32>| Some(value.and_then(wire::positive).unwrap_or(wire::uint32(UNLIMITED)));
    let thresholds = Thresholds {
        max_connections: threshold(tcp.map(|tcp| tcp.max_connections)),
        max_pending_requests: threshold(http.map(|http| http.http1_max_pending_requests)),
        max_requests: threshold(http.map(|http| http.http2_max_requests)),
        max_retries: threshold(http.map(|http| http.max_retries)),
        retry_budget: budget.map(retry_budget),
        ..Default::default()
    };
    cluster.circuit_breakers = Some(CircuitBreakers { thresholds: vec![thresholds], per_host_thresholds: Vec::new() });
    let timeout = tcp.and_then(|tcp| tcp.connect_timeout).or(mesh_timeout).unwrap_or(CONNECT_TIMEOUT_DEFAULT);
    cluster.connect_timeout = Some(wire::duration(timeout));
    if let Some(keepalive) = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()) {
        let seconds = |span: Option<GoDuration>| span.and_then(|span| u32::try_from(span.to_proto().0).ok()).map(wire::uint32);
        let keepalive = core::TcpKeepalive {
            keepalive_probes: (keepalive.probes != 0).then(|| wire::uint32(keepalive.probes)),
            keepalive_time: seconds(keepalive.time),
            keepalive_interval: seconds(keepalive.interval),
        };
        cluster.upstream_connection_options = Some(UpstreamConnectionOptions { tcp_keepalive: Some(keepalive), ..Default::default() });
    }
}

fn retry_budget(budget: &RetryBudget) -> EnvoyRetryBudget {
    EnvoyRetryBudget {
        budget_percent: Some(wire::percent(budget.percent.unwrap_or(20.0))),
        budget_interval: budget.budget_interval.map(wire::duration),
        min_retry_concurrency: Some(wire::uint32(if budget.min_retry_concurrency == 0 { 3 } else { budget.min_retry_concurrency })),
    }
}

/// HTTP options of a cluster, as its `typed_extension_protocol_options`; empty where Envoy's defaults are right.
#[must_use]
pub fn http_options(pool: Option<&ConnectionPoolSettings>, upstream: UpstreamHttp) -> HashMap<String, Any> {
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    let http = pool.and_then(|pool| pool.http.as_ref());
    let common = common_options(tcp, http);
    let upstream = match (upstream, http) {
        (UpstreamHttp::Tcp, _) => return HashMap::new(),
        (_, Some(http)) if http.use_client_protocol => UpstreamHttp::SameAsDownstream,
        (_, Some(http)) if http.h2_upgrade_policy == H2UpgradePolicy::Upgrade => UpstreamHttp::Http2,
        (upstream, _) => upstream,
    };
    if upstream == UpstreamHttp::Http1 && common.is_none() {
        return HashMap::new();
    }
    let http2 = core::Http2ProtocolOptions {
        max_concurrent_streams: http.and_then(|http| wire::positive(http.max_concurrent_streams)),
        ..Default::default()
    };
    let http1 = core::Http1ProtocolOptions::default();
    let protocol = match upstream {
        UpstreamHttp::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2)),
        UpstreamHttp::SameAsDownstream => UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: Some(http1),
            http2_protocol_options: Some(http2),
            ..Default::default()
        }),
        UpstreamHttp::Http1 | UpstreamHttp::Tcp => explicit(ProtocolConfig::HttpProtocolOptions(http1)),
    };
    let options = HttpProtocolOptions { common_http_protocol_options: common, upstream_protocol_options: Some(protocol), ..Default::default() };
    HashMap::from([(HTTP_OPTIONS.to_owned(), lateen_envoy_api::pack(&options))])
}

fn explicit(config: ProtocolConfig) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) })
}

fn common_options(tcp: Option<&TCPSettings>, http: Option<&HTTPSettings>) -> Option<core::HttpProtocolOptions> {
    let idle = http.and_then(|http| http.idle_timeout).or(tcp.and_then(|tcp| tcp.idle_timeout));
    let options = core::HttpProtocolOptions {
        idle_timeout: idle.map(wire::duration),
        max_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration).map(wire::duration),
        max_requests_per_connection: http.and_then(|http| wire::positive(http.max_requests_per_connection)),
        ..Default::default()
    };
    (options != core::HttpProtocolOptions::default()).then_some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(json: serde_json::Value) -> ConnectionPoolSettings {
        serde_json::from_value(json).unwrap()
    }

    fn thresholds(pool: Option<&ConnectionPoolSettings>) -> Thresholds {
        let mut cluster = Cluster::default();
        apply(pool, None, None, &mut cluster);
        cluster.circuit_breakers.unwrap().thresholds.remove(0)
    }

    #[test]
    fn no_settings_mean_no_limits_and_ten_seconds_to_connect() {
        assert_eq!(thresholds(None).max_connections.unwrap().value, UNLIMITED);
        let mut cluster = Cluster::default();
        apply(None, None, None, &mut cluster);
        assert_eq!(cluster.connect_timeout.unwrap().seconds, 10);
    }

    #[test]
    fn limits_are_taken_over() {
        let pool = pool(serde_json::json!({"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 2, "http2MaxRequests": 3, "maxRetries": 4}}));
        let limits = thresholds(Some(&pool));
        let values = [limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries].map(|limit| limit.unwrap().value);
        assert_eq!(values, [1, 2, 3, 4]);
    }

    #[test]
    fn plain_http1_needs_no_options() {
        assert!(http_options(None, UpstreamHttp::Http1).is_empty());
        assert!(!http_options(None, UpstreamHttp::Http2).is_empty());
        let one_request = pool(serde_json::json!({"http": {"maxRequestsPerConnection": 1}}));
        assert!(http_options(Some(&one_request), UpstreamHttp::Http1).contains_key(HTTP_OPTIONS));
    }

    #[test]
    fn tcp_clusters_have_no_http_options() {
        let pool = pool(serde_json::json!({"http": {"h2UpgradePolicy": "UPGRADE"}}));
        assert!(http_options(Some(&pool), UpstreamHttp::Tcp).is_empty());
    }
}
