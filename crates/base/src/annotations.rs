//! Annotations that carry meaning for the mesh. Source: Istio's «Resource Annotations» page.

/// What injection did to a pod, as JSON.
pub const STATUS: &str = "sidecar.istio.io/status";
/// Injection by annotation (the label of the same name wins).
pub const INJECT: &str = "sidecar.istio.io/inject";
/// Image of the sidecar; an image whose last path element starts with `envoy` or `proxyv2` runs real Envoy.
pub const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
/// Whether probes are rewritten to the agent: `"true"` (default) or `"false"`.
pub const REWRITE_PROBERS: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
/// Log level of the proxy.
pub const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
/// Inbound ports to redirect: `*` (default) or a comma-separated list.
pub const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
/// Inbound ports left alone.
pub const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
/// Outbound ports redirected whatever their address.
pub const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
/// Outbound ports left alone.
pub const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
/// Outbound ranges redirected: `*` (default) or CIDRs.
pub const INCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
/// Outbound ranges left alone.
pub const EXCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
/// Overrides of ProxyConfig, as YAML.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// Whether the application's metrics are scraped.
pub const PROMETHEUS_SCRAPE: &str = "prometheus.io/scrape";
/// Port of the application's metrics.
pub const PROMETHEUS_PORT: &str = "prometheus.io/port";
/// Path of the application's metrics.
pub const PROMETHEUS_PATH: &str = "prometheus.io/path";
/// Namespaces a Service is visible in.
pub const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// Analysis codes not to be reported for an object.
pub const ANALYZE_SUPPRESS: &str = "galley.istio.io/analyze-suppress";
/// A policy that is evaluated and reported but not enforced.
pub const DRY_RUN: &str = "istio.io/dry-run";
/// Container that `logs` and `exec` mean when none is named.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Where an object was read from: `path:line`. Ours.
pub const SOURCE: &str = "lateen.io/source";
