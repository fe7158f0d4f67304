//! `DestinationRule` as a user writes it: every field of the Istio message, typed and strict.
//!
//! - Reads: `networking.istio.io` objects, the `spec` part (`istio.networking.v1alpha3`).
//! - Rule: an unknown field, a wrong type or an unknown enum word is an error; a missing field is its proto3 default.
//! - Not here: what the fields mean, their validation and Istio's later defaults (`kinds/src/destination_rule/`).
#![allow(
    missing_docs,
    reason = "fields carry Istio's own names, documented at istio.io/latest/docs/reference/config"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::{PortSelector, WorkloadSelector};
use crate::duration::GoDuration;

/// `istio.networking.v1alpha3.DestinationRule`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DestinationRule {
    pub host: String,
    pub traffic_policy: Option<TrafficPolicy>,
    pub subsets: Vec<Subset>,
    pub export_to: Vec<String>,
    pub workload_selector: Option<WorkloadSelector>,
}

/// `istio.networking.v1alpha3.TrafficPolicy`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TrafficPolicy {
    pub load_balancer: Option<LoadBalancerSettings>,
    pub connection_pool: Option<ConnectionPoolSettings>,
    pub outlier_detection: Option<OutlierDetection>,
    pub tls: Option<ClientTLSSettings>,
    pub port_level_settings: Vec<PortTrafficPolicy>,
    pub tunnel: Option<TunnelSettings>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub retry_budget: Option<RetryBudget>,
}

/// `istio.networking.v1alpha3.TrafficPolicy.PortTrafficPolicy`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortTrafficPolicy {
    pub port: Option<PortSelector>,
    pub load_balancer: Option<LoadBalancerSettings>,
    pub connection_pool: Option<ConnectionPoolSettings>,
    pub outlier_detection: Option<OutlierDetection>,
    pub tls: Option<ClientTLSSettings>,
}

/// `istio.networking.v1alpha3.TrafficPolicy.TunnelSettings`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TunnelSettings {
    pub protocol: String,
    pub target_host: String,
    #[serde(deserialize_with = "crate::number::plain")]
    pub target_port: u32,
}

/// `istio.networking.v1alpha3.TrafficPolicy.ProxyProtocol`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProxyProtocol {
    pub version: ProxyProtocolVersion,
}

/// `istio.networking.v1alpha3.TrafficPolicy.RetryBudget`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RetryBudget {
    #[serde(deserialize_with = "crate::number::option")]
    pub percent: Option<f64>,
    #[serde(deserialize_with = "crate::number::plain")]
    pub min_retry_concurrency: u32,
    pub budget_interval: Option<GoDuration>,
}

/// `istio.networking.v1alpha3.Subset`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Subset {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub traffic_policy: Option<TrafficPolicy>,
}

/// `istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.RingHash`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RingHash {
    #[serde(deserialize_with = "crate::number::plain")]
    pub minimum_ring_size: u64,
}

/// `istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.MagLev`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct MagLev {
    #[serde(deserialize_with = "crate::number::plain")]
    pub table_size: u64,
}

/// `istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.HTTPCookie.Attribute`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPCookieAttribute {
    pub name: String,
    pub value: String,
}

/// `istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.HTTPCookie`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPCookie {
    pub name: String,
    pub path: String,
    pub ttl: Option<GoDuration>,
    pub attributes: Vec<HTTPCookieAttribute>,
}

/// `istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConsistentHashLB {
    pub http_header_name: Option<String>,
    pub http_cookie: Option<HTTPCookie>,
    pub use_source_ip: Option<bool>,
    pub http_query_parameter_name: Option<String>,
    pub ring_hash: Option<RingHash>,
    pub maglev: Option<MagLev>,
    #[serde(deserialize_with = "crate::number::plain")]
    pub minimum_ring_size: u64,
}

/// `istio.networking.v1alpha3.LoadBalancerSettings`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LoadBalancerSettings {
    pub simple: Option<SimpleLB>,
    pub consistent_hash: Option<ConsistentHashLB>,
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    pub zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
    pub warmup_duration_secs: Option<GoDuration>,
    pub warmup: Option<WarmupConfiguration>,
}

/// `istio.networking.v1alpha3.WarmupConfiguration`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WarmupConfiguration {
    pub duration: Option<GoDuration>,
    #[serde(deserialize_with = "crate::number::option")]
    pub minimum_percent: Option<f64>,
    #[serde(deserialize_with = "crate::number::option")]
    pub aggression: Option<f64>,
}

/// `istio.networking.v1alpha3.ConnectionPoolSettings.TCPSettings.TcpKeepalive`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpKeepalive {
    #[serde(deserialize_with = "crate::number::plain")]
    pub probes: u32,
    pub time: Option<GoDuration>,
    pub interval: Option<GoDuration>,
}

/// `istio.networking.v1alpha3.ConnectionPoolSettings.TCPSettings`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TCPSettings {
    #[serde(deserialize_with = "crate::number::plain")]
    pub max_connections: i32,
    pub connect_timeout: Option<GoDuration>,
    pub tcp_keepalive: Option<TcpKeepalive>,
    pub max_connection_duration: Option<GoDuration>,
    pub idle_timeout: Option<GoDuration>,
}

