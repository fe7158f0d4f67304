//! HTTP connection managers off the wire.
//!
//! - Reads: `extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
//! - Rule: the router is there, once, and last.
//! - Limits: tags of traces are not kept, because spans are not exported; the sampling decision is.

use super::filters::{HttpFilter, http_filter};
use super::{
    ClientCertDetails, Codec, ForwardClientCert, Hcm, Http1Options, Http2Options, RequestIdRules, RouteSource, ServerHeader, StripPort, Tracing, Underscores,
};
use crate::access_log::access_logs;
use crate::fraction::Fraction;
use crate::normalize::PathRules;
use crate::rejected::{Invalid, Within};
use crate::route::route_table;
use crate::time::{duration, duration_or, duration_or_none};
use lateen_envoy_api::envoy::config::core::v3 as xcore;
use lateen_envoy_api::envoy::extensions::filters::network::http_connection_manager::v3 as xhcm;
use lateen_envoy_api::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use lateen_envoy_api::envoy::r#type::v3::Percent;
use lateen_envoy_api::wkt;
use std::sync::Arc;
use std::time::Duration;
use xhcm::http_connection_manager as xh;

/// Envoy's defaults.
const SERVER_NAME: &str = "envoy";
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const DELAYED_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const HEADERS_KIB: u32 = 60;
const HEADERS_COUNT: u32 = 100;

/// Reads a connection manager.
///
/// # Errors
/// A missing or misplaced router, an unknown filter, HTTP/3, scoped routes, an extension that changes what requests mean.
pub fn hcm(given: &xhcm::HttpConnectionManager) -> Result<Hcm, Invalid> {
    refuse_unsupported(given)?;
    let empty = xcore::HttpProtocolOptions::default();
    let common = given.common_http_protocol_options.as_ref().unwrap_or(&empty);
    let http1 = given.http_protocol_options.as_ref().map_or_else(Http1Options::upstream, crate::cluster::http1);
    let http2 = given.http2_protocol_options.as_ref().map(crate::cluster::http2).transpose().within("http2_protocol_options")?;
    let on = |v: &Option<wkt::BoolValue>, default: bool| v.as_ref().map_or(default, |v| v.value);
    let number = |v: &Option<wkt::UInt32Value>, default: u32| v.as_ref().map_or(default, |v| v.value);
    Ok(Hcm {
        stat_prefix: given.stat_prefix.trim_end_matches(['.', ';']).into(),
        codec: codec(given.codec_type)?,
        routes: routes(given)?,
        filters: filters(&given.http_filters)?,
        access_logs: access_logs(&given.access_log)?,
        server_name: if given.server_name.is_empty() { SERVER_NAME.into() } else { given.server_name.as_str().into() },
        server_header: server_header(given.server_header_transformation)?,
        path: PathRules::from_xds(given)?,
        strip_port: strip_port(given),
        strip_trailing_host_dot: given.strip_trailing_host_dot,
        use_remote_address: on(&given.use_remote_address, false),
        xff_num_trusted_hops: given.xff_num_trusted_hops,
        skip_xff_append: given.skip_xff_append,
        client_cert: client_cert(given.forward_client_cert_details)?,
        client_cert_details: client_cert_details(given.set_current_client_cert_details.as_ref()),
        request_id: request_id(given)?,
        via: given.via.as_str().into(),
        http1,
        http2: http2.unwrap_or_else(Http2Options::default),
        upgrades: upgrades(&given.upgrade_configs)?,
        request_headers_timeout: duration_or_none(given.request_headers_timeout.as_ref()).within("request_headers_timeout")?,
        request_timeout: duration_or_none(given.request_timeout.as_ref()).within("request_timeout")?,
        stream_idle_timeout: duration_or(given.stream_idle_timeout.as_ref(), Some(STREAM_IDLE_TIMEOUT)).within("stream_idle_timeout")?,
        idle_timeout: duration_or(common.idle_timeout.as_ref(), Some(IDLE_TIMEOUT)).within("idle_timeout")?,
        max_connection_duration: duration_or_none(common.max_connection_duration.as_ref()).within("max_connection_duration")?,
        max_stream_duration: duration_or_none(common.max_stream_duration.as_ref()).within("max_stream_duration")?,
        max_requests_per_connection: number(&common.max_requests_per_connection, 0),
        drain_timeout: given.drain_timeout.as_ref().map_or(Ok(DRAIN_TIMEOUT), duration).within("drain_timeout")?,
        delayed_close_timeout: given.delayed_close_timeout.as_ref().map_or(Ok(DELAYED_CLOSE_TIMEOUT), duration).within("delayed_close_timeout")?,
        headers_bytes_max: number(&given.max_request_headers_kb, HEADERS_KIB) as usize * 1024,
        headers_count_max: number(&common.max_headers_count, HEADERS_COUNT) as usize,
        proxy_100_continue: given.proxy_100_continue,
        preserve_external_request_id: given.preserve_external_request_id,
        underscores: underscores(common.headers_with_underscores_action)?,
        scheme_overwrite: scheme(given),
        tracing: given.tracing.as_ref().map(tracing),
        stream_error_on_invalid_messaging: on(&given.stream_error_on_invalid_http_message, false),
    })
}

