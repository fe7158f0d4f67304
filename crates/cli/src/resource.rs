//! The names of kinds on the command line: `vs`, `virtualservices`, `VirtualService`, `virtualservice.networking.istio.io`.
//!
//! - Rule: output names an object as kubectl does: `service/db`, `deployment.apps/db`, `virtualservice.networking.istio.io/frontend`.
//! - Not here: what the kinds mean (`kinds`).

/// One kind the store keeps.
pub(crate) struct Resource {
    pub(crate) kind: &'static str,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) shorts: &'static [&'static str],
    pub(crate) namespaced: bool,
}

const fn of(kind: &'static str, group: &'static str, version: &'static str, plural: &'static str, shorts: &'static [&'static str]) -> Resource {
    Resource { kind, group, version, plural, shorts, namespaced: true }
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";

/// All kinds.
pub(crate) const RESOURCES: &[Resource] = &[
    of("Pod", "", "v1", "pods", &["po"]),
    of("Service", "", "v1", "services", &["svc"]),
    of("Deployment", "apps", "v1", "deployments", &["deploy"]),
    of("ReplicaSet", "apps", "v1", "replicasets", &["rs"]),
    of("ConfigMap", "", "v1", "configmaps", &["cm"]),
    of("Secret", "", "v1", "secrets", &[]),
    of("ServiceAccount", "", "v1", "serviceaccounts", &["sa"]),
    of("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", &[]),
    Resource { namespaced: false, ..of("Namespace", "", "v1", "namespaces", &["ns"]) },
    Resource { namespaced: false, ..of("Node", "", "v1", "nodes", &["no"]) },
    of("VirtualService", NETWORKING, "v1", "virtualservices", &["vs"]),
    of("DestinationRule", NETWORKING, "v1", "destinationrules", &["dr"]),
    of("Gateway", NETWORKING, "v1", "gateways", &["gw"]),
    of("ServiceEntry", NETWORKING, "v1", "serviceentries", &["se"]),
    of("WorkloadEntry", NETWORKING, "v1", "workloadentries", &["we"]),
    of("WorkloadGroup", NETWORKING, "v1", "workloadgroups", &["wg"]),
    of("Sidecar", NETWORKING, "v1", "sidecars", &[]),
    of("EnvoyFilter", NETWORKING, "v1alpha3", "envoyfilters", &[]),
    of("ProxyConfig", NETWORKING, "v1beta1", "proxyconfigs", &[]),
    of("PeerAuthentication", SECURITY, "v1", "peerauthentications", &["pa"]),
    of("RequestAuthentication", SECURITY, "v1", "requestauthentications", &["ra"]),
    of("AuthorizationPolicy", SECURITY, "v1", "authorizationpolicies", &["ap"]),
    of("Telemetry", "telemetry.istio.io", "v1", "telemetries", &["telemetry"]),
];

impl Resource {
    /// `apps/v1`, or `v1` for the core group.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// The kind a word of the command line means.
pub(crate) fn find(word: &str) -> Option<&'static Resource> {
    let word = word.to_ascii_lowercase();
    let (name, group) = word.split_once('.').map_or((word.as_str(), None), |(name, group)| (name, Some(group)));
    RESOURCES.iter().find(|resource| {
        let group_fits = group.is_none_or(|group| group == resource.group || group.ends_with(&format!(".{}", resource.group)));
        group_fits && (name == resource.plural || name.eq_ignore_ascii_case(resource.kind) || resource.shorts.contains(&name))
    })
}

/// `kind.group/name`, as kubectl prints objects.
pub(crate) fn display(kind: &str, api_version: Option<&str>, name: &str) -> String {
    let known = RESOURCES.iter().find(|resource| resource.kind == kind).map(|resource| resource.group);
    let group = api_version.and_then(|version| version.split_once('/')).map(|(group, _)| group).or(known).unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_finds_the_kind() {
        for word in ["vs", "VirtualService", "virtualservices", "virtualservice.networking.istio.io", "virtualservices.v1.networking.istio.io"] {
            assert_eq!(find(word).map(|resource| resource.kind), Some("VirtualService"), "{word}");
        }
        assert!(find("frobs").is_none());
        assert!(find("gateway.gateway.networking.k8s.io").is_none());
    }

    #[test]
    fn objects_are_named_as_kubectl_does() {
        assert_eq!(display("Service", Some("v1"), "db"), "service/db");
        assert_eq!(display("Deployment", None, "db"), "deployment.apps/db");
        assert_eq!(display("VirtualService", Some("networking.istio.io/v1beta1"), "f"), "virtualservice.networking.istio.io/f");
    }
}
