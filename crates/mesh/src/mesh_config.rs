//! Mesh-wide options with every default applied, so that nothing later asks "and if it is absent?".
//!
//! - Reads: `istio.mesh.v1alpha1.MeshConfig` (ConfigMap `istio`, key `mesh`).
//! - Rule: defaults are istiod's, except the access log, which is on (as the demo profile has it).
//! - Not here: per-workload overrides (`proxy.istio.io/config`, read by `inject`).

use lateen_base::names;
use lateen_istio_api::{GoDuration, HTTPRetry, LocalityLoadBalancerSetting, TcpKeepalive};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Traffic to destinations nobody declared. Source: `MeshConfig.outboundTrafficPolicy.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundMode {
    /// Refused: 502 for HTTP, a closed connection for TCP.
    RegistryOnly,
    /// Let through untouched.
    #[default]
    AllowAny,
}

/// How access-log lines are written. Source: `MeshConfig.accessLogEncoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccessLogEncoding {
    /// A line of text.
    #[default]
    Text,
    /// A JSON object on one line.
    Json,
}

/// How request paths are normalised. Source: `MeshConfig.pathNormalization.normalization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NormalizationType {
    /// As [`NormalizationType::Base`].
    #[default]
    Default,
    /// Not at all.
    None,
    /// RFC 3986 §6: dot segments and percent-encoding.
    Base,
    /// And runs of slashes become one.
    MergeSlashes,
    /// And `%2F`, `%5C` become slashes first.
    DecodeAndMergeSlashes,
}

