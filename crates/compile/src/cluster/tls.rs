//! Upstream TLS: how a proxy proves itself to a destination, and whom it expects there.
//!
//! - Reads: `trafficPolicy.tls`, PeerAuthentication of the destination's namespace, identities of its endpoints.
//! - Twin: `kinds/src/destination_rule/tls.rs` (the field's meaning), `proxy/src/transport/tls.rs`.
//! - Rule: automatic mTLS is chosen for each endpoint by its `tlsMode`; a written mode holds for all endpoints.
//! - Limits: `istio-peer-exchange` is not offered, as no node of ours speaks it.
//! - Not here: downstream TLS (`listener/tls.rs`).

use crate::listener::subject_alt_names;
use crate::{View, pb};
use lateen_base::names;
use lateen_envoy_api::envoy::config::cluster::v3::Cluster;
use lateen_envoy_api::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, TransportSocketMatch};
use lateen_envoy_api::envoy::config::core::v3::TransportSocket;
use lateen_envoy_api::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3::{CommonTlsContext, SdsSecretConfig, TlsParameters, UpstreamTlsContext};
use lateen_envoy_api::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use lateen_envoy_api::wkt;
use lateen_istio_api::{ClientTLSMode, ClientTLSSettings};
use lateen_kinds::destination_rule::tls;
use lateen_mesh::{MtlsMode, Resolution, Service, TlsMode};
use std::collections::BTreeMap;

/// What a cluster's TLS depends on.
pub(super) struct Destination<'a> {
    pub service: &'a Service,
    /// Identities its endpoints may show.
    pub identities: Vec<String>,
    /// Server name of mesh TLS.
    pub sni: String,
    /// The cluster speaks HTTP/2.
    pub http2: bool,
}

/// Writes transport sockets into `cluster`. Returns whether the rule's own certificates are used, so that ALPN stays as written.
pub(super) fn apply(view: &View<'_>, settings: Option<&ClientTLSSettings>, to: &Destination<'_>, cluster: &mut Cluster) -> bool {
    match (tls::mode(settings), settings) {
        (None, _) => {
            if automatic(view, to.service) {
                apply_automatic(to, cluster);
            }
            false
        }
        (Some(ClientTLSMode::Disable), _) => false,
        (Some(ClientTLSMode::IstioMutual), settings) => {
            cluster.transport_socket = Some(socket(&mesh_context(to, settings)));
            false
        }
        (Some(ClientTLSMode::Simple | ClientTLSMode::Mutual), Some(settings)) => {
            cluster.transport_socket = Some(socket(&own_context(view, to, settings)));
            true
        }
        (Some(ClientTLSMode::Simple | ClientTLSMode::Mutual), None) => false,
    }
}

/// Whether a client uses mTLS by itself towards some endpoints of a service.
fn automatic(view: &View<'_>, service: &Service) -> bool {
    if service.external || !view.config().enable_auto_mtls {
        return false;
    }
    if view.resolution(service) == Resolution::Passthrough && (service.endpoints.is_empty() || service.endpoints.iter().any(|e| e.tls_mode == TlsMode::Disabled)) {
        return false;
    }
    view.snapshot.mtls_mode_default(service.namespace(), &BTreeMap::new()) != MtlsMode::Disable
}

/// mTLS to endpoints that can, plaintext to the others.
fn apply_automatic(to: &Destination<'_>, cluster: &mut Cluster) {
    let context = socket(&mesh_context(to, None));
    if cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32)) {
        // There are no endpoints to choose by; `automatic` made sure that all of them can.
        cluster.transport_socket = Some(context);
        return;
    }
    let raw = pb::transport_socket("envoy.transport_sockets.raw_buffer", &RawBuffer::default());
    let row = |name: &str, matching: wkt::Struct, transport_socket: TransportSocket| TransportSocketMatch {
        name: name.to_owned(),
        r#match: Some(matching),
        transport_socket: Some(transport_socket),
    };
    cluster.transport_socket_matches = vec![
        row("tlsMode-istio", pb::structure([("tlsMode", pb::text("istio"))]), context),
        row("tlsMode-disabled", wkt::Struct::default(), raw),
    ];
}

fn mesh_context(to: &Destination<'_>, settings: Option<&ClientTLSSettings>) -> UpstreamTlsContext {
    let mut alpn_protocols = vec![names::ALPN_ISTIO.to_owned()];
    if to.http2 {
        alpn_protocols.push("h2".to_owned());
    }
    let written = |f: fn(&ClientTLSSettings) -> bool| settings.filter(|s| f(s));
    let identities = written(|s| !s.subject_alt_names.is_empty()).map_or(&to.identities, |s| &s.subject_alt_names);
    let common = CommonTlsContext {
        tls_params: Some(params()),
        tls_certificate_sds_secret_configs: vec![pb::agent_secret(names::SECRET_DEFAULT)],
        validation_context_type: Some(validation(identities, pb::agent_secret(names::SECRET_ROOT))),
        alpn_protocols,
        ..Default::default()
    };
    let sni = written(|s| !s.sni.is_empty()).map_or(&to.sni, |s| &s.sni);
    UpstreamTlsContext { common_tls_context: Some(common), sni: sni.clone(), ..Default::default() }
}

/// TLS with certificates the rule names: files served by the agent, or a gateway's Kubernetes credential.
fn own_context(view: &View<'_>, to: &Destination<'_>, settings: &ClientTLSSettings) -> UpstreamTlsContext {
    let credential = Some(&settings.credential_name).filter(|name| !name.is_empty() && view.proxy.is_router());
    let mutual = settings.mode == Some(ClientTLSMode::Mutual);
    let mut common = CommonTlsContext { tls_params: Some(params()), ..Default::default() };
    if mutual {
        common.tls_certificate_sds_secret_configs = vec![match credential {
            Some(name) => pb::ads_secret(&format!("{}{name}", names::SECRET_KUBERNETES_PREFIX)),
            None => pb::agent_file(&format!("file-cert:{}~{}", settings.client_certificate, settings.private_key)),
        }];
    }
    if to.http2 {
        common.alpn_protocols = vec!["h2".to_owned()];
    }
    if settings.insecure_skip_verify != Some(true) {
        let authority = match credential {
            Some(name) => pb::ads_secret(&format!("{}{name}{}", names::SECRET_KUBERNETES_PREFIX, names::SECRET_CA_SUFFIX)),
            None if settings.ca_certificates.is_empty() => pb::agent_file("file-root:system"),
            None => pb::agent_file(&format!("file-root:{}", settings.ca_certificates)),
        };
        let names = if settings.subject_alt_names.is_empty() { &to.service.subject_alt_names } else { &settings.subject_alt_names };
        common.validation_context_type = Some(validation(names, authority));
    }
    let sni = if settings.sni.is_empty() && !to.service.hostname.is_wildcard() { to.service.hostname.to_string() } else { settings.sni.clone() };
    UpstreamTlsContext { common_tls_context: Some(common), sni, ..Default::default() }
}

fn socket(context: &UpstreamTlsContext) -> TransportSocket {
    pb::transport_socket("envoy.transport_sockets.tls", context)
}

fn validation(names: &[String], authority: SdsSecretConfig) -> ValidationContextType {
    let exact = |name: &String| StringMatcher { match_pattern: Some(MatchPattern::Exact(name.clone())), ..Default::default() };
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(subject_alt_names(names.iter().map(exact).collect())),
        validation_context_sds_secret_config: Some(authority),
        ..Default::default()
    })
}

fn params() -> TlsParameters {
    TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
        tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
        ..Default::default()
    }
}
