//! Sidecar: what of the mesh one workload's proxy is told about.
//!
//! - Reads: `networking.istio.io` Sidecar.
//! - Twin: `compile/src/view.rs`, which applies it.
//! - Rule: `egress[].hosts` entries are `namespace/host`, where the namespace may be `.`, `*` or `~` and the host a wildcard.
//! - Limits: listeners of `egress` with a port of their own narrow nothing; their hosts count.

pub mod ingress;

use lateen_base::{Code, Finding, Findings};
use lateen_istio_api::{CaptureMode, IstioEgressListener, Sidecar};
use lateen_mesh::{Object, Protocol, Snapshot, selects};
use std::collections::BTreeMap;

use crate::check::{Check, is_dns_label};
use crate::kind::{Gvk, Kind};

/// The kind.
pub enum SidecarKind {}

impl Kind for SidecarKind {
    const GVK: Gvk = Gvk { group: "networking.istio.io", version: "v1", also: &["v1beta1", "v1alpha3"], kind: "Sidecar", plural: "sidecars" };
    type Spec = Sidecar;

    fn objects(mesh: &Snapshot) -> &[Object<Sidecar>] {
        &mesh.sidecars
    }

    fn validate(object: &Object<Sidecar>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let spec = &object.spec;
        let settings = [spec.inbound_connection_pool.is_some(), spec.outbound_traffic_policy.is_some(), !spec.egress.is_empty(), !spec.ingress.is_empty()];
        if !settings.contains(&true) {
            check.error("spec", "the Sidecar sets nothing", "add egress with hosts, or outboundTrafficPolicy");
        }
        if let Some(selector) = &spec.workload_selector {
            check.labels("spec.workloadSelector.labels", &selector.labels);
        }
        for (i, egress) in spec.egress.iter().enumerate() {
            let path = format!("spec.egress[{i}]");
            if egress.hosts.is_empty() {
                check.error(format!("{path}.hosts"), "the egress listener has no hosts", "add hosts, such as ./* or istio-system/*");
            }
            for (j, host) in egress.hosts.iter().enumerate() {
                validate_host(host, &format!("{path}.hosts[{j}]"), &mut check);
            }
            validate_egress(spec, i, &path, &mut check);
            let uncaptured = egress.capture_mode == CaptureMode::None;
            check.not_enforced_if(&path, &[("port", egress.port.is_some()), ("bind", !egress.bind.is_empty()), ("captureMode", uncaptured)]);
        }
        ingress::validate(spec, &mut check);
        if let Some(policy) = &spec.outbound_traffic_policy {
            if policy.egress_proxy.as_ref().is_some_and(|proxy| proxy.port.is_none()) {
                check.error("spec.outboundTrafficPolicy.egressProxy.port", "the egress proxy has no port", "add port.number");
            }
            check.not_enforced_if("spec.outboundTrafficPolicy", &[("egressProxy", policy.egress_proxy.is_some())]);
        }
    }

    fn analyze(object: &Object<Sidecar>, mesh: &Snapshot, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let labels: Vec<_> = labels_in(mesh, &object.meta.namespace).collect();
        let own: Vec<_> = labels.iter().filter(|labels| selector(object).is_some_and(|selector| selects(selector, labels))).collect();
        if selector(object).is_some() && own.is_empty() {
            let message = "Referenced selector not found: no workload of the namespace has the labels of workloadSelector";
            check.add(Finding::new(Code::ReferencedResourceNotFound, message).with_path("spec.workloadSelector").with_remedy("correct the labels, or remove the selector"));
        }
        let shares = |other: &&Object<Sidecar>| match (selector(object), selector(other)) {
            (None, None) => true,
            (Some(_), Some(theirs)) => own.iter().any(|labels| selects(theirs, labels)),
            _ => false,
        };
        let of_namespace = mesh.sidecars.iter().filter(|other| other.meta.namespace == object.meta.namespace);
        let rivals: Vec<String> = of_namespace.filter(shares).map(|other| other.meta.name.clone()).collect();
        if rivals.len() > 1 {
            let message = format!("The Sidecars {} in namespace \"{}\" select the same workloads", rivals.join(","), object.meta.namespace);
            let remedy = "give each a workloadSelector of its own, or merge them; until then the oldest is used";
            check.add(Finding::new(Code::ConflictingSidecarWorkloadSelectors, message).with_path("spec.workloadSelector").with_remedy(remedy));
        }
    }
}

/// Labels of the pods a namespace has, or will have.
fn labels_in<'a>(mesh: &'a Snapshot, namespace: &'a str) -> impl Iterator<Item = &'a BTreeMap<String, String>> {
    let pods = mesh.pods.iter().filter(move |pod| pod.meta.namespace == namespace).map(|pod| &pod.meta.labels);
    let templates = mesh.deployments.iter().filter(move |object| object.meta.namespace == namespace);
    pods.chain(templates.map(|object| &object.spec.spec.template.metadata.labels))
}

fn selector(object: &Object<Sidecar>) -> Option<&BTreeMap<String, String>> {
    object.spec.workload_selector.as_ref().map(|selector| &selector.labels).filter(|labels| !labels.is_empty())
}

fn validate_host(host: &str, path: &str, check: &mut Check<'_>) {
    let Some((namespace, name)) = host.split_once('/') else {
        return check.error(path, format!("\"{host}\" has no namespace"), format!("write ./{host} for this namespace, or */{host} for all"));
    };
    // `~` hides the host, whatever namespace may stand behind it.
    if !matches!(namespace, "." | "*") && !namespace.starts_with('~') && !is_dns_label(namespace) {
        check.error(path, format!("\"{namespace}\" is no namespace"), "use a namespace, \".\", \"*\" or \"~\" before the slash");
    }
    check.wildcard_host(path, name);
}

/// The listener without a port takes what no other takes, so it comes last; ports on one address differ.
fn validate_egress(spec: &Sidecar, i: usize, path: &str, check: &mut Check<'_>) {
    let Some(egress) = spec.egress.get(i) else { return };
    let Some(port) = &egress.port else {
        if i + 1 < spec.egress.len() {
            check.error(path, "the egress listener without a port must be the last", "move it to the end, or merge its hosts");
        }
        return;
    };
    if port.number == 0 {
        if !egress.bind.starts_with("unix://") {
            check.error(format!("{path}.port.number"), "port 0 needs a socket in bind", "use a port from 1 to 65535");
        }
    } else {
        check.port(&format!("{path}.port.number"), port.number);
    }
    if Protocol::parse(&port.protocol).is_none() {
        check.error(format!("{path}.port.protocol"), format!("\"{}\" is no protocol", port.protocol), "use HTTP, HTTPS, HTTP2, GRPC, TCP or TLS");
    }
    let same = |other: &&IstioEgressListener| other.bind == egress.bind && other.port.as_ref().is_some_and(|theirs| theirs.number == port.number);
    if spec.egress.iter().take(i).any(|other| same(&other)) {
        check.error(format!("{path}.port.number"), format!("port {} is used twice", port.number), "merge the two listeners");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn egress_hosts_need_a_namespace() {
        let object = json!({"metadata": {"name": "a", "namespace": "default"}, "spec": {"egress": [{"hosts": ["./*", "reviews"]}]}});
        let found = (crate::find("networking.istio.io/v1", "Sidecar").unwrap().check)(&object);
        assert_eq!(found[0].path, "spec.egress[0].hosts[1]");
    }
}
