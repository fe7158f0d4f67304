//! HTTP options towards endpoints, and options both directions share.
//!
//! - Reads: `extensions.upstreams.http.v3.HttpProtocolOptions`, `config.core.v3.{HttpProtocolOptions, Http1…, Http2…}`.

use super::{HttpOptions, UpstreamProtocol};
use crate::http::{Http1Options, Http2Options};
use crate::rejected::{Invalid, Within};
use crate::time::{duration_or, duration_or_none};
use lateen_envoy_api::envoy::config::cluster::v3 as xcluster;
use lateen_envoy_api::envoy::config::core::v3 as xcore;
use lateen_envoy_api::envoy::extensions::upstreams::http::v3 as xhttp;
use lateen_envoy_api::wkt;
use std::time::Duration;

/// Envoy keeps an idle upstream connection for an hour.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Envoy's ceiling of an answer's head.
const RESPONSE_HEADERS_KIB: u32 = 60;
/// Envoy's ceiling of an answer's header count.
const RESPONSE_HEADERS_COUNT: u32 = 100;
/// Key of the HTTP options in a cluster.
const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(super) fn http_options(cluster: &xcluster::Cluster) -> Result<HttpOptions, Invalid> {
    for (name, any) in &cluster.typed_extension_protocol_options {
        if name != HTTP_PROTOCOL_OPTIONS {
            return Err(Invalid::unsupported("typed_extension_protocol_options", format!("{name} ({})", any.type_url)));
        }
    }
    let deprecated = cluster.max_requests_per_connection.as_ref().map_or(0, |v| v.value);
    let Some(any) = cluster.typed_extension_protocol_options.get(HTTP_PROTOCOL_OPTIONS) else {
        let protocol = if cluster.http2_protocol_options.is_some() { UpstreamProtocol::Http2 } else { UpstreamProtocol::Http1 };
        let http2 = cluster.http2_protocol_options.as_ref().map(http2).transpose().within("http2_protocol_options")?;
        return common(cluster.common_http_protocol_options.as_ref(), deprecated, protocol, Http1Options::upstream(), http2.unwrap_or_default());
    };
    let given: xhttp::HttpProtocolOptions = crate::any::unpack(any).within("typed_extension_protocol_options")?;
    refuse_unsupported(&given).within("typed_extension_protocol_options")?;
    let (protocol, one, two) = protocol(&given).within("typed_extension_protocol_options")?;
    let mut options = common(given.common_http_protocol_options.as_ref(), deprecated, protocol, one, two)?;
    if let Some(upstream) = &given.upstream_http_protocol_options {
        options.auto_sni = upstream.auto_sni;
        options.auto_san_validation = upstream.auto_san_validation;
    }
    Ok(options)
}

fn refuse_unsupported(given: &xhttp::HttpProtocolOptions) -> Result<(), Invalid> {
    if let Some(filter) = given.http_filters.iter().find(|f| f.name != "envoy.filters.http.upstream_codec" && !f.is_optional) {
        return Err(Invalid::unsupported("http_filters", format!("upstream filter `{}`", filter.name)));
    }
    if given.retry_policy.is_some() || !given.hash_policy.is_empty() || !given.request_mirror_policies.is_empty() {
        return Err(Invalid::unsupported("retry_policy", "a route policy on a cluster"));
    }
    Ok(())
}

fn protocol(given: &xhttp::HttpProtocolOptions) -> Result<(UpstreamProtocol, Http1Options, Http2Options), Invalid> {
    use xhttp::http_protocol_options::{UpstreamProtocolOptions as O, explicit_http_config::ProtocolConfig as P};
    let three = || Invalid::unsupported("http3_protocol_options", "HTTP/3");
    let both = |one: Option<&xcore::Http1ProtocolOptions>, two: Option<&xcore::Http2ProtocolOptions>| {
        Ok::<_, Invalid>((one.map_or_else(Http1Options::upstream, http1), two.map(http2).transpose()?.unwrap_or_default()))
    };
    match &given.upstream_protocol_options {
        Some(O::ExplicitHttpConfig(explicit)) => match &explicit.protocol_config {
            Some(P::Http2ProtocolOptions(two)) => Ok((UpstreamProtocol::Http2, Http1Options::upstream(), http2(two)?)),
            Some(P::HttpProtocolOptions(one)) => Ok((UpstreamProtocol::Http1, http1(one), Http2Options::default())),
            Some(P::Http3ProtocolOptions(_)) => Err(three()),
            None => Err(Invalid::new("explicit_http_config", "is empty")),
        },
        Some(O::UseDownstreamProtocolConfig(use_downstream)) => {
            let (one, two) = both(use_downstream.http_protocol_options.as_ref(), use_downstream.http2_protocol_options.as_ref())?;
            Ok((UpstreamProtocol::UseDownstream, one, two))
        }
        Some(O::AutoConfig(auto)) => {
            let (one, two) = both(auto.http_protocol_options.as_ref(), auto.http2_protocol_options.as_ref())?;
            Ok((UpstreamProtocol::Auto, one, two))
        }
        None => Ok((UpstreamProtocol::Http1, Http1Options::upstream(), Http2Options::default())),
    }
}