/// The message as users write it. Fields that nothing acts on are kept as JSON, so that analysis can report them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Text {
    trust_domain: Option<String>,
    trust_domain_aliases: Vec<String>,
    root_namespace: Option<String>,
    access_log_file: Option<String>,
    access_log_format: String,
    access_log_encoding: AccessLogEncoding,
    outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    enable_auto_mtls: Option<bool>,
    connect_timeout: Option<GoDuration>,
    protocol_detection_timeout: Option<GoDuration>,
    tcp_keepalive: Option<TcpKeepalive>,
    #[serde(rename = "defaultHttpRetryPolicy")]
    default_http_retry_policy: Option<HTTPRetry>,
    default_service_export_to: Vec<String>,
    default_virtual_service_export_to: Vec<String>,
    default_destination_rule_export_to: Vec<String>,
    default_providers: Option<DefaultProviders>,
    path_normalization: Option<PathNormalization>,
    h2_upgrade_policy: Option<String>,
    locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    dns_refresh_rate: Option<GoDuration>,
    enable_tracing: Option<bool>,
    default_config: Option<Value>,
    enable_prometheus_merge: Option<bool>,
    extension_providers: Vec<Value>,
    ingress_class: Option<String>,
    ingress_service: Option<String>,
    ingress_selector: Option<String>,
    ingress_controller_mode: Option<String>,
    #[serde(rename = "meshMTLS")]
    mesh_mtls: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct OutboundTrafficPolicy {
    mode: OutboundMode,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DefaultProviders {
    metrics: Vec<String>,
    tracing: Vec<String>,
    access_logging: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PathNormalization {
    normalization: NormalizationType,
}

/// Mesh-wide options, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshConfig {
    /// First part of every SPIFFE identity.
    pub trust_domain: String,
    /// Other trust domains whose identities are accepted as our own.
    pub trust_domain_aliases: Vec<String>,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// Namespace whose policies are mesh-wide.
    pub root_namespace: String,
    /// File of the access log; empty turns it off.
    pub access_log_file: String,
    /// Format of the access log; empty means Istio's default.
    pub access_log_format: String,
    /// Text or JSON lines.
    pub access_log_encoding: AccessLogEncoding,
    /// What happens to traffic to unknown destinations.
    pub outbound_mode: OutboundMode,
    /// Whether clients use mTLS by themselves towards workloads that can.
    pub enable_auto_mtls: bool,
    /// `connect_timeout` of clusters.
    pub connect_timeout: Duration,
    /// How long a listener waits for first bytes to sniff; zero is for ever.
    pub protocol_detection_timeout: Duration,
    /// Keepalive of upstream connections.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Retries of routes that say nothing; `None` means Istio's built-in policy.
    pub default_http_retry_policy: Option<HTTPRetry>,
    /// `exportTo` of Services and ServiceEntries that say nothing; empty means everywhere.
    pub default_service_export_to: Vec<String>,
    /// `exportTo` of VirtualServices that say nothing; empty means everywhere.
    pub default_virtual_service_export_to: Vec<String>,
    /// `exportTo` of DestinationRules that say nothing; empty means everywhere.
    pub default_destination_rule_export_to: Vec<String>,
    /// Whether Istio's standard metrics are kept.
    pub prometheus_metrics: bool,
    /// How request paths are normalised.
    pub path_normalization: NormalizationType,
    /// Whether HTTP/1.1 traffic between sidecars is carried over HTTP/2.
    pub h2_upgrade: bool,
    /// Locality preferences of all clusters.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// How often DNS clusters ask again.
    pub dns_refresh_rate: Duration,
    /// Whether requests are traced at all.
    pub enable_tracing: bool,
    /// Fields that were written but that the compiler does not act on, by name.
    pub unused: BTreeMap<String, Value>,
}

impl MeshConfig {
    /// Reads the message as JSON and applies the defaults.
    ///
    /// # Errors
    /// Serde's message, which names the unknown field or the wrong value.
    pub fn from_json(config: Value) -> Result<Self, serde_json::Error> {
        Ok(Self::resolve(serde_json::from_value(config)?))
    }

    fn resolve(config: Text) -> Self {
        let mut unused = BTreeMap::new();
        for (name, value) in [("defaultConfig", &config.default_config), ("meshMTLS", &config.mesh_mtls)] {
            if let Some(value) = value {
                unused.insert(name.to_owned(), value.clone());
            }
        }
        if !config.extension_providers.is_empty() {
            unused.insert("extensionProviders".to_owned(), Value::Array(config.extension_providers.clone()));
        }
        let duration = |d: Option<GoDuration>, default: Duration| d.and_then(|d| d.to_std()).unwrap_or(default);
        let word = |text: &Option<String>, default: &str| text.as_deref().filter(|t| !t.is_empty()).unwrap_or(default).to_owned();
        Self {
            trust_domain: word(&config.trust_domain, names::TRUST_DOMAIN),
            trust_domain_aliases: config.trust_domain_aliases.clone(),
            cluster_domain: names::CLUSTER_DOMAIN.to_owned(),
            root_namespace: word(&config.root_namespace, names::ROOT_NAMESPACE),
            access_log_file: config.access_log_file.clone().unwrap_or_else(|| ACCESS_LOG_FILE.to_owned()),
            access_log_format: config.access_log_format.clone(),
            access_log_encoding: config.access_log_encoding,
            outbound_mode: config.outbound_traffic_policy.as_ref().map_or(OutboundMode::AllowAny, |p| p.mode),
            enable_auto_mtls: config.enable_auto_mtls.unwrap_or(true),
            connect_timeout: duration(config.connect_timeout, CONNECT_TIMEOUT),
            protocol_detection_timeout: duration(config.protocol_detection_timeout, Duration::ZERO),
            tcp_keepalive: config.tcp_keepalive.clone(),
            default_http_retry_policy: config.default_http_retry_policy.clone(),
            default_service_export_to: config.default_service_export_to.clone(),
            default_virtual_service_export_to: config.default_virtual_service_export_to.clone(),
            default_destination_rule_export_to: config.default_destination_rule_export_to.clone(),
            prometheus_metrics: config.default_providers.as_ref().is_none_or(|p| p.metrics.iter().any(|m| m == "prometheus")),
            path_normalization: config.path_normalization.as_ref().map(|p| p.normalization).unwrap_or_default(),
            h2_upgrade: config.h2_upgrade_policy.as_deref() == Some("UPGRADE"),
            locality_lb_setting: config.locality_lb_setting.clone(),
            dns_refresh_rate: duration(config.dns_refresh_rate, DNS_REFRESH_RATE),
            enable_tracing: config.enable_tracing.unwrap_or(true),
            unused,
        }
    }
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self::resolve(Text::default())
    }
}

/// Container logs are where users look first.
const ACCESS_LOG_FILE: &str = "/dev/stdout";
/// Istio's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Istio's default.
const DNS_REFRESH_RATE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_config_allows_any_destination() {
        assert_eq!(MeshConfig::default().outbound_mode, OutboundMode::AllowAny);
    }

    #[test]
    fn an_empty_access_log_file_turns_the_log_off() {
        let config = MeshConfig::from_json(serde_json::json!({"accessLogFile": ""})).unwrap();
        assert_eq!(config.access_log_file, "");
    }

    #[test]
    fn an_unknown_field_is_an_error_that_names_it() {
        let error = MeshConfig::from_json(serde_json::json!({"accesLogFile": ""})).unwrap_err();
        assert!(error.to_string().contains("accesLogFile"));
    }
}
