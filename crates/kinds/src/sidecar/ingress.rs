//! Ingress listeners of a Sidecar: ports of the workload that are described by hand.
//!
//! - Reads: `Sidecar.ingress[]`.
//! - Twin: `compile/src/cluster/inbound.rs`, which follows `defaultEndpoint`.
//! - Limits: `tls`, `bind` and `captureMode` are not enforced yet, which a finding says.

use lateen_istio_api::{CaptureMode, IstioIngressListener, ServerTLSMode, ServerTLSSettings, Sidecar};

use crate::check::Check;

/// Checks the listeners.
pub fn validate(spec: &Sidecar, check: &mut Check<'_>) {
    for (i, ingress) in spec.ingress.iter().enumerate() {
        let path = format!("spec.ingress[{i}]");
        match &ingress.port {
            Some(port) => check.port(&format!("{path}.port.number"), port.number),
            None => check.error(&path, "the ingress listener has no port", "add port with number, protocol and name"),
        }
        let number = |listener: &IstioIngressListener| listener.port.as_ref().map(|port| port.number);
        if spec.ingress.iter().take(i).any(|other| number(other) == number(ingress)) {
            check.error(format!("{path}.port.number"), "the port is used twice", "merge the two listeners");
        }
        validate_endpoint(&ingress.default_endpoint, &format!("{path}.defaultEndpoint"), check);
        if let Some(tls) = &ingress.tls {
            let protocol = ingress.port.as_ref().map(|port| port.protocol.as_str()).unwrap_or_default();
            validate_tls(tls, protocol, &format!("{path}.tls"), check);
        }
        if let Some(pool) = &ingress.connection_pool {
            crate::destination_rule::connection_pool::validate(pool, &format!("{path}.connectionPool"), check);
        }
        let fields = [("tls", ingress.tls.is_some()), ("bind", !ingress.bind.is_empty()), ("captureMode", ingress.capture_mode != CaptureMode::Default)];
        check.not_enforced_if(&path, &fields);
    }
    if let Some(pool) = &spec.inbound_connection_pool {
        crate::destination_rule::connection_pool::validate(pool, "spec.inboundConnectionPool", check);
    }
}

/// `127.0.0.1:PORT`, `0.0.0.0:PORT`, their IPv6 forms, or a socket; empty keeps the destination.
fn validate_endpoint(endpoint: &str, path: &str, check: &mut Check<'_>) {
    let valid = match endpoint.strip_prefix("unix://") {
        Some(socket) => socket.len() > 1 && socket.starts_with(['/', '@']),
        None if endpoint.is_empty() => true,
        None => endpoint.rsplit_once(':').is_some_and(|(host, port)| {
            matches!(host, "127.0.0.1" | "0.0.0.0" | "[::1]" | "[::]") && port.parse::<u16>().is_ok_and(|port| port != 0)
        }),
    };
    if !valid {
        check.error(path, format!("\"{endpoint}\" is no endpoint of the workload"), "use 127.0.0.1:PORT, 0.0.0.0:PORT or unix:///path");
    }
}

fn validate_tls(tls: &ServerTLSSettings, protocol: &str, path: &str, check: &mut Check<'_>) {
    if !matches!(protocol.to_ascii_uppercase().as_str(), "HTTPS" | "TLS") {
        check.error(path, format!("protocol {protocol} takes no tls"), "use protocol HTTPS or TLS");
    }
    if matches!(tls.mode, ServerTLSMode::IstioMutual | ServerTLSMode::AutoPassthrough) {
        check.error(format!("{path}.mode"), "the mode does not work on a sidecar", "use SIMPLE or MUTUAL");
    }
    let refused = [
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("subjectAltNames", !tls.subject_alt_names.is_empty() && tls.mode == ServerTLSMode::Simple),
    ];
    for (field, _) in refused.iter().filter(|(_, set)| *set) {
        check.error(format!("{path}.{field}"), format!("{field} does not work on a sidecar"), "remove it; name files with serverCertificate and privateKey");
    }
    if matches!(tls.mode, ServerTLSMode::Simple | ServerTLSMode::Mutual) {
        for (field, file) in [("serverCertificate", &tls.server_certificate), ("privateKey", &tls.private_key)] {
            if file.is_empty() {
                check.error(format!("{path}.{field}"), format!("the mode needs {field}"), "name the file");
            }
        }
    }
}
