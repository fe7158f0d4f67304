//! Gateway: ports and hosts at which the mesh is entered.
//!
//! - Reads: `networking.istio.io` Gateway.
//! - Twin: `compile/src/listener/gateway.rs`.
//! - Rule: a host may carry the namespace whose VirtualServices may use it: `prod/*.example.com`.

pub mod server_tls;

use lateen_base::{Code, Finding, Findings};
use lateen_istio_api::{Gateway, Server};
use lateen_mesh::{Object, Protocol, Snapshot, selects};

use crate::check::{Check, is_dns_label};
use crate::kind::{Gvk, Kind};

/// The kind.
pub enum GatewayKind {}

impl Kind for GatewayKind {
    const GVK: Gvk = Gvk { group: "networking.istio.io", version: "v1", also: &["v1beta1", "v1alpha3"], kind: "Gateway", plural: "gateways" };
    type Spec = Gateway;

    fn objects(mesh: &Snapshot) -> &[Object<Gateway>] {
        &mesh.gateways
    }

    fn validate(object: &Object<Gateway>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let servers = &object.spec.servers;
        if servers.is_empty() {
            check.error("spec.servers", "the Gateway has no servers", "add a server with a port and hosts");
        }
        for (i, server) in servers.iter().enumerate() {
            validate_server(server, &format!("spec.servers[{i}]"), &mut check);
            validate_names(servers, i, &mut check);
        }
        check.labels("spec.selector", &object.spec.selector);
    }

    fn analyze(object: &Object<Gateway>, mesh: &Snapshot, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let selector = &object.spec.selector;
        if !selector.is_empty() && !mesh.workloads().iter().any(|workload| selects(selector, &workload.labels)) {
            let labels: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let message = format!("Referenced selector not found: \"{}\"", labels.join(","));
            let remedy = "use istio: ingressgateway for the gateway that comes with the mesh";
            check.add(Finding::new(Code::ReferencedResourceNotFound, message).with_path("spec.selector").with_remedy(remedy));
        }
        for (i, server) in object.spec.servers.iter().enumerate() {
            server_tls::analyze(object, server, &format!("spec.servers[{i}].tls"), mesh, &mut check);
        }
        check_conflicts(object, mesh, &mut check);
    }
}

fn validate_server(server: &Server, path: &str, check: &mut Check<'_>) {
    match &server.port {
        None => check.error(path, "the server has no port", "add port with number, protocol and name"),
        Some(port) => {
            match (server.bind.starts_with("unix://"), port.number) {
                (true, 0) => {}
                (true, number) => check.error(format!("{path}.port.number"), format!("a socket has no port {number}"), "use 0"),
                (false, number) => check.port(&format!("{path}.port.number"), number),
            }
            if Protocol::parse(&port.protocol).is_none() {
                let message = format!("\"{}\" is no protocol", port.protocol);
                check.error(format!("{path}.port.protocol"), message, "use HTTP, HTTPS, HTTP2, GRPC, TCP or TLS");
            }
            if port.name.is_empty() {
                check.error(format!("{path}.port.name"), "the port has no name", "name it, such as http");
            }
            check.not_enforced_if(&format!("{path}.port"), &[("targetPort", port.target_port != 0)]);
            server_tls::validate(server, &port.protocol, path, check);
        }
    }
    if server.hosts.is_empty() {
        check.error(format!("{path}.hosts"), "the server has no hosts", "add hosts; \"*\" stands for all");
    }
    for (i, host) in server.hosts.iter().enumerate() {
        validate_host(host, &format!("{path}.hosts[{i}]"), check);
    }
    if !server.bind.is_empty() && server.bind.parse::<std::net::IpAddr>().is_err() && !server.bind.starts_with("unix://") {
        check.error(format!("{path}.bind"), format!("\"{}\" is no address", server.bind), "use an IP address");
    }
    check.not_enforced_if(path, &[("defaultEndpoint", !server.default_endpoint.is_empty())]);
}

/// `host` or `namespace/host`.
fn validate_host(host: &str, path: &str, check: &mut Check<'_>) {
    let Some((namespace, name)) = host.split_once('/') else { return check.wildcard_host(path, host) };
    if !matches!(namespace, "." | "*") && !is_dns_label(namespace) {
        check.error(path, format!("\"{namespace}\" is no namespace"), "use a namespace, \".\" or \"*\" before the slash");
    }
    check.wildcard_host(path, name);
}

