//! SDS over ADS: the certificates gateways show, out of Kubernetes Secrets.
//!
//! - Reads: Secrets of the gateway's own namespace that its servers or upstream rules name.
//! - Rule: `kubernetes://NAME` is the key pair, `kubernetes://NAME-cacert` the authority; the latter is the Secret `NAME-cacert`, else `ca.crt` of `NAME`.
//! - Rule: a Secret that is missing or lacks a part gives no resource: the listener waits for it, and others go on.
//! - Not here: the workload's own certificate, which its agent serves.

use crate::listener::gateway_servers;
use crate::{Named, Resource, View};
use lateen_base::names;
use lateen_envoy_api::envoy::config::core::v3::{DataSource, data_source::Specifier};
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret, TlsCertificate, secret};
use lateen_kube_api as kube;
use std::collections::BTreeSet;

/// The secrets this gateway may fetch.
pub(crate) fn secrets(view: &View<'_>) -> Named {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for server in gateway_servers(view) {
        let Some(tls) = &server.server.tls else { continue };
        wanted.extend([&tls.credential_name, &tls.ca_cert_credential_name].into_iter().chain(&tls.credential_names).filter(|n| !n.is_empty()).cloned());
    }
    let rules = view.services.values().filter_map(|s| view.destination_rule(s)).filter_map(|r| r.spec.traffic_policy.as_ref());
    wanted.extend(rules.filter_map(|p| p.tls.as_ref()).map(|t| t.credential_name.clone()).filter(|n| !n.is_empty()));
    let mut all = Named::new();
    for name in wanted {
        for secret in [key_pair(view, &name), authority(view, &name)].into_iter().flatten() {
            all.insert(secret.name.clone(), Resource::new(&secret));
        }
    }
    all
}

fn key_pair(view: &View<'_>, name: &str) -> Option<Secret> {
    let object = view.snapshot.secret(&view.proxy.namespace, name)?;
    let part = |keys: [&str; 2]| keys.iter().find_map(|key| value(&object.spec, key)).map(inline);
    let certificate = TlsCertificate { certificate_chain: Some(part(["tls.crt", "cert"])?), private_key: Some(part(["tls.key", "key"])?), ..Default::default() };
    Some(Secret { name: format!("{}{name}", names::SECRET_KUBERNETES_PREFIX), r#type: Some(secret::Type::TlsCertificate(certificate)) })
}

fn authority(view: &View<'_>, name: &str) -> Option<Secret> {
    let suffix = names::SECRET_CA_SUFFIX;
    let find = |name: &str| view.snapshot.secret(&view.proxy.namespace, name).and_then(|o| ["ca.crt", "cacert"].iter().find_map(|key| value(&o.spec, key)));
    let bytes = find(&format!("{name}{suffix}")).or_else(|| find(name))?;
    let context = CertificateValidationContext { trusted_ca: Some(inline(bytes)), ..Default::default() };
    Some(Secret { name: format!("{}{name}{suffix}", names::SECRET_KUBERNETES_PREFIX), r#type: Some(secret::Type::ValidationContext(context)) })
}

fn inline(bytes: Vec<u8>) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes)), ..Default::default() }
}

fn value(secret: &kube::Secret, key: &str) -> Option<Vec<u8>> {
    if let Some(text) = secret.string_data.get(key) {
        return Some(text.clone().into_bytes());
    }
    decode_base64(secret.data.get(key)?)
}

/// Decodes standard base64; line breaks are allowed. `None` for anything else.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for byte in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_with_line_breaks_is_read() {
        assert_eq!(decode_base64("aGVs\nbG8=").as_deref(), Some(b"hello".as_slice()));
        assert_eq!(decode_base64("%%"), None);
    }
}
