//! The HTTP connection manager: the filter that turns a connection into requests.
//!
//! - Reads: `MeshConfig.pathNormalization`, the filter stack, where routes come from.
//! - Twin: `proxy/src/http/`, which performs it.
//! - Rule: the values are istiod's: no idle limit of streams, WebSocket upgrades allowed, `100-continue` passed on.
//! - Limits: 1 % of requests are marked for tracing; no tracing provider is configured.
//! - Not here: order of HTTP filters (`filter_order`).

use crate::filter_order::{Stack, http_filters, network_filter};
use crate::{View, access_log, pb};
use lateen_base::headers;
use lateen_envoy_api::envoy::config::listener::v3::Filter;
use lateen_envoy_api::envoy::config::route::v3::RouteConfiguration;
use lateen_envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{HttpConnectionManager, HttpFilter, Rds, RequestIdExtension, http_connection_manager as hcm};
use lateen_envoy_api::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use lateen_envoy_api::envoy::r#type::v3::Percent;
use lateen_envoy_api::pack;
use lateen_mesh::NormalizationType;

/// Where the connection manager finds its routes.
pub(crate) enum Routes {
    /// Asked for by name over ADS.
    Rds(String),
    /// Written into the listener.
    Inline(Box<RouteConfiguration>),
}

/// The network filter that speaks HTTP. `policies` are the workload's authentication and authorization filters.
pub(crate) fn http_connection_manager(view: &View<'_>, stack: Stack, stat_prefix: &str, routes: Routes, policies: &[HttpFilter]) -> Filter {
    let mut manager = HttpConnectionManager {
        stat_prefix: format!("{stat_prefix};"),
        http_filters: http_filters(view, stack, policies),
        tracing: view.config().enable_tracing.then(tracing),
        access_log: access_log::filter_logs(view),
        stream_idle_timeout: pb::seconds(0),
        use_remote_address: pb::boolean(stack == Stack::Gateway),
        proxy_100_continue: true,
        upgrade_configs: vec![hcm::UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        request_id_extension: Some(request_id()),
        route_specifier: Some(match routes {
            Routes::Rds(name) => hcm::RouteSpecifier::Rds(Rds { config_source: pb::ads(), route_config_name: name }),
            Routes::Inline(config) => hcm::RouteSpecifier::RouteConfig(*config),
        }),
        ..Default::default()
    };
    normalize(&mut manager, view.config().path_normalization);
    identify(&mut manager, stack);
    network_filter("envoy.filters.network.http_connection_manager", pack(&manager))
}

/// What the server calls itself, and what it tells about client certificates (XFCC).
fn identify(manager: &mut HttpConnectionManager, stack: Stack) {
    let details = hcm::SetCurrentClientCertDetails { subject: pb::boolean(true), dns: true, uri: true, ..Default::default() };
    match stack {
        Stack::Outbound => {}
        Stack::Inbound => {
            manager.server_name = headers::SERVER_ISTIO_ENVOY.to_owned();
            manager.forward_client_cert_details = hcm::ForwardClientCertDetails::AppendForward as i32;
            manager.set_current_client_cert_details = Some(details);
        }
        Stack::Gateway => {
            manager.server_name = headers::SERVER_ISTIO_ENVOY.to_owned();
            manager.forward_client_cert_details = hcm::ForwardClientCertDetails::SanitizeSet as i32;
            manager.set_current_client_cert_details = Some(hcm::SetCurrentClientCertDetails { cert: true, ..details });
            manager.http_protocol_options = Some(Default::default());
        }
    }
}

fn normalize(manager: &mut HttpConnectionManager, kind: NormalizationType) {
    let escaped = match kind {
        NormalizationType::DecodeAndMergeSlashes => hcm::PathWithEscapedSlashesAction::UnescapeAndForward,
        NormalizationType::Default | NormalizationType::None | NormalizationType::Base | NormalizationType::MergeSlashes => hcm::PathWithEscapedSlashesAction::KeepUnchanged,
    };
    manager.path_with_escaped_slashes_action = escaped as i32;
    manager.normalize_path = pb::boolean(kind != NormalizationType::None);
    manager.merge_slashes = matches!(kind, NormalizationType::MergeSlashes | NormalizationType::DecodeAndMergeSlashes);
}

fn tracing() -> hcm::Tracing {
    let percent = |value: f64| Some(Percent { value });
    hcm::Tracing { client_sampling: percent(100.0), random_sampling: percent(1.0), overall_sampling: percent(100.0), ..Default::default() }
}

fn request_id() -> RequestIdExtension {
    let config = UuidRequestIdConfig { use_request_id_for_trace_sampling: pb::boolean(true), ..Default::default() };
    RequestIdExtension { typed_config: Some(pack(&config)) }
}