fn refuse_unsupported(given: &xhcm::HttpConnectionManager) -> Result<(), Invalid> {
    let refuse = |present: bool, field: &str, what: &str| if present { Err(Invalid::unsupported(field, what)) } else { Ok(()) };
    refuse(!given.original_ip_detection_extensions.is_empty(), "original_ip_detection_extensions", "finding the client by extension")?;
    refuse(!given.early_header_mutation_extensions.is_empty(), "early_header_mutation_extensions", "early header changes")?;
    refuse(given.local_reply_config.is_some(), "local_reply_config", "rewriting local replies")?;
    refuse(given.forward_client_cert_matcher.is_some(), "forward_client_cert_matcher", "a matcher tree")?;
    refuse(given.typed_header_validation_config.is_some(), "typed_header_validation_config", "header validation by extension")?;
    let transforms = given.path_normalization_options.as_ref();
    refuse(transforms.is_some_and(|t| t.forwarding_transformation.is_some() || t.http_filter_transformation.is_some()), "path_normalization_options", "a path transformation")
}

fn codec(given: i32) -> Result<Codec, Invalid> {
    match xh::CodecType::try_from(given) {
        Ok(xh::CodecType::Auto) => Ok(Codec::Auto),
        Ok(xh::CodecType::Http1) => Ok(Codec::Http1),
        Ok(xh::CodecType::Http2) => Ok(Codec::Http2),
        Ok(xh::CodecType::Http3) => Err(Invalid::unsupported("codec_type", "HTTP3")),
        Err(_) => Err(Invalid::new("codec_type", format!("{given} is not known"))),
    }
}

fn routes(given: &xhcm::HttpConnectionManager) -> Result<RouteSource, Invalid> {
    match &given.route_specifier {
        Some(xh::RouteSpecifier::Rds(rds)) => Ok(RouteSource::Rds(rds.route_config_name.as_str().into())),
        Some(xh::RouteSpecifier::RouteConfig(table)) => Ok(RouteSource::Inline(Arc::new(route_table(table).within("route_config")?))),
        Some(xh::RouteSpecifier::ScopedRoutes(_)) => Err(Invalid::unsupported("scoped_routes", "scoped routing")),
        None => Err(Invalid::new("route_specifier", "is required: set rds or route_config")),
    }
}

fn filters(given: &[xhcm::HttpFilter]) -> Result<Vec<HttpFilter>, Invalid> {
    let mut read = Vec::with_capacity(given.len());
    for (i, one) in given.iter().enumerate() {
        let filter = http_filter(one).within(format!("http_filters[{i}]"))?;
        let last = i + 1 == given.len();
        match filter {
            Some(HttpFilter::Router(_)) if !last => return Err(Invalid::new(format!("http_filters[{i}]"), "the router must be the last filter")),
            Some(filter) => read.push(filter),
            None => {}
        }
    }
    if !matches!(read.last(), Some(HttpFilter::Router(_))) {
        return Err(Invalid::new("http_filters", "the last filter must be the router"));
    }
    Ok(read)
}

fn server_header(given: i32) -> Result<ServerHeader, Invalid> {
    use xh::ServerHeaderTransformation as T;
    match T::try_from(given) {
        Ok(T::Overwrite) => Ok(ServerHeader::Overwrite),
        Ok(T::AppendIfAbsent) => Ok(ServerHeader::AppendIfAbsent),
        Ok(T::PassThrough) => Ok(ServerHeader::PassThrough),
        Err(_) => Err(Invalid::new("server_header_transformation", format!("{given} is not known"))),
    }
}

