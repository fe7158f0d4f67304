//! Ports, the packet mark, and the addresses of the embedded network.
//!
//! - Reads: nothing. Source of the numbers: Istio's «Application Requirements» page.

use std::net::Ipv4Addr;

/// The proxy's admin interface, on loopback only.
pub const ADMIN: u16 = 15000;
/// Where a pod's outbound connections are redirected to.
pub const OUTBOUND: u16 = 15001;
/// Where a pod's inbound connections are redirected to.
pub const INBOUND: u16 = 15006;
/// HBONE (HTTP-based overlay) mutual TLS; never redirected.
pub const HBONE: u16 = 15008;
/// The control plane's xDS and certificate service, plaintext.
pub const XDS_PLAINTEXT: u16 = 15010;
/// The control plane's xDS and certificate service, TLS.
pub const XDS_TLS: u16 = 15012;
/// The control plane's metrics and debug interface.
pub const CONTROL_DEBUG: u16 = 15014;
/// The control plane's webhooks.
pub const WEBHOOKS: u16 = 15017;
/// The control plane's readiness.
pub const CONTROL_READY: u16 = 8080;
/// The agent: merged metrics, readiness, application probes.
pub const STATUS: u16 = 15020;
/// The proxy's health listener, for load balancers and kubelets.
pub const HEALTH: u16 = 15021;
/// DNS as captured by the agent.
pub const DNS_CAPTURE: u16 = 15053;
/// The proxy's own Prometheus metrics.
pub const PROMETHEUS: u16 = 15090;
/// The gateway's multi-network (`AUTO_PASSTHROUGH`) port.
pub const SNI_DNAT: u16 = 15443;
/// The gateway's plain HTTP port inside its pod.
pub const GATEWAY_HTTP: u16 = 8080;
/// The gateway's TLS port inside its pod.
pub const GATEWAY_HTTPS: u16 = 8443;
/// DNS servers.
pub const DNS: u16 = 53;
/// `lateen up` publishes the ingress gateway here on loopback.
pub const INGRESS_DEFAULT: u16 = 8080;
/// `lateen up` publishes the ingress gateway's TLS port here on loopback.
pub const INGRESS_TLS_DEFAULT: u16 = 8443;
/// `lateen up` serves its page here on loopback.
pub const DASHBOARD_DEFAULT: u16 = 8090;

/// Inbound ports that belong to the mesh itself and are never redirected.
pub const INBOUND_NEVER_REDIRECTED: [u16; 4] = [HBONE, PROMETHEUS, HEALTH, STATUS];

/// `SO_MARK` of every socket that the proxy or its agent opens, so that interception lets it pass.
pub const PROXY_MARK: u32 = 1337;
/// The user id Istio runs its proxy as; kept for injected pod specifications.
pub const PROXY_UID: u32 = 1337;

/// Source address of connections from a sidecar to its own application, as Istio's.
pub const INBOUND_PASSTHROUGH_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

/// The embedded network's bridge, which is also the pods' default gateway.
pub const BRIDGE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// Prefix length of the pod network 10.244.0.0/16.
pub const POD_PREFIX: u8 = 16;
/// First address of the Service network 10.96.0.0/16.
pub const SERVICE_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
/// Prefix length of the Service network.
pub const SERVICE_PREFIX: u8 = 16;
/// The cluster's DNS server.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// What `host.lateen.internal` resolves to in a pod: the host's loopback, through the egress broker.
pub const HOST_LOOPBACK_ALIAS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
