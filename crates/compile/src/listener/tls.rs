//! Downstream TLS: how a listener proves itself and whom it lets in.
//!
//! - Reads: the workload's SDS secrets `default` and `ROOTCA`; `Gateway.servers[].tls`.
//! - Twin: `proxy/src/transport/tls.rs`; `kinds/src/destination_rule/tls.rs`.
//! - Rule: mesh TLS demands a client certificate of the trust domain (or an alias), TLS 1.2 or 1.3.
//! - Limits: server certificates from files are named `file-cert:`/`file-root:`, which the agent serves.
//! - Not here: upstream TLS (`cluster/tls.rs`).

use crate::{View, pb};
use lateen_base::names;
use lateen_envoy_api::envoy::config::core::v3::TransportSocket;
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3::{CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, TlsParameters};
use lateen_envoy_api::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use lateen_istio_api::{ServerTLSMode, ServerTLSSettings, TLSProtocol};

/// Cipher suites of mesh TLS 1.2; TLS 1.3's are fixed by the library. Source: istiod's default.
const MESH_CIPHERS: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// TLS between sidecars, as the server.
pub(crate) fn mesh_tls(view: &View<'_>) -> TransportSocket {
    let config = view.config();
    let domains = std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases);
    let names = domains.map(|domain| matcher(MatchPattern::Prefix(format!("spiffe://{domain}/")))).collect();
    let common = CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
            tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
            cipher_suites: MESH_CIPHERS.iter().map(|c| (*c).to_owned()).collect(),
            ..Default::default()
        }),
        tls_certificate_sds_secret_configs: vec![pb::agent_secret(names::SECRET_DEFAULT)],
        validation_context_type: Some(validation(names, pb::agent_secret(names::SECRET_ROOT))),
        alpn_protocols: mesh_alpn(),
        ..Default::default()
    };
    socket(common, true)
}

/// TLS at the edge, for the modes that end it there; `None` for the others.
pub(crate) fn server_tls(view: &View<'_>, tls: &ServerTLSSettings) -> Option<TransportSocket> {
    let mutual = match tls.mode {
        ServerTLSMode::IstioMutual => return Some(mesh_tls(view)),
        ServerTLSMode::Passthrough | ServerTLSMode::AutoPassthrough => return None,
        ServerTLSMode::Simple => None,
        ServerTLSMode::Mutual => Some(true),
        ServerTLSMode::OptionalMutual => Some(false),
    };
    let mut common = CommonTlsContext {
        tls_params: params(tls),
        tls_certificate_sds_secret_configs: certificates(tls),
        alpn_protocols: http_alpn(),
        ..Default::default()
    };
    if mutual.is_some() {
        let names = tls.subject_alt_names.iter().map(|name| matcher(MatchPattern::Exact(name.clone()))).collect();
        common.validation_context_type = Some(validation(names, authority(tls)));
    }
    Some(socket(common, mutual == Some(true)))
}

/// HTTP's versions, then the mesh's own word: clients that offer only that word (TCP, and stock Envoy for HTTP) find a
/// common protocol, which RFC 7301 §3.2 asks for and Envoy's TLS library does not insist on.
fn mesh_alpn() -> Vec<String> {
    let mut all = http_alpn();
    all.push(names::ALPN_ISTIO.to_owned());
    all
}

fn http_alpn() -> Vec<String> {
    vec!["h2".to_owned(), "http/1.1".to_owned()]
}

fn socket(common: CommonTlsContext, require_client_certificate: bool) -> TransportSocket {
    let context = DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: pb::boolean(require_client_certificate),
        ..Default::default()
    };
    pb::transport_socket("envoy.transport_sockets.tls", &context)
}

fn matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

fn validation(names: Vec<StringMatcher>, authority: SdsSecretConfig) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(subject_alt_names(names)),
        validation_context_sds_secret_config: Some(authority),
        ..Default::default()
    })
}

#[allow(deprecated, reason = "istiod writes match_subject_alt_names, which matches a name of any type")]
pub(crate) fn subject_alt_names(names: Vec<StringMatcher>) -> CertificateValidationContext {
    CertificateValidationContext { match_subject_alt_names: names, ..Default::default() }
}

fn certificates(tls: &ServerTLSSettings) -> Vec<SdsSecretConfig> {
    let kubernetes = |name: &String| pb::ads_secret(&format!("{}{name}", names::SECRET_KUBERNETES_PREFIX));
    if !tls.credential_name.is_empty() {
        return vec![kubernetes(&tls.credential_name)];
    }
    if !tls.credential_names.is_empty() {
        return tls.credential_names.iter().map(kubernetes).collect();
    }
    let file = |certificate: &str, key: &str| pb::agent_file(&format!("file-cert:{certificate}~{key}"));
    if !tls.tls_certificates.is_empty() {
        return tls.tls_certificates.iter().map(|c| file(&c.server_certificate, &c.private_key)).collect();
    }
    vec![file(&tls.server_certificate, &tls.private_key)]
}

fn authority(tls: &ServerTLSSettings) -> SdsSecretConfig {
    let prefix = names::SECRET_KUBERNETES_PREFIX;
    let suffix = names::SECRET_CA_SUFFIX;
    if !tls.ca_cert_credential_name.is_empty() {
        return pb::ads_secret(&format!("{prefix}{}{suffix}", tls.ca_cert_credential_name));
    }
    match [&tls.credential_name].into_iter().chain(&tls.credential_names).find(|n| !n.is_empty()) {
        Some(name) => pb::ads_secret(&format!("{prefix}{name}{suffix}")),
        None => pb::agent_file(&format!("file-root:{}", tls.ca_certificates)),
    }
}

fn params(tls: &ServerTLSSettings) -> Option<TlsParameters> {
    let version = |v: TLSProtocol| match v {
        TLSProtocol::TlsAuto => TlsProtocol::TlsAuto,
        TLSProtocol::Tlsv10 => TlsProtocol::TlSv10,
        TLSProtocol::Tlsv11 => TlsProtocol::TlSv11,
        TLSProtocol::Tlsv12 => TlsProtocol::TlSv12,
        TLSProtocol::Tlsv13 => TlsProtocol::TlSv13,
    };
    let plain = tls.min_protocol_version == TLSProtocol::TlsAuto && tls.max_protocol_version == TLSProtocol::TlsAuto && tls.cipher_suites.is_empty();
    (!plain).then(|| TlsParameters {
        tls_minimum_protocol_version: version(tls.min_protocol_version) as i32,
        tls_maximum_protocol_version: version(tls.max_protocol_version) as i32,
        cipher_suites: tls.cipher_suites.clone(),
        ..Default::default()
    })
}
