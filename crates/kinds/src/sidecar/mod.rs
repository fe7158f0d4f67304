//! Sidecar: what of the mesh one workload's proxy is told about.
//!
//! - Reads: `networking.istio.io` Sidecar.
//! - Twin: `compile/src/view.rs`, which applies it.
//! - Rule: `egress[].hosts` entries are `namespace/host`, where the namespace may be `.`, `*` or `~` and the host a wildcard.
//! - Limits: `ingress` and listeners of `egress` with their own port are not enforced yet.

use lateen_base::{Code, Finding, Findings};
use lateen_istio_api::Sidecar;
use lateen_mesh::{Object, Snapshot};

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
            check.not_enforced_if(&path, &[("port", egress.port.is_some()), ("bind", !egress.bind.is_empty())]);
        }
        validate_ingress(spec, &mut check);
        check.not_enforced_if("spec", &[("inboundConnectionPool", spec.inbound_connection_pool.is_some())]);
        if let Some(policy) = &spec.outbound_traffic_policy {
            check.not_enforced_if("spec.outboundTrafficPolicy", &[("egressProxy", policy.egress_proxy.is_some())]);
        }
    }

    fn analyze(object: &Object<Sidecar>, mesh: &Snapshot, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let rivals: Vec<String> = mesh
            .sidecars
            .iter()
            .filter(|other| other.meta.namespace == object.meta.namespace && selector(other) == selector(object))
            .map(|other| other.meta.name.clone())
            .collect();
        if rivals.len() > 1 {
            let message = format!("The Sidecars {} in namespace \"{}\" select the same workloads", rivals.join(","), object.meta.namespace);
            let remedy = "give each a workloadSelector of its own, or merge them; until then the oldest is used";
            check.add(Finding::new(Code::ConflictingSidecarWorkloadSelectors, message).with_path("spec.workloadSelector").with_remedy(remedy));
        }
    }
}

fn selector(object: &Object<Sidecar>) -> Option<&std::collections::BTreeMap<String, String>> {
    object.spec.workload_selector.as_ref().map(|selector| &selector.labels).filter(|labels| !labels.is_empty())
}

fn validate_host(host: &str, path: &str, check: &mut Check<'_>) {
    let Some((namespace, name)) = host.split_once('/') else {
        return check.error(path, format!("\"{host}\" has no namespace"), format!("write ./{host} for this namespace, or */{host} for all"));
    };
    if !matches!(namespace, "." | "*" | "~") && !is_dns_label(namespace) {
        check.error(path, format!("\"{namespace}\" is no namespace"), "use a namespace, \".\", \"*\" or \"~\" before the slash");
    }
    check.wildcard_host(path, name);
}

fn validate_ingress(spec: &Sidecar, check: &mut Check<'_>) {
    for (i, ingress) in spec.ingress.iter().enumerate() {
        let path = format!("spec.ingress[{i}]");
        match &ingress.port {
            Some(port) => check.port(&format!("{path}.port.number"), port.number),
            None => check.error(&path, "the ingress listener has no port", "add port with number, protocol and name"),
        }
        check.not_enforced(&path);
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
