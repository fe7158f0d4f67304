//! Client TLS: how connections to a destination are secured.
//!
//! - Reads: `trafficPolicy.tls`.
//! - Twin: `compile/src/listener/tls.rs` for the contexts; `proxy/src/transport/tls.rs`, which speaks them; `compile/src/cluster/tls.rs`.
//! - Rule: no `tls` at all means automatic mTLS: mutual TLS to workloads that have a sidecar, plain text to others. A written mode switches that off.
//! - Limits: certificates by file path or `credentialName`; revocation lists are not enforced.

use lateen_base::{Code, Finding};
use lateen_istio_api::{ClientTLSMode, ClientTLSSettings};

use crate::check::Check;

/// Checks the settings at `path`.
pub fn validate(tls: &ClientTLSSettings, path: &str, check: &mut Check<'_>) {
    let mode = tls.mode.unwrap_or_default();
    let files = [("clientCertificate", &tls.client_certificate), ("privateKey", &tls.private_key), ("caCertificates", &tls.ca_certificates)];
    if !tls.credential_name.is_empty() && files.iter().any(|(_, file)| !file.is_empty()) {
        check.error(path, "credentialName and certificate files are both set", "keep one of them");
    }
    if mode == ClientTLSMode::Mutual && tls.credential_name.is_empty() {
        for (field, file) in files.iter().take(2) {
            if file.is_empty() {
                check.error(format!("{path}.{field}"), format!("mode MUTUAL needs {field}"), "name the file, or use credentialName; for mesh certificates use ISTIO_MUTUAL");
            }
        }
    }
    if mode == ClientTLSMode::IstioMutual {
        for (field, file) in files {
            if !file.is_empty() {
                check.error(format!("{path}.{field}"), format!("mode ISTIO_MUTUAL takes no {field}"), "remove it, or use mode MUTUAL");
            }
        }
        if !tls.credential_name.is_empty() {
            check.error(format!("{path}.credentialName"), "mode ISTIO_MUTUAL takes no credentialName", "remove it, or use mode MUTUAL");
        }
    }
    let verifies = !tls.ca_certificates.is_empty() || !tls.subject_alt_names.is_empty() || mode == ClientTLSMode::Simple && !tls.credential_name.is_empty();
    if tls.insecure_skip_verify == Some(true) && verifies {
        check.error(format!("{path}.insecureSkipVerify"), "it contradicts caCertificates, credentialName and subjectAltNames", "keep one or the other");
    }
    if mode == ClientTLSMode::Simple && tls.ca_certificates.is_empty() && tls.credential_name.is_empty() && tls.insecure_skip_verify != Some(true) {
        let message = "the server's certificate is checked against the system's roots only";
        check.add(Finding::new(Code::InvalidValue, message).with_severity(lateen_base::Severity::Info).with_path(path).with_remedy("add caCertificates if it is signed by your own authority"));
    }
    check.not_enforced_if(path, &[("caCrl", !tls.ca_crl.is_empty())]);
}

/// What a rule says about TLS; `None` means automatic.
#[must_use]
pub fn mode(tls: Option<&ClientTLSSettings>) -> Option<ClientTLSMode> {
    tls.map(|tls| tls.mode.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_automatic_and_an_empty_tls_is_off() {
        assert_eq!(mode(None), None);
        assert_eq!(mode(Some(&ClientTLSSettings::default())), Some(ClientTLSMode::Disable));
    }
}
