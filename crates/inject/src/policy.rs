//! Whether a pod gets a sidecar.
//!
//! - Reads: label `istio-injection` of the namespace; label, then annotation, `sidecar.istio.io/inject` of the pod; `spec.hostNetwork`.
//! - Rule: the pod's label wins, then its annotation, then the namespace; a value that is neither true nor false is passed over.
//! - Rule: without Kubernetes, `default` and namespaces that no file declares are injected unless they say no, since tutorials label
//!   `default` with a command that has nothing to talk to yet. A declared namespace follows its label. `istio-system` and `kube-…` are not injected.

use lateen_base::{annotations, labels, names};
use lateen_kube_api::Pod;
use std::collections::BTreeMap;

/// Whether a namespace's object came from a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceOrigin {
    /// A file or an apply declares it.
    Declared,
    /// It exists because an object names it.
    Implicit,
}

/// Inject, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The pod gets a sidecar.
    Inject,
    /// It does not, for this reason.
    Skip(&'static str),
}

/// Whether pods of a namespace are injected when they say nothing themselves.
#[must_use]
pub fn namespace_injects(name: &str, namespace_labels: &BTreeMap<String, String>, origin: NamespaceOrigin) -> bool {
    if name == names::ROOT_NAMESPACE || name.starts_with("kube-") {
        return false;
    }
    match namespace_labels.get(labels::INJECTION).map(String::as_str) {
        Some("enabled") => true,
        Some(_) => false,
        None if namespace_labels.contains_key(labels::REVISION) => true,
        None => name == names::DEFAULT_NAMESPACE || origin == NamespaceOrigin::Implicit,
    }
}

/// Whether this pod is injected, where `namespace_injects` is the namespace's answer.
#[must_use]
pub fn decide(pod: &Pod, namespace_injects: bool) -> Decision {
    if pod.spec.host_network == Some(true) {
        return Decision::Skip("the pod uses the host's network");
    }
    if pod.spec.containers.iter().chain(&pod.spec.init_containers).any(|container| container.name == names::PROXY_CONTAINER) {
        return Decision::Skip("the pod has a sidecar already");
    }
    let asked = |map: &BTreeMap<String, String>, key: &str| map.get(key).and_then(|value| truth(value));
    match asked(&pod.metadata.labels, labels::INJECT).or_else(|| asked(&pod.metadata.annotations, annotations::INJECT)) {
        Some(true) => Decision::Inject,
        Some(false) => Decision::Skip("the pod says sidecar.istio.io/inject: \"false\""),
        None if namespace_injects => Decision::Inject,
        None => Decision::Skip("the namespace is not labelled istio-injection=enabled"),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "y" | "yes" | "on" => Some(true),
        "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_pods_label_wins_over_the_namespace() {
        let mut pod = Pod::default();
        pod.metadata.labels = map(&[(labels::INJECT, "false")]);
        assert!(matches!(decide(&pod, true), Decision::Skip(_)));
        pod.metadata.labels = map(&[(labels::INJECT, "true")]);
        assert_eq!(decide(&pod, false), Decision::Inject);
    }

    #[test]
    fn an_invalid_value_falls_back_to_the_namespace() {
        let mut pod = Pod::default();
        pod.metadata.labels = map(&[(labels::INJECT, "maybe")]);
        assert_eq!(decide(&pod, true), Decision::Inject);
        assert!(matches!(decide(&pod, false), Decision::Skip(_)));
    }

    #[test]
    fn a_pod_on_the_hosts_network_is_never_injected() {
        let mut pod = Pod::default();
        pod.spec.host_network = Some(true);
        pod.metadata.labels = map(&[(labels::INJECT, "true")]);
        assert!(matches!(decide(&pod, true), Decision::Skip(_)));
    }

    #[test]
    fn default_and_undeclared_namespaces_inject_unless_they_say_no() {
        use NamespaceOrigin::{Declared, Implicit};
        let no = map(&[(labels::INJECTION, "disabled")]);
        let yes = map(&[(labels::INJECTION, "enabled")]);
        let none = map(&[]);
        assert!(namespace_injects("default", &none, Declared));
        assert!(!namespace_injects("default", &no, Declared));
        assert!(namespace_injects("shop", &none, Implicit));
        assert!(!namespace_injects("shop", &none, Declared));
        assert!(namespace_injects("shop", &yes, Declared));
        assert!(!namespace_injects("istio-system", &yes, Declared));
    }
}