fn strip_port(given: &xhcm::HttpConnectionManager) -> StripPort {
    match &given.strip_port_mode {
        Some(xh::StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
        Some(xh::StripPortMode::StripAnyHostPort(false)) | None if given.strip_matching_host_port => StripPort::Matching,
        Some(xh::StripPortMode::StripAnyHostPort(false)) | None => StripPort::Never,
    }
}

fn client_cert(given: i32) -> Result<ForwardClientCert, Invalid> {
    use xh::ForwardClientCertDetails as F;
    match F::try_from(given) {
        Ok(F::Sanitize) => Ok(ForwardClientCert::Sanitize),
        Ok(F::ForwardOnly) => Ok(ForwardClientCert::ForwardOnly),
        Ok(F::AppendForward) => Ok(ForwardClientCert::AppendForward),
        Ok(F::SanitizeSet) => Ok(ForwardClientCert::SanitizeSet),
        Ok(F::AlwaysForwardOnly) => Ok(ForwardClientCert::AlwaysForwardOnly),
        Err(_) => Err(Invalid::new("forward_client_cert_details", format!("{given} is not known"))),
    }
}

fn client_cert_details(given: Option<&xh::SetCurrentClientCertDetails>) -> ClientCertDetails {
    given.map_or_else(ClientCertDetails::default, |d| ClientCertDetails {
        subject: d.subject.as_ref().is_some_and(|v| v.value),
        cert: d.cert,
        chain: d.chain,
        dns: d.dns,
        uri: d.uri,
    })
}

fn request_id(given: &xhcm::HttpConnectionManager) -> Result<RequestIdRules, Invalid> {
    let config = match given.request_id_extension.as_ref().and_then(|e| e.typed_config.as_ref()) {
        Some(any) => crate::any::unpack::<UuidRequestIdConfig>(any).within("request_id_extension")?,
        None => UuidRequestIdConfig::default(),
    };
    Ok(RequestIdRules {
        generate: given.generate_request_id.as_ref().is_none_or(|v| v.value),
        always_set_in_response: given.always_set_request_id_in_response,
        pack_trace_reason: config.pack_trace_reason.as_ref().is_none_or(|v| v.value),
        use_for_trace_sampling: config.use_request_id_for_trace_sampling.as_ref().is_none_or(|v| v.value),
    })
}

fn upgrades(given: &[xh::UpgradeConfig]) -> Result<Vec<crate::names::Name>, Invalid> {
    if given.iter().any(|u| !u.filters.is_empty()) {
        return Err(Invalid::unsupported("upgrade_configs.filters", "other filters for upgrades"));
    }
    let allowed = given.iter().filter(|u| u.enabled.as_ref().is_none_or(|v| v.value));
    Ok(allowed.map(|u| u.upgrade_type.to_ascii_lowercase().into()).collect())
}

fn underscores(given: i32) -> Result<Underscores, Invalid> {
    use xcore::http_protocol_options::HeadersWithUnderscoresAction as A;
    match A::try_from(given) {
        Ok(A::Allow) => Ok(Underscores::Allow),
        Ok(A::RejectRequest) => Ok(Underscores::Reject),
        Ok(A::DropHeader) => Ok(Underscores::Drop),
        Err(_) => Err(Invalid::new("headers_with_underscores_action", format!("{given} is not known"))),
    }
}

fn scheme(given: &xhcm::HttpConnectionManager) -> crate::names::Name {
    use xcore::scheme_header_transformation::Transformation as T;
    match given.scheme_header_transformation.as_ref().and_then(|s| s.transformation.as_ref()) {
        Some(T::SchemeToOverwrite(scheme)) => scheme.as_str().into(),
        None => "".into(),
    }
}

fn tracing(given: &xh::Tracing) -> Tracing {
    let percent = |v: &Option<Percent>| v.as_ref().map_or(Fraction::ALWAYS, |p| Fraction::from_percent(p.value));
    Tracing {
        client_sampling: percent(&given.client_sampling),
        random_sampling: percent(&given.random_sampling),
        overall_sampling: percent(&given.overall_sampling),
        provider: given.provider.as_ref().map_or("", |p| p.name.as_str()).into(),
    }
}
