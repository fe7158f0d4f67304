//! Services: names, ports and the pods behind them.
//!
//! - Reads: `v1` Service.
//! - Twin: `mesh/src/kubernetes.rs`, which makes mesh services of them.
//! - Rule: an unnamed port is sniffed (IST0118); a targetPort that no container declares is the commonest reason for a 503.

use lateen_base::{Code, Finding, Findings};
use lateen_kube_api::{self as kube, IntOrString};
use lateen_mesh::{Object, Snapshot, selects};

use crate::check::{Check, is_dns_label};
use crate::kind::{Body, Gvk, Kind};

/// Kind Service.
pub enum ServiceKind {}

/// Protocols that a port name or `appProtocol` may start with. Source: Istio "Protocol Selection".
const PROTOCOLS: [&str; 14] =
    ["http", "http2", "https", "tcp", "tls", "grpc", "grpc-web", "mongo", "mysql", "redis", "udp", "http-web", "kubernetes.io/h2c", "kubernetes.io/ws"];

impl Kind for ServiceKind {
    const GVK: Gvk = super::core("Service", "services");
    const BODY: Body = Body::Whole;
    type Spec = kube::Service;

    fn objects(mesh: &Snapshot) -> &[Object<kube::Service>] {
        &mesh.kube_services
    }

    fn validate(object: &Object<kube::Service>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let spec = &object.spec.spec;
        if !is_dns_label(&object.meta.name) {
            check.error("metadata.name", format!("\"{}\" is no Service name", object.meta.name), "use lower-case letters, digits and \"-\"");
        }
        let headless_or_external = spec.cluster_ip == "None" || spec.r#type == "ExternalName";
        if spec.ports.is_empty() && !headless_or_external {
            check.error("spec.ports", "the Service has no ports", "add a port");
        }
        if !matches!(spec.r#type.as_str(), "" | "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
            check.error("spec.type", format!("\"{}\" is no Service type", spec.r#type), "use ClusterIP, NodePort, LoadBalancer or ExternalName");
        }
        for (i, port) in spec.ports.iter().enumerate() {
            validate_port(port, spec, i, &mut check);
        }
        check.labels("spec.selector", &spec.selector);
    }

    fn analyze(object: &Object<kube::Service>, mesh: &Snapshot, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        for (i, port) in object.spec.spec.ports.iter().enumerate() {
            check_name(object, port, i, &mut check);
            check_target(object, port, i, mesh, &mut check);
        }
    }
}

fn validate_port(port: &kube::ServicePort, spec: &kube::ServiceSpec, i: usize, check: &mut Check<'_>) {
    let path = format!("spec.ports[{i}]");
    check.port(&format!("{path}.port"), u32::from(port.port));
    if let Some(IntOrString::Int(number)) = port.target_port {
        check.port(&format!("{path}.targetPort"), u32::try_from(number).unwrap_or(u32::MAX));
    }
    if !matches!(port.protocol.as_str(), "" | "TCP" | "UDP" | "SCTP") {
        check.error(format!("{path}.protocol"), format!("\"{}\" is no protocol", port.protocol), "use TCP or UDP");
    }
    if spec.ports.len() > 1 && port.name.is_empty() {
        check.error(format!("{path}.name"), "a Service with several ports must name them", "name it, such as http");
    }
    let earlier = spec.ports.get(..i).unwrap_or_default();
    let transport = |port: &kube::ServicePort| if port.protocol.is_empty() { "TCP".to_owned() } else { port.protocol.clone() };
    if earlier.iter().any(|other| other.port == port.port && transport(other) == transport(port)) {
        check.error(format!("{path}.port"), format!("port {} is listed twice", port.port), "list it once");
    }
    if !port.name.is_empty() && earlier.iter().any(|other| other.name == port.name) {
        check.error(format!("{path}.name"), format!("port name \"{}\" is used twice", port.name), "rename one of them");
    }
}

fn check_name(object: &Object<kube::Service>, port: &kube::ServicePort, i: usize, check: &mut Check<'_>) {
    let known = |name: &str| PROTOCOLS.iter().any(|protocol| name == *protocol || name.strip_prefix(protocol).is_some_and(|rest| rest.starts_with('-')));
    if port.protocol == "UDP" || known(&port.name.to_ascii_lowercase()) || port.app_protocol.as_deref().is_some_and(|protocol| known(&protocol.to_ascii_lowercase())) {
        return;
    }
    let target = port.target_port.as_ref().map_or_else(|| port.port.to_string(), ToString::to_string);
    let message = format!("Port name {} (port: {}, targetPort: {target}) doesn't follow the naming convention of Istio port.", port.name, port.port);
    let remedy = format!("name it http, grpc, tcp or <protocol>-<suffix>; until then the protocol of {} is guessed from the first bytes", object.meta.name);
    check.add(Finding::new(Code::PortNameIsNotUnderNamingConvention, message).with_path(format!("spec.ports[{i}]")).with_remedy(remedy));
}

/// A target that no container of the selected pods declares. Sure for names, probable for numbers, since declaring them is optional.
fn check_target(object: &Object<kube::Service>, port: &kube::ServicePort, i: usize, mesh: &Snapshot, check: &mut Check<'_>) {
    let selector = &object.spec.spec.selector;
    if selector.is_empty() {
        return;
    }
    let own_namespace = |namespace: &str| namespace == object.meta.namespace;
    let templates = mesh.deployments.iter().filter(|object| own_namespace(&object.meta.namespace)).map(|object| (&object.spec.spec.template.metadata.labels, &object.spec.spec.template.spec));
    let pods = mesh.pods.iter().filter(|object| own_namespace(&object.meta.namespace)).map(|object| (&object.meta.labels, &object.spec.spec));
    let selected: Vec<_> = templates.chain(pods).filter(|(labels, _)| selects(selector, labels)).map(|(_, spec)| spec).collect();
    let declared: Vec<&kube::ContainerPort> = selected.iter().flat_map(|spec| &spec.containers).flat_map(|container| &container.ports).collect();
    let by_number = IntOrString::Int(i64::from(port.port));
    let target = port.target_port.as_ref().unwrap_or(&by_number);
    let found = declared.iter().any(|declared| match target {
        IntOrString::Int(number) => i64::from(declared.container_port) == *number,
        IntOrString::String(name) => declared.name == *name,
    });
    // Pods that declare no port at all may listen anywhere; then only a name is surely wrong.
    if found || selected.is_empty() || declared.is_empty() && matches!(target, IntOrString::Int(_)) {
        return;
    }
    let mut ports: Vec<String> = declared.iter().map(|port| port.container_port.to_string()).collect();
    ports.dedup();
    let said = if port.target_port.is_some() { "targetPort" } else { "port (there is no targetPort)" };
    let message = format!("{said} {target} is declared by no container of the pods that {} selects; they declare {}", object.meta.name, ports.join(", "));
    let remedy = match ports.first() {
        Some(port) => format!("set targetPort: {port}; until then connections to the Service are refused"),
        None => "name a container port so".to_owned(),
    };
    check.add(Finding::new(Code::TargetPortNotDeclared, message).with_path(format!("spec.ports[{i}]")).with_remedy(remedy));
}
