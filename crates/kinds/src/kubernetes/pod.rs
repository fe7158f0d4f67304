//! Pods and pod templates: containers, their ports and volumes.
//!
//! - Reads: `v1` Pod.
//! - Twin: `local/`, which runs them.

use lateen_base::{Code, Finding, Findings, annotations, labels, names};
use lateen_kube_api as kube;
use lateen_mesh::{Object, Snapshot};

use crate::check::{Check, is_dns_label};
use crate::kind::{Body, Gvk, Kind};

/// Kind Pod.
pub enum PodKind {}

impl Kind for PodKind {
    const GVK: Gvk = super::core("Pod", "pods");
    const BODY: Body = Body::Whole;
    type Spec = kube::Pod;

    fn objects(mesh: &Snapshot) -> &[Object<kube::Pod>] {
        &mesh.pods
    }

    fn validate(object: &Object<kube::Pod>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        check.labels("metadata.labels", &object.meta.labels);
        validate_spec(&object.spec.spec, "spec", &mut check);
    }

    fn analyze(object: &Object<kube::Pod>, mesh: &Snapshot, findings: &mut Findings) {
        let enabled = mesh.namespace(&object.meta.namespace).is_some_and(|namespace| namespace.meta.labels.get(labels::INJECTION).is_some_and(|value| value == "enabled"));
        let refused = [&object.meta.labels, &object.meta.annotations].iter().any(|map| map.get(labels::INJECT).is_some_and(|value| value == "false"));
        let spec = &object.spec.spec;
        let has_proxy = object.meta.annotations.contains_key(annotations::STATUS)
            || spec.containers.iter().chain(&spec.init_containers).any(|container| container.name == names::PROXY_CONTAINER);
        if enabled && !refused && !spec.host_network.unwrap_or(false) && !has_proxy {
            let message = format!("The pod {} is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload.", object.meta.full_name());
            Check::new(&object.meta, findings).add(Finding::new(Code::PodMissingProxy, message).with_remedy("delete the pod, so that it is made anew with a sidecar"));
        }
    }
}

/// Checks a pod's spec at `path`.
pub fn validate_spec(spec: &kube::PodSpec, path: &str, check: &mut Check<'_>) {
    if spec.containers.is_empty() {
        check.error(format!("{path}.containers"), "the pod has no containers", "add a container with a name and an image");
    }
    let all = spec.containers.iter().map(|container| ("containers", container)).chain(spec.init_containers.iter().map(|container| ("initContainers", container)));
    let mut seen: Vec<&str> = Vec::new();
    for (n, (field, container)) in all.enumerate() {
        let i = if field == "containers" { n } else { n - spec.containers.len() };
        let path = format!("{path}.{field}[{i}]");
        if container.name.is_empty() || !is_dns_label(&container.name) {
            check.error(format!("{path}.name"), format!("\"{}\" is no container name", container.name), "use lower-case letters, digits and \"-\"");
        } else if seen.contains(&container.name.as_str()) {
            check.error(format!("{path}.name"), format!("container name \"{}\" is used twice", container.name), "rename one of them");
        }
        seen.push(&container.name);
        validate_container(container, spec, &path, check);
    }
    if let Some(policy) = Some(spec.restart_policy.as_str()).filter(|policy| !matches!(*policy, "" | "Always" | "OnFailure" | "Never")) {
        check.error(format!("{path}.restartPolicy"), format!("\"{policy}\" is no restart policy"), "use Always, OnFailure or Never");
    }
}

fn validate_container(container: &kube::Container, spec: &kube::PodSpec, path: &str, check: &mut Check<'_>) {
    if container.image.is_empty() && container.command.is_empty() {
        check.error(format!("{path}.image"), "the container has neither image nor command", "add an image, or a command that this machine has");
    }
    for (i, port) in container.ports.iter().enumerate() {
        check.port(&format!("{path}.ports[{i}].containerPort"), u32::from(port.container_port));
    }
    for (i, mount) in container.volume_mounts.iter().enumerate() {
        if !spec.volumes.iter().any(|volume| volume.name == mount.name) {
            check.error(format!("{path}.volumeMounts[{i}].name"), format!("there is no volume \"{}\"", mount.name), "add it to the pod's volumes");
        }
    }
    for (i, variable) in container.env.iter().enumerate() {
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            check.error(format!("{path}.env[{i}].name"), format!("\"{}\" is no variable name", variable.name), "use letters, digits and \"_\"");
        }
    }
    for (field, probe) in [("readinessProbe", &container.readiness_probe), ("livenessProbe", &container.liveness_probe), ("startupProbe", &container.startup_probe)] {
        let Some(probe) = probe else { continue };
        let kinds = [probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.exec.is_some(), probe.grpc.is_some()];
        if kinds.iter().filter(|set| **set).count() != 1 {
            check.error(format!("{path}.{field}"), "a probe does one thing", "keep one of httpGet, tcpSocket, exec and grpc");
        }
    }
}