/// Names of servers are unique; so are pairs of port and bind address with different protocols.
fn validate_names(servers: &[Server], i: usize, check: &mut Check<'_>) {
    let Some(server) = servers.get(i) else { return };
    let earlier = servers.get(..i).unwrap_or_default();
    if !server.name.is_empty() && earlier.iter().any(|other| other.name == server.name) {
        check.error(format!("spec.servers[{i}].name"), format!("server name \"{}\" is used twice", server.name), "rename one of them");
    }
    let Some(port) = &server.port else { return };
    for (other, theirs) in earlier.iter().filter_map(|other| Some((other, other.port.as_ref()?))) {
        if port.name == theirs.name && !port.name.is_empty() {
            check.error(format!("spec.servers[{i}].port.name"), format!("port name \"{}\" is used twice", port.name), "give each server's port a name of its own");
        }
        let clash = port.number == theirs.number && server.bind == other.bind && is_http(&port.protocol) != is_http(&theirs.protocol);
        if clash {
            let message = format!("port {} is {} here and {} in an earlier server", port.number, port.protocol, theirs.protocol);
            check.error(format!("spec.servers[{i}].port.number"), message, "use another port, or the same protocol");
        }
    }
}

fn is_http(protocol: &str) -> bool {
    matches!(protocol.to_ascii_uppercase().as_str(), "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB")
}

/// Whether some workload carries both, or will: one selector holds the other, or a workload has all labels of both.
fn share_workload(one: &Gateway, other: &Gateway, mesh: &Snapshot) -> bool {
    selects(&one.selector, &other.selector)
        || selects(&other.selector, &one.selector)
        || mesh.workloads().iter().any(|workload| selects(&one.selector, &workload.labels) && selects(&other.selector, &workload.labels))
}

/// Two Gateways that take one port and host of one workload.
fn check_conflicts(object: &Object<Gateway>, mesh: &Snapshot, check: &mut Check<'_>) {
    for (i, server) in object.spec.servers.iter().enumerate() {
        let Some(port) = &server.port else { continue };
        let rivals = mesh.gateways.iter().filter(|other| other.meta.full_name() != object.meta.full_name() && share_workload(&other.spec, &object.spec, mesh));
        let clash = rivals.flat_map(|other| other.spec.servers.iter().map(move |server| (other, server))).find(|(_, other)| {
            let same_port = other.port.as_ref().is_some_and(|theirs| theirs.number == port.number) && other.bind == server.bind;
            same_port && other.hosts.iter().any(|host| server.hosts.contains(host))
        });
        if let Some((other, _)) = clash {
            let labels: Vec<String> = object.spec.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let message = format!(
                "Conflict with gateways {} (workload selector {}, port {}, hosts {}).",
                other.meta.full_name(),
                labels.join(","),
                port.number,
                server.hosts.join(",")
            );
            check.add(Finding::new(Code::ConflictingGateways, message).with_path(format!("spec.servers[{i}]")).with_remedy("give them different ports or hosts, or merge them"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors(spec: serde_json::Value) -> Vec<String> {
        let object = json!({"metadata": {"name": "gw", "namespace": "default"}, "spec": spec});
        let found = (crate::find("networking.istio.io/v1", "Gateway").unwrap().check)(&object);
        found.into_iter().filter(Finding::is_error).map(|finding| finding.path).collect()
    }

    #[test]
    fn an_ordinary_gateway_is_accepted() {
        let spec = json!({"selector": {"istio": "ingressgateway"}, "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]});
        assert_eq!(errors(spec), Vec::<String>::new());
    }

    #[test]
    fn servers_and_hosts_are_needed() {
        assert_eq!(errors(json!({})), ["spec.servers"]);
        assert_eq!(errors(json!({"servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}}]})), ["spec.servers[0].hosts"]);
    }

    #[test]
    fn one_port_speaks_one_protocol() {
        let server = |name: &str, protocol: &str| json!({"port": {"number": 80, "name": name, "protocol": protocol}, "hosts": ["*"]});
        assert_eq!(errors(json!({"servers": [server("a", "HTTP"), server("b", "TCP")]})), ["spec.servers[1].port.number"]);
    }

    #[test]
    fn https_needs_tls() {
        let spec = json!({"servers": [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["a.com"]}]});
        assert_eq!(errors(spec), ["spec.servers[0].tls"]);
    }
}
