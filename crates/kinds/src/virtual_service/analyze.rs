//! Analysis of VirtualServices among all other objects.
//!
//! - Reads: a snapshot: services, DestinationRules, Gateways, other VirtualServices.
//! - Rule: messages are worded as `istioctl analyze` words them.

use lateen_base::{Code, Finding, Findings, Host, names};
use lateen_istio_api::{Destination, VirtualService};
use lateen_mesh::{Object, Snapshot};

use crate::check::Check;
use crate::destination_rule::subset;

/// Looks at `object` among all others.
pub fn analyze(object: &Object<VirtualService>, mesh: &Snapshot, findings: &mut Findings) {
    let mut check = Check::new(&object.meta, findings);
    for (path, destination) in destinations(&object.spec) {
        check_destination(object, destination, &path, mesh, &mut check);
    }
    check_gateways(object, mesh, &mut check);
    check_conflicts(object, mesh, &mut check);
}

/// Every destination a VirtualService names, with its path.
fn destinations(spec: &VirtualService) -> Vec<(String, &Destination)> {
    let mut all = Vec::new();
    for (i, rule) in spec.http.iter().enumerate() {
        for (j, route) in rule.route.iter().enumerate() {
            all.extend(route.destination.as_ref().map(|destination| (format!("spec.http[{i}].route[{j}].destination"), destination)));
        }
        all.extend(rule.mirror.as_ref().map(|destination| (format!("spec.http[{i}].mirror"), destination)));
        for (j, mirror) in rule.mirrors.iter().enumerate() {
            all.extend(mirror.destination.as_ref().map(|destination| (format!("spec.http[{i}].mirrors[{j}].destination"), destination)));
        }
    }
    for (field, routes) in spec.tls.iter().map(|rule| &rule.route).enumerate().map(|(i, routes)| (format!("spec.tls[{i}]"), routes)).chain(spec.tcp.iter().map(|rule| &rule.route).enumerate().map(|(i, routes)| (format!("spec.tcp[{i}]"), routes))) {
        for (j, route) in routes.iter().enumerate() {
            all.extend(route.destination.as_ref().map(|destination| (format!("{field}.route[{j}].destination"), destination)));
        }
    }
    all
}

fn check_destination(object: &Object<VirtualService>, destination: &Destination, path: &str, mesh: &Snapshot, check: &mut Check<'_>) {
    let namespace = &object.meta.namespace;
    let host = Host::resolve(&destination.host, namespace, &mesh.mesh_config.cluster_domain);
    let known = mesh.service(&host, namespace).or_else(|| mesh.services().iter().find(|service| service.hostname.covers(&host)));
    let Some(service) = known else {
        let message = format!("Referenced host not found: \"{}\"", destination.host);
        let remedy = "create a Service or ServiceEntry of that name, or correct the host";
        check.add(Finding::new(Code::ReferencedResourceNotFound, message).with_path(format!("{path}.host")).with_remedy(remedy));
        return;
    };
    if !destination.subset.is_empty() {
        let defined = mesh.destination_rules.iter().any(|rule| {
            let rule_host = Host::resolve(&rule.spec.host, &rule.meta.namespace, &mesh.mesh_config.cluster_domain);
            rule_host.covers(&host) && subset::find(&rule.spec, &destination.subset).is_some()
        });
        if !defined {
            let message = format!("Referenced host+subset in destinationrule not found: \"{}+{}\"", destination.host, destination.subset);
            let remedy = format!("add a DestinationRule for host {} with subset {}; until then requests to it get 503", destination.host, destination.subset);
            check.add(Finding::new(Code::ReferencedResourceNotFound, message).with_path(format!("{path}.subset")).with_remedy(remedy));
        }
    }
    match &destination.port {
        Some(port) if u16::try_from(port.number).ok().and_then(|number| service.port(number)).is_none() => {
            let message = format!("Referenced host:port not found: \"{}:{}\"", destination.host, port.number);
            let ports: Vec<String> = service.ports.iter().map(|port| port.number.to_string()).collect();
            let remedy = format!("use a port that the service has: {}", ports.join(", "));
            check.add(Finding::new(Code::ReferencedResourceNotFound, message).with_path(format!("{path}.port.number")).with_remedy(remedy));
        }
        None if service.ports.len() > 1 && !object.spec.tcp.is_empty() => {
            let message = format!("This VirtualService routes to a service \"{}\" that exposes multiple ports. Specifying a port in the destination is required to disambiguate.", destination.host);
            check.add(Finding::new(Code::VirtualServiceDestinationPortSelectorRequired, message).with_path(path).with_remedy("add port.number"));
        }
        _ => {}
    }
}

fn check_gateways(object: &Object<VirtualService>, mesh: &Snapshot, check: &mut Check<'_>) {
    for (i, name) in object.spec.gateways.iter().enumerate() {
        if name == names::MESH_GATEWAY {
            continue;
        }
        let full = lateen_mesh::gateway_name(name, &object.meta.namespace);
        if !mesh.gateways.iter().any(|gateway| gateway.meta.full_name() == full) {
            let message = format!("Referenced gateway not found: \"{name}\"");
            let remedy = format!("create Gateway {full}, or correct the name");
            check.add(Finding::new(Code::ReferencedResourceNotFound, message).with_path(format!("spec.gateways[{i}]")).with_remedy(remedy));
        }
    }
}

/// On sidecars the oldest VirtualService of a host wins whole; the others are never used.
fn check_conflicts(object: &Object<VirtualService>, mesh: &Snapshot, check: &mut Check<'_>) {
    for (i, host) in object.spec.hosts.iter().enumerate().filter(|_| is_mesh(&object.spec)) {
        let resolve = |host: &str, namespace: &str| Host::resolve(host, namespace, &mesh.mesh_config.cluster_domain);
        let own = resolve(host, &object.meta.namespace);
        let rivals: Vec<_> = mesh
            .virtual_services
            .iter()
            .filter(|other| is_mesh(&other.spec) && visible_together(object, other))
            .filter(|other| other.spec.hosts.iter().any(|host| resolve(host, &other.meta.namespace) == own))
            .collect();
        let (Some(oldest), true) = (rivals.first(), rivals.len() > 1) else { continue };
        let listed: Vec<String> = rivals.iter().map(|rival| rival.meta.full_name()).collect();
        let message = format!(
            "The VirtualServices {} associated with mesh gateway define the same host {} which can lead to undefined behavior. This can be fixed by merging the conflicting VirtualServices into a single resource.",
            listed.join(","),
            own
        );
        let remedy = format!("merge them; until then {} (the oldest) is used and the others are not", oldest.meta.full_name());
        check.add(Finding::new(Code::ConflictingMeshGatewayVirtualServiceHosts, message).with_path(format!("spec.hosts[{i}]")).with_remedy(remedy));
    }
}

fn is_mesh(spec: &VirtualService) -> bool {
    spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == names::MESH_GATEWAY)
}

fn visible_together(one: &Object<VirtualService>, other: &Object<VirtualService>) -> bool {
    let private = |object: &Object<VirtualService>| object.spec.export_to == ["."];
    one.meta.namespace == other.meta.namespace || !private(one) && !private(other)
}
