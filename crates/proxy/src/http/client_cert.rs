//! `x-forwarded-client-cert` (XFCC): the identities a request came through.
//!
//! - Reads: `forward_client_cert_details`, `set_current_client_cert_details` of the HTTP connection manager.
//! - Rule: without mutual TLS the field is never believed, except where configuration says `ALWAYS_FORWARD_ONLY`.
//! - Not here: verifying certificates (`transport/tls.rs`).

use crate::transport::TlsSession;
use lateen_base::headers;
use lateen_http1::{Headers, Known};
use lateen_plan::http::{ClientCertDetails, ForwardClientCert};

/// Brings the field in order for the next hop.
pub fn apply(mode: ForwardClientCert, details: ClientCertDetails, tls: Option<&TlsSession>, fields: &mut Headers) {
    let peer = tls.and_then(|tls| tls.peer.as_ref().map(|peer| (tls, peer)));
    match (mode, peer) {
        (ForwardClientCert::AlwaysForwardOnly, _) | (ForwardClientCert::ForwardOnly, Some(_)) => {}
        (ForwardClientCert::Sanitize, _) | (ForwardClientCert::ForwardOnly | ForwardClientCert::AppendForward | ForwardClientCert::SanitizeSet, None) => {
            fields.remove_known(Known::XForwardedClientCert);
        }
        (ForwardClientCert::AppendForward, Some((tls, peer))) => {
            let mut value = fields.get_all(headers::FORWARDED_CLIENT_CERT.as_bytes()).collect::<Vec<_>>().join(&b","[..]);
            if !value.is_empty() {
                value.push(b',');
            }
            element(&mut value, details, tls, peer);
            fields.set(headers::FORWARDED_CLIENT_CERT.as_bytes(), &value);
        }
        (ForwardClientCert::SanitizeSet, Some((tls, peer))) => {
            let mut value = Vec::with_capacity(256);
            element(&mut value, details, tls, peer);
            fields.set(headers::FORWARDED_CLIENT_CERT.as_bytes(), &value);
        }
    }
}

/// One element: `By=…;Hash=…;Subject="…";URI=…;DNS=…`, in Envoy's order.
fn element(out: &mut Vec<u8>, details: ClientCertDetails, tls: &TlsSession, peer: &crate::transport::certificate::PeerCertificate) {
    let start = out.len();
    let mut part = |key: &str, value: &str, quoted: bool| {
        if out.len() > start {
            out.push(b';');
        }
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        if quoted {
            out.push(b'"');
            out.extend_from_slice(value.replace('\\', "\\\\").replace('"', "\\\"").as_bytes());
            out.push(b'"');
        } else {
            out.extend_from_slice(value.as_bytes());
        }
    };
    if let Some(by) = &tls.local_uri {
        part("By", by, false);
    }
    if !peer.sha256.is_empty() {
        part("Hash", &peer.sha256, false);
    }
    if details.subject {
        part("Subject", &peer.subject, true);
    }
    if details.uri {
        for uri in &peer.uri_sans {
            part("URI", uri, false);
        }
    }
    if details.dns {
        for dns in &peer.dns_sans {
            part("DNS", dns, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::certificate::PeerCertificate;

    fn session() -> TlsSession {
        let peer = PeerCertificate { uri_sans: vec!["spiffe://td/ns/a/sa/b".into()], sha256: "ab".into(), ..PeerCertificate::default() };
        TlsSession { peer: Some(peer), local_uri: Some("spiffe://td/ns/c/sa/d".into()), ..TlsSession::default() }
    }

    fn details() -> ClientCertDetails {
        ClientCertDetails { subject: true, uri: true, dns: true, ..ClientCertDetails::default() }
    }

    fn given() -> Headers {
        let mut fields = Headers::default();
        fields.append(b"x-forwarded-client-cert", b"Hash=old");
        fields
    }

    const NEW: &str = "By=spiffe://td/ns/c/sa/d;Hash=ab;Subject=\"\";URI=spiffe://td/ns/a/sa/b";

    #[test]
    fn append_forward_adds_the_peer_in_mutual_tls() {
        let mut fields = given();
        apply(ForwardClientCert::AppendForward, details(), Some(&session()), &mut fields);
        assert_eq!(fields.known(Known::XForwardedClientCert), Some(format!("Hash=old,{NEW}").as_bytes()));
    }

    #[test]
    fn sanitize_set_replaces_what_came() {
        let mut fields = given();
        apply(ForwardClientCert::SanitizeSet, details(), Some(&session()), &mut fields);
        assert_eq!(fields.known(Known::XForwardedClientCert), Some(NEW.as_bytes()));
    }

    #[test]
    fn without_mutual_tls_nothing_is_believed() {
        for mode in [ForwardClientCert::AppendForward, ForwardClientCert::SanitizeSet, ForwardClientCert::ForwardOnly, ForwardClientCert::Sanitize] {
            let mut fields = given();
            apply(mode, details(), None, &mut fields);
            assert_eq!(fields.known(Known::XForwardedClientCert), None, "{mode:?}");
        }
    }
}
