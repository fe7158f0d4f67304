//! ServiceEntry: hosts outside the cluster, or workloads that Kubernetes does not know, made callable by name.
//!
//! - Reads: `networking.istio.io` ServiceEntry.
//! - Twin: `mesh/src/service_entry.rs`, which makes services of it.
//! - Rule: `resolution` decides what the other fields may be: NONE takes no endpoints, STATIC needs addresses, DNS takes names.

use lateen_base::Findings;
use lateen_istio_api::{Location, Resolution, ServiceEntry};
use lateen_mesh::{Object, Protocol, Snapshot};

use crate::check::{Check, is_ip_or_cidr};
use crate::kind::{Gvk, Kind};

/// The kind.
pub enum ServiceEntryKind {}

impl Kind for ServiceEntryKind {
    const GVK: Gvk = Gvk { group: "networking.istio.io", version: "v1", also: &["v1beta1", "v1alpha3"], kind: "ServiceEntry", plural: "serviceentries" };
    type Spec = ServiceEntry;

    fn objects(mesh: &Snapshot) -> &[Object<ServiceEntry>] {
        &mesh.service_entries
    }

    fn validate(object: &Object<ServiceEntry>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let spec = &object.spec;
        validate_hosts(spec, &mut check);
        validate_ports(spec, &mut check);
        validate_endpoints(spec, &mut check);
        if spec.resolution == Resolution::DynamicDns {
            validate_dynamic_dns(spec, &mut check);
            check.not_enforced("spec.resolution");
        }
        check.export_to(&spec.export_to);
    }

    fn analyze(_: &Object<ServiceEntry>, _: &Snapshot, _: &mut Findings) {}
}

fn validate_hosts(spec: &ServiceEntry, check: &mut Check<'_>) {
    if spec.hosts.is_empty() {
        check.error("spec.hosts", "the ServiceEntry has no hosts", "add the name that clients call");
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        let path = format!("spec.hosts[{i}]");
        if host == "*" {
            check.error(path, "\"*\" is too wide", "name a domain, such as *.example.com");
            continue;
        }
        check.wildcard_host(&path, host);
        let by_name = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        if host.starts_with('*') && by_name && spec.endpoints.is_empty() {
            check.error(path, format!("wildcard \"{host}\" cannot be looked up in DNS"), "use resolution: NONE, or list endpoints");
        }
    }
    for (i, address) in spec.addresses.iter().enumerate() {
        if !is_ip_or_cidr(address) {
            check.error(format!("spec.addresses[{i}]"), format!("\"{address}\" is no address or block"), "use a form such as 240.0.0.1 or 10.1.0.0/16");
        }
    }
}

/// Hosts that are looked up when they are first called.
fn validate_dynamic_dns(spec: &ServiceEntry, check: &mut Check<'_>) {
    if spec.hosts.iter().any(|host| !host.starts_with('*')) {
        check.error("spec.hosts", "resolution DYNAMIC_DNS is for wildcard hosts", "use a host such as *.example.com, or resolution: DNS");
    }
    if !spec.endpoints.is_empty() || spec.workload_selector.is_some() {
        check.error("spec.endpoints", "resolution DYNAMIC_DNS takes no endpoints", "remove them, or use resolution: DNS");
    }
    if !spec.addresses.is_empty() {
        check.error("spec.addresses", "resolution DYNAMIC_DNS takes no addresses", "remove them");
    }
    if spec.location == Location::MeshInternal {
        check.error("spec.location", "resolution DYNAMIC_DNS is for hosts outside the mesh", "use location: MESH_EXTERNAL");
    }
    for (i, port) in spec.ports.iter().enumerate() {
        if !matches!(port.protocol.to_ascii_uppercase().as_str(), "HTTP" | "HTTP2" | "GRPC" | "TLS") {
            check.error(format!("spec.ports[{i}].protocol"), format!("\"{}\" names no host to look up", port.protocol), "use HTTP, HTTP2, GRPC or TLS");
        }
    }
}

fn validate_ports(spec: &ServiceEntry, check: &mut Check<'_>) {
    if spec.ports.is_empty() {
        check.warn("spec.ports", "the ServiceEntry has no ports, so nothing can be called", "add ports with number, name and protocol");
    }
    for (i, port) in spec.ports.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
        check.port(&format!("{path}.number"), port.number);
        if port.target_port != 0 {
            check.port(&format!("{path}.targetPort"), port.target_port);
        }
        if port.name.is_empty() {
            check.error(format!("{path}.name"), "the port has no name", "name it, such as https");
        }
        if !port.protocol.is_empty() && Protocol::parse(&port.protocol).is_none() {
            let message = format!("\"{}\" is no protocol", port.protocol);
            check.error(format!("{path}.protocol"), message, "use HTTP, HTTPS, HTTP2, GRPC, MONGO, TCP or TLS");
        }
        for earlier in spec.ports.iter().take(i) {
            if earlier.number == port.number {
                check.error(format!("{path}.number"), format!("port {} is listed twice", port.number), "list it once");
            }
            if earlier.name == port.name && !port.name.is_empty() {
                check.error(format!("{path}.name"), format!("port name \"{}\" is used twice", port.name), "rename one of them");
            }
        }
    }
}

fn validate_endpoints(spec: &ServiceEntry, check: &mut Check<'_>) {
    if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
        check.error("spec.endpoints", "workloadSelector and endpoints are both set", "keep one of them");
    }
    if spec.resolution == Resolution::None && !spec.endpoints.is_empty() {
        check.error("spec.endpoints", "resolution NONE takes no endpoints", "use resolution: STATIC or DNS, or remove the endpoints");
    }
    if spec.resolution == Resolution::DnsRoundRobin && spec.endpoints.len() > 1 {
        check.error("spec.endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint at most", "use resolution: DNS");
    }
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        let path = format!("spec.endpoints[{i}]");
        if endpoint.address.starts_with("unix://") && (spec.resolution != Resolution::Static || spec.ports.len() != 1) {
            check.error(format!("{path}.address"), "a socket needs resolution STATIC and exactly one port", "use an IP address or a host name");
        }
        crate::workload_entry::validate_entry(endpoint, &path, check);
        let is_address = is_ip_or_cidr(&endpoint.address) || endpoint.address.starts_with("unix://");
        if spec.resolution == Resolution::Static && !is_address && !endpoint.address.is_empty() {
            check.error(format!("{path}.address"), format!("\"{}\" is no address, as resolution STATIC needs", endpoint.address), "use an IP address, or resolution: DNS");
        }
        for name in endpoint.ports.keys() {
            if !spec.ports.iter().any(|port| port.name == *name) {
                check.error(format!("{path}.ports.{name}"), format!("no port is named \"{name}\""), "use a name from spec.ports");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lateen_base::Finding;
    use serde_json::json;

    fn errors(spec: serde_json::Value) -> Vec<String> {
        let object = json!({"metadata": {"name": "a", "namespace": "default"}, "spec": spec});
        let found = (crate::find("networking.istio.io/v1", "ServiceEntry").unwrap().check)(&object);
        found.into_iter().filter(Finding::is_error).map(|finding| finding.path).collect()
    }

    #[test]
    fn an_outside_host_is_accepted() {
        let spec = json!({"hosts": ["httpbin.org"], "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}], "resolution": "DNS"});
        assert_eq!(errors(spec), Vec::<String>::new());
    }

    #[test]
    fn static_endpoints_are_addresses() {
        let spec = json!({"hosts": ["a.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "STATIC", "endpoints": [{"address": "b.com"}]});
        assert_eq!(errors(spec), ["spec.endpoints[0].address"]);
    }
}