/// `istio.networking.v1alpha3.ConnectionPoolSettings.HTTPSettings`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPSettings {
    #[serde(deserialize_with = "crate::number::plain")]
    pub http1_max_pending_requests: i32,
    #[serde(deserialize_with = "crate::number::plain")]
    pub http2_max_requests: i32,
    #[serde(deserialize_with = "crate::number::plain")]
    pub max_requests_per_connection: i32,
    #[serde(deserialize_with = "crate::number::plain")]
    pub max_retries: i32,
    pub idle_timeout: Option<GoDuration>,
    pub h2_upgrade_policy: H2UpgradePolicy,
    pub use_client_protocol: bool,
    #[serde(deserialize_with = "crate::number::plain")]
    pub max_concurrent_streams: i32,
    pub http2_keep_alive: Option<ConnectionKeepalive>,
}

/// `istio.networking.v1alpha3.ConnectionPoolSettings.HTTPSettings.ConnectionKeepalive`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectionKeepalive {
    pub interval: Option<GoDuration>,
    pub timeout: Option<GoDuration>,
}

/// `istio.networking.v1alpha3.ConnectionPoolSettings`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectionPoolSettings {
    pub tcp: Option<TCPSettings>,
    pub http: Option<HTTPSettings>,
}

/// `istio.networking.v1alpha3.OutlierDetection`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct OutlierDetection {
    #[serde(deserialize_with = "crate::number::plain")]
    pub consecutive_errors: i32,
    pub split_external_local_origin_errors: bool,
    #[serde(deserialize_with = "crate::number::option")]
    pub consecutive_local_origin_failures: Option<u32>,
    #[serde(deserialize_with = "crate::number::option")]
    pub consecutive_gateway_errors: Option<u32>,
    #[serde(deserialize_with = "crate::number::option")]
    pub consecutive_5xx_errors: Option<u32>,
    pub interval: Option<GoDuration>,
    pub base_ejection_time: Option<GoDuration>,
    #[serde(deserialize_with = "crate::number::plain")]
    pub max_ejection_percent: i32,
    #[serde(deserialize_with = "crate::number::plain")]
    pub min_health_percent: i32,
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// `istio.networking.v1alpha3.ClientTLSSettings`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientTLSSettings {
    pub mode: Option<ClientTLSMode>,
    pub client_certificate: String,
    pub private_key: String,
    pub ca_certificates: String,
    pub credential_name: String,
    pub subject_alt_names: Vec<String>,
    pub sni: String,
    pub insecure_skip_verify: Option<bool>,
    pub ca_crl: String,
}

/// `istio.networking.v1alpha3.LocalityLoadBalancerSetting.Distribute`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalityDistribute {
    pub from: String,
    pub to: BTreeMap<String, u32>,
}

/// `istio.networking.v1alpha3.LocalityLoadBalancerSetting.Failover`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalityFailover {
    pub from: String,
    pub to: String,
}

/// `istio.networking.v1alpha3.LocalityLoadBalancerSetting`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalityLoadBalancerSetting {
    pub distribute: Vec<LocalityDistribute>,
    pub failover: Vec<LocalityFailover>,
    pub failover_priority: Vec<String>,
    pub enabled: Option<bool>,
}

/// `istio.networking.v1alpha3.ZoneAwareLoadBalancerSetting`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ZoneAwareLoadBalancerSetting {
    pub enabled: Option<bool>,
    pub failover: Vec<ZoneAwareFailover>,
    pub failover_priority: Vec<String>,
    #[serde(deserialize_with = "crate::number::option")]
    pub min_cluster_size: Option<u64>,
}

/// `istio.networking.v1alpha3.ZoneAwareLoadBalancerSetting.Failover`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ZoneAwareFailover {
    pub from: String,
    pub to: String,
}

/// `istio.networking.v1alpha3` enum `VERSION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ProxyProtocolVersion {
    #[default]
    #[serde(rename = "V1")]
    V1,
    #[serde(rename = "V2")]
    V2,
}

/// `istio.networking.v1alpha3` enum `SimpleLB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SimpleLB {
    #[default]
    #[serde(rename = "UNSPECIFIED")]
    Unspecified,
    #[serde(rename = "LEAST_CONN")]
    LeastConn,
    #[serde(rename = "RANDOM")]
    Random,
    #[serde(rename = "PASSTHROUGH")]
    Passthrough,
    #[serde(rename = "ROUND_ROBIN")]
    RoundRobin,
    #[serde(rename = "LEAST_REQUEST")]
    LeastRequest,
}

/// `istio.networking.v1alpha3` enum `H2UpgradePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum H2UpgradePolicy {
    #[default]
    #[serde(rename = "DEFAULT")]
    Default,
    #[serde(rename = "DO_NOT_UPGRADE")]
    DoNotUpgrade,
    #[serde(rename = "UPGRADE")]
    Upgrade,
}

/// `istio.networking.v1alpha3` enum `TLSmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ClientTLSMode {
    #[default]
    #[serde(rename = "DISABLE")]
    Disable,
    #[serde(rename = "SIMPLE")]
    Simple,
    #[serde(rename = "MUTUAL")]
    Mutual,
    #[serde(rename = "ISTIO_MUTUAL")]
    IstioMutual,
}
