//! Labels that carry meaning for the mesh. Source: Istio's «Resource Labels» page and Kubernetes' well-known labels.

/// Turns injection on or off for a namespace: `enabled` or `disabled`.
pub const INJECTION: &str = "istio-injection";
/// Control-plane revision of a namespace or pod.
pub const REVISION: &str = "istio.io/rev";
/// Turns injection on or off for a pod: `"true"` or `"false"`; wins over the namespace.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// Workload label naming the application.
pub const APP: &str = "app";
/// Workload label naming the version.
pub const VERSION: &str = "version";
/// Kubernetes' recommended form of [`APP`].
pub const APP_KUBERNETES_NAME: &str = "app.kubernetes.io/name";
/// Kubernetes' recommended form of [`VERSION`].
pub const APP_KUBERNETES_VERSION: &str = "app.kubernetes.io/version";
/// Canonical service a workload belongs to.
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// Canonical revision of a workload; `latest` where nothing says otherwise.
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// `istio` on a pod whose sidecar accepts mutual TLS.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";
/// Value of [`TLS_MODE`].
pub const TLS_MODE_ISTIO: &str = "istio";
/// Ties an EndpointSlice to its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Hash of the pod template, set by the Deployment's controller.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Region of a node.
pub const TOPOLOGY_REGION: &str = "topology.kubernetes.io/region";
/// Zone of a node.
pub const TOPOLOGY_ZONE: &str = "topology.kubernetes.io/zone";
/// Sub-zone of a node.
pub const TOPOLOGY_SUBZONE: &str = "topology.istio.io/subzone";
/// Network of a workload.
pub const TOPOLOGY_NETWORK: &str = "topology.istio.io/network";
/// Gateways are selected by this label; the default ingress gateway has `ingressgateway`.
pub const GATEWAY: &str = "istio";
/// Value of [`GATEWAY`] on the ingress gateway.
pub const GATEWAY_INGRESS: &str = "ingressgateway";
/// Every namespace carries its own name in this label.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