fn common(
    given: Option<&xcore::HttpProtocolOptions>,
    deprecated_max_requests: u32,
    protocol: UpstreamProtocol,
    http1: Http1Options,
    http2: Http2Options,
) -> Result<HttpOptions, Invalid> {
    let number = |v: Option<&wkt::UInt32Value>, default| v.map_or(default, |v| v.value);
    let kib = number(given.and_then(|g| g.max_response_headers_kb.as_ref()), RESPONSE_HEADERS_KIB);
    let count = number(given.and_then(|g| g.max_headers_count.as_ref()), RESPONSE_HEADERS_COUNT);
    let requests = number(given.and_then(|g| g.max_requests_per_connection.as_ref()), deprecated_max_requests);
    Ok(HttpOptions {
        protocol,
        http2,
        http1,
        max_requests_per_connection: requests,
        idle_timeout: duration_or(given.and_then(|g| g.idle_timeout.as_ref()), Some(IDLE_TIMEOUT)).within("idle_timeout")?,
        max_connection_duration: duration_or_none(given.and_then(|g| g.max_connection_duration.as_ref())).within("max_connection_duration")?,
        max_stream_duration: duration_or_none(given.and_then(|g| g.max_stream_duration.as_ref())).within("max_stream_duration")?,
        response_headers_bytes_max: kib as usize * 1024,
        response_headers_count_max: count as usize,
        auto_sni: false,
        auto_san_validation: false,
    })
}

impl Http1Options {
    /// Envoy's defaults.
    #[must_use]
    pub fn upstream() -> Self {
        Self { allow_absolute_url: true, ..Self::default() }
    }
}

/// Reads HTTP/1 settings.
pub(crate) fn http1(given: &xcore::Http1ProtocolOptions) -> Http1Options {
    use xcore::http1_protocol_options::header_key_format::HeaderFormat as F;
    let format = given.header_key_format.as_ref().and_then(|f| f.header_format.as_ref());
    Http1Options {
        accept_http_10: given.accept_http_10,
        default_host_for_http_10: given.default_host_for_http_10.as_str().into(),
        allow_absolute_url: given.allow_absolute_url.as_ref().is_none_or(|v| v.value),
        allow_chunked_length: given.allow_chunked_length,
        proper_case_headers: matches!(format, Some(F::ProperCaseWords(_))),
        // The only stateful formatter there is keeps the case.
        preserve_case: matches!(format, Some(F::StatefulFormatter(_))),
        enable_trailers: given.enable_trailers,
    }
}

/// Reads HTTP/2 settings.
///
/// # Errors
/// A negative keepalive; METADATA frames.
pub(crate) fn http2(given: &xcore::Http2ProtocolOptions) -> Result<Http2Options, Invalid> {
    if given.allow_metadata {
        return Err(Invalid::unsupported("allow_metadata", "METADATA frames"));
    }
    let number = |v: &Option<wkt::UInt32Value>| v.as_ref().map(|v| v.value);
    let keepalive = given.connection_keepalive.as_ref();
    Ok(Http2Options {
        max_concurrent_streams: number(&given.max_concurrent_streams),
        initial_stream_window_size: number(&given.initial_stream_window_size),
        initial_connection_window_size: number(&given.initial_connection_window_size),
        allow_connect: given.allow_connect,
        keepalive_interval: duration_or_none(keepalive.and_then(|k| k.interval.as_ref())).within("connection_keepalive.interval")?,
        keepalive_timeout: duration_or_none(keepalive.and_then(|k| k.timeout.as_ref())).within("connection_keepalive.timeout")?,
    })
}
