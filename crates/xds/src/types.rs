//! The resource types that travel over xDS, by type URL, and the order in which they must be pushed.
//!
//! - Reads: the `type_url` of discovery requests.
//! - Rule: clusters before endpoints before listeners before routes before secrets, so that nothing refers to what is not there yet.
//! - Not here: the messages themselves (`envoy-api`).

/// `envoy.config.cluster.v3.Cluster`.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// `envoy.config.listener.v3.Listener`.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// `envoy.config.route.v3.RouteConfiguration`.
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// `envoy.extensions.transport_sockets.tls.v3.Secret`.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// `istio.networking.nds.v1.NameTable`: one unnamed resource.
pub const NAME_TABLE: &str = "type.googleapis.com/istio.networking.nds.v1.NameTable";
/// `envoy.config.core.v3.TypedExtensionConfig`.
pub const EXTENSION_CONFIG: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
/// Wrapper that may stand around a resource in a state-of-the-world response.
pub const WRAPPED: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// Push order. A type that is not listed comes last.
pub const ORDER: [&str; 6] = [CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, NAME_TABLE];

/// Place of `type_url` in [`ORDER`].
#[must_use]
pub fn order(type_url: &str) -> usize {
    ORDER.iter().position(|t| *t == type_url).unwrap_or(ORDER.len())
}

/// Whether an empty subscription to this type means "everything". Endpoints, routes, secrets and extension configs are asked for by name.
#[must_use]
pub fn wildcard_allowed(type_url: &str) -> bool {
    !matches!(type_url, ENDPOINT | ROUTE | SECRET | EXTENSION_CONFIG)
}

/// Short name as `proxy-status` prints it: `CDS`, `EDS`, `LDS`, `RDS`, `SDS`, `NDS`, `ECDS`, or the last word of the type.
#[must_use]
pub fn short(type_url: &str) -> &str {
    match type_url {
        CLUSTER => "CDS",
        ENDPOINT => "EDS",
        LISTENER => "LDS",
        ROUTE => "RDS",
        SECRET => "SDS",
        NAME_TABLE => "NDS",
        EXTENSION_CONFIG => "ECDS",
        other => other.rsplit('.').next().unwrap_or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_come_before_everything_and_unknown_types_last() {
        assert_eq!(order(CLUSTER), 0);
        assert!(order(ENDPOINT) < order(LISTENER) && order(LISTENER) < order(ROUTE));
        assert_eq!(order("type.googleapis.com/x.Y"), ORDER.len());
    }

    #[test]
    fn short_names_are_the_usual_ones() {
        assert_eq!(short(SECRET), "SDS");
        assert_eq!(short("type.googleapis.com/istio.workload.Address"), "Address");
    }
}
