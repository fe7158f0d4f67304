//! Server TLS of a Gateway: which certificate it shows and whether clients must show one.
//!
//! - Reads: `Gateway.servers[].tls`.
//! - Twin: `compile/src/listener/gateway.rs`, `proxy/src/transport/tls.rs`.
//! - Rule: a certificate comes from a Secret (`credentialName`) or from files, never from both; PASSTHROUGH has none.

use lateen_base::{Code, Finding};
use lateen_istio_api::{Gateway, Server, ServerTLSMode, ServerTLSSettings};
use lateen_mesh::{Object, Snapshot};

use crate::check::Check;

/// Most certificates of one server: one of each key type.
const CERTIFICATES_MAX: usize = 2;

/// Checks the TLS part of the server at `path`.
pub fn validate(server: &Server, protocol: &str, path: &str, check: &mut Check<'_>) {
    let secure = matches!(protocol.to_ascii_uppercase().as_str(), "HTTPS" | "TLS");
    let Some(tls) = &server.tls else {
        if secure {
            check.error(format!("{path}.tls"), format!("protocol {protocol} needs tls"), "add tls with mode and credentialName");
        }
        return;
    };
    let path = format!("{path}.tls");
    if !secure && !tls.https_redirect && tls.mode != ServerTLSMode::Passthrough {
        check.error(&path, format!("protocol {protocol} takes no tls besides httpsRedirect"), "use protocol HTTPS or TLS");
    }
    if secure && tls.https_redirect {
        check.warn(format!("{path}.httpsRedirect"), "httpsRedirect has no effect on a TLS server", "move it to the plain HTTP server");
    }
    if secure {
        validate_certificate(tls, &path, check);
    }
    validate_versions(tls, &path, check);
    let fields = [
        ("caCrl", !tls.ca_crl.is_empty()),
        ("verifyCertificateSpki", !tls.verify_certificate_spki.is_empty()),
        ("verifyCertificateHash", !tls.verify_certificate_hash.is_empty()),
        ("insecureSkipVerify", tls.insecure_skip_verify == Some(true)),
    ];
    check.not_enforced_if(&path, &fields);
}

fn validate_certificate(tls: &ServerTLSSettings, path: &str, check: &mut Check<'_>) {
    let origins = [
        !tls.credential_name.is_empty(),
        !tls.credential_names.is_empty(),
        !tls.server_certificate.is_empty() && !tls.private_key.is_empty(),
        !tls.tls_certificates.is_empty(),
    ];
    if origins.iter().filter(|set| **set).count() > 1 {
        check.error(path, "the certificate comes from several places", "keep one of credentialName, credentialNames, serverCertificate with privateKey, and tlsCertificates");
    }
    if tls.tls_certificates.len() > CERTIFICATES_MAX || tls.credential_names.len() > CERTIFICATES_MAX {
        check.error(path, "there are more than two certificates", "keep at most one RSA and one ECDSA certificate");
    }
    for (i, pair) in tls.tls_certificates.iter().enumerate() {
        for (field, file) in [("serverCertificate", &pair.server_certificate), ("privateKey", &pair.private_key)] {
            if file.is_empty() {
                check.error(format!("{path}.tlsCertificates[{i}].{field}"), format!("the certificate needs {field}"), "name the file");
            }
        }
    }
    let from_secret = !tls.credential_name.is_empty() || !tls.credential_names.is_empty() || !tls.tls_certificates.is_empty();
    let needs = |field: &str, value: &str, check: &mut Check<'_>| {
        if value.is_empty() {
            check.error(format!("{path}.{field}"), format!("the mode needs {field}"), "name the file, or use credentialName");
        }
    };
    match tls.mode {
        ServerTLSMode::Simple | ServerTLSMode::Mutual | ServerTLSMode::OptionalMutual if !from_secret => {
            needs("serverCertificate", &tls.server_certificate, check);
            needs("privateKey", &tls.private_key, check);
            if tls.mode == ServerTLSMode::Mutual {
                needs("caCertificates", &tls.ca_certificates, check);
            }
        }
        ServerTLSMode::IstioMutual if from_secret || !tls.server_certificate.is_empty() || !tls.private_key.is_empty() => {
            check.error(path, "mode ISTIO_MUTUAL uses the mesh's certificate", "remove the certificate fields, or use MUTUAL");
        }
        ServerTLSMode::Passthrough | ServerTLSMode::AutoPassthrough if from_secret || !tls.server_certificate.is_empty() => {
            check.error(path, "a PASSTHROUGH server shows no certificate of its own", "remove the certificate fields, or use SIMPLE");
        }
        _ => {}
    }
}

fn validate_versions(tls: &ServerTLSSettings, path: &str, check: &mut Check<'_>) {
    let (min, max) = (tls.min_protocol_version as u8, tls.max_protocol_version as u8);
    if max != 0 && min > max {
        check.error(format!("{path}.minProtocolVersion"), "the minimum is above the maximum", "swap them, or remove one");
    }
    for (i, suite) in tls.cipher_suites.iter().enumerate() {
        if tls.cipher_suites.iter().take(i).any(|other| other == suite) {
            check.warn(format!("{path}.cipherSuites[{i}]"), format!("\"{suite}\" is listed twice"), "list it once");
        }
    }
}

/// Reports a credential that no Secret holds.
pub fn analyze(object: &Object<Gateway>, server: &Server, path: &str, mesh: &Snapshot, check: &mut Check<'_>) {
    let Some(tls) = server.tls.as_ref().filter(|tls| !tls.credential_name.is_empty()) else { return };
    let name = &tls.credential_name;
    // The gateway's own namespace holds its secrets, wherever the Gateway object lives.
    let namespaces = mesh.workloads().iter().filter(|workload| lateen_mesh::selects(&object.spec.selector, &workload.labels)).map(|workload| &workload.namespace);
    let found = namespaces.chain([&object.meta.namespace]).any(|namespace| mesh.secret(namespace, name).is_some());
    if !found {
        let message = format!("Referenced credentialName not found: \"{name}\"");
        let remedy = format!("create a Secret {name} of type kubernetes.io/tls in the namespace of the gateway's pods");
        check.add(Finding::new(Code::ReferencedResourceNotFound, message).with_path(format!("{path}.credentialName")).with_remedy(remedy));
    }
}
