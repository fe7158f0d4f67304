//! HTTP filters: the closed list, and their settings per listener, virtual host and route.
//!
//! - Reads: `HttpFilter.typed_config` and `typed_per_filter_config` (Envoy).
//! - Rule: a filter that is not in the list is refused, unless it says that it is optional.
//! - Rule: Istio's own filters are understood both as messages and as `TypedStruct`.
//! - Not here: what the filters do (`proxy/src/filters`), their order (the control plane's).

use super::CorsPolicy;
use crate::any::{Typed, type_name};
use crate::fault::Fault;
use crate::listener::IstioStats;
use crate::names::Name;
use crate::rbac::Rbac;
use crate::rejected::{Invalid, Within};
use lateen_envoy_api::Any;
use lateen_envoy_api::envoy::config::route::v3::FilterConfig as GenericFilterConfig;
use lateen_envoy_api::envoy::extensions::filters::http as xhttp;
use lateen_envoy_api::envoy::extensions::filters::network::http_connection_manager::v3 as xhcm;
use lateen_envoy_api::io::istio::http::peer_metadata as xpeer;
use lateen_envoy_api::istio::envoy::config::filter::http::alpn::v2alpha1 as xalpn;
use lateen_envoy_api::stats::{PluginConfig, Reporter};
use prost::Name as _;
use std::collections::HashMap;
use std::sync::Arc;

/// One HTTP filter.
#[derive(Clone, Debug)]
pub enum HttpFilter {
    /// Delays and aborts; the settings are those of listeners without per-route settings.
    Fault(Arc<Fault>),
    /// Cross-origin resource sharing; does nothing without a policy on the route or virtual host.
    Cors,
    /// Authorization.
    Rbac(HttpRbac),
    /// gRPC statistics; recognises gRPC for the metrics.
    GrpcStats,
    /// Istio's metrics.
    IstioStats(IstioStats),
    /// Istio's peer metadata in headers.
    PeerMetadata(PeerMetadata),
    /// ALPN towards the endpoint by HTTP version.
    Alpn(Arc<AlpnOverride>),
    /// Sends the request; the last filter.
    Router(Router),
}

/// Authorization with the name under which routes override it.
#[derive(Clone, Debug)]
pub struct HttpRbac {
    /// The filter's name in the chain.
    pub name: Name,
    /// Its rules.
    pub rbac: Arc<Rbac>,
}

/// Which ways peer metadata is read and sent. Source: `io.istio.http.peer_metadata.Config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerMetadata {
    /// Read the client's from request headers.
    pub downstream_discovery: bool,
    /// Read the server's from answer headers, else from the endpoint's metadata.
    pub upstream_discovery: bool,
    /// Send own metadata in answers.
    pub downstream_propagation: bool,
    /// Send own metadata in requests.
    pub upstream_propagation: bool,
    /// Do not send it to clusters outside the mesh.
    pub skip_external_clusters: bool,
}

/// ALPN by HTTP version. Source: `istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlpnOverride {
    /// Towards the endpoint when HTTP/1.0 is spoken.
    pub http10: Vec<Name>,
    /// When HTTP/1.1 is spoken.
    pub http11: Vec<Name>,
    /// When HTTP/2 is spoken.
    pub http2: Vec<Name>,
}

/// The router's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// Write no `x-envoy-*` headers of its own.
    pub suppress_envoy_headers: bool,
    /// Obey `x-envoy-expected-rq-timeout-ms` instead of replacing it.
    pub respect_expected_timeout: bool,
}

/// Settings of filters at one level; each `None` leaves the less specific level in force.
#[derive(Clone, Debug, Default)]
pub struct PerFilterConfig {
    /// Of the fault filter.
    pub fault: Option<Arc<Fault>>,
    /// Of the CORS filter.
    pub cors: Option<Arc<CorsPolicy>>,
    /// Of authorization filters, by filter name.
    pub rbac: Vec<(Name, RbacOverride)>,
    /// Names of filters switched off here.
    pub disabled: Vec<Name>,
}

impl PerFilterConfig {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fault.is_none() && self.cors.is_none() && self.rbac.is_empty() && self.disabled.is_empty()
    }
}

/// What a level does to an authorization filter.
#[derive(Clone, Debug)]
pub enum RbacOverride {
    /// Switches it off.
    Off,
    /// Replaces its rules.
    Rules(Arc<Rbac>),
}

/// Reads one filter; `None`: it is optional and unknown, or disabled.
///
/// # Errors
/// An unknown filter that is not optional; settings that are not supported.
pub fn http_filter(given: &xhcm::HttpFilter) -> Result<Option<HttpFilter>, Invalid> {
    let config = match &given.config_type {
        Some(xhcm::http_filter::ConfigType::TypedConfig(any)) => any,
        Some(xhcm::http_filter::ConfigType::ConfigDiscovery(_)) if given.is_optional => return Ok(None),
        Some(xhcm::http_filter::ConfigType::ConfigDiscovery(_)) => {
            return Err(Invalid::unsupported("config_discovery", format!("fetching the settings of `{}`", given.name)));
        }
        None => return Err(Invalid::new("typed_config", format!("of `{}` is empty", given.name))),
    };
    let typed = Typed::of(config).within("typed_config")?;
    let Some(read) = reader(typed.name()) else {
        if given.is_optional || given.disabled {
            return Ok(None);
        }
        return Err(Invalid::unsupported("typed_config", format!("HTTP filter `{}` ({})", given.name, typed.name())));
    };
    if given.disabled {
        // Off unless a route switches it on; no route can here, because per-route settings only replace or switch off.
        return Ok(None);
    }
    read(&given.name, &typed).within("typed_config").map(Some)
}

type Reader = fn(&str, &Typed) -> Result<HttpFilter, Invalid>;

/// The list of HTTP filters. To add one, add a row here and a variant above.
fn reader(type_name: &str) -> Option<Reader> {
    let rows: [(String, Reader); 8] = [
        (xhttp::fault::v3::HttpFault::full_name(), |_, t| Ok(HttpFilter::Fault(Arc::new(Fault::from_xds(&t.read()?)?)))),
        (xhttp::cors::v3::Cors::full_name(), |_, _| Ok(HttpFilter::Cors)),
        (xhttp::rbac::v3::Rbac::full_name(), |name, t| {
            let rbac = Arc::new(crate::rbac::rbac(&t.read::<xhttp::rbac::v3::Rbac>()?)?);
            Ok(HttpFilter::Rbac(HttpRbac { name: name.into(), rbac }))
        }),
        (xhttp::grpc_stats::v3::FilterConfig::full_name(), |_, _| Ok(HttpFilter::GrpcStats)),
        (PluginConfig::full_name(), |_, t| Ok(HttpFilter::IstioStats(istio_stats(&t.read()?)?))),
        (xpeer::Config::full_name(), |_, t| Ok(HttpFilter::PeerMetadata(peer_metadata(&t.read()?)))),
        (xalpn::FilterConfig::full_name(), |_, t| Ok(HttpFilter::Alpn(Arc::new(alpn(&t.read()?)?)))),
        (xhttp::router::v3::Router::full_name(), |_, t| Ok(HttpFilter::Router(router(&t.read()?)?))),
    ];
    rows.into_iter().find(|(name, _)| name == type_name).map(|(_, read)| read)
}

/// Reads Istio's metrics settings.
///
/// # Errors
/// A negative reporting duration.
pub(crate) fn istio_stats(given: &PluginConfig) -> Result<IstioStats, Invalid> {
    Ok(IstioStats {
        server_gateway: given.reporter == Reporter::ServerGateway as i32,
        disable_host_header_fallback: given.disable_host_header_fallback,
        tcp_reporting_duration: crate::time::duration_or_none(given.tcp_reporting_duration.as_ref()).within("tcp_reporting_duration")?,
    })
}

fn peer_metadata(given: &xpeer::Config) -> PeerMetadata {
    use xpeer::config::{discovery_method, propagation_method};
    let mut skip = false;
    let mut propagates = |methods: &[xpeer::config::PropagationMethod]| {
        methods.iter().any(|m| match &m.method_specifier {
            Some(propagation_method::MethodSpecifier::IstioHeaders(headers)) => {
                skip |= headers.skip_external_clusters;
                true
            }
            // Baggage is for waypoints, which read it; a sidecar loses nothing without it.
            Some(propagation_method::MethodSpecifier::Baggage(_)) | None => false,
        })
    };
    let discovers = |methods: &[xpeer::config::DiscoveryMethod]| {
        methods.iter().any(|m| matches!(m.method_specifier, Some(discovery_method::MethodSpecifier::IstioHeaders(_))))
    };
    let (down, up) = (propagates(&given.downstream_propagation), propagates(&given.upstream_propagation));
    PeerMetadata {
        downstream_discovery: discovers(&given.downstream_discovery),
        upstream_discovery: discovers(&given.upstream_discovery),
        downstream_propagation: down,
        upstream_propagation: up,
        skip_external_clusters: skip,
    }
}

fn alpn(given: &xalpn::FilterConfig) -> Result<AlpnOverride, Invalid> {
    use xalpn::filter_config::Protocol;
    let mut read = AlpnOverride::default();
    for one in &given.alpn_override {
        let list = match Protocol::try_from(one.upstream_protocol) {
            Ok(Protocol::Http10) => &mut read.http10,
            Ok(Protocol::Http11) => &mut read.http11,
            Ok(Protocol::Http2) => &mut read.http2,
            Err(_) => return Err(Invalid::new("alpn_override.upstream_protocol", format!("{} is not known", one.upstream_protocol))),
        };
        *list = one.alpn_override.iter().map(|p| p.as_str().into()).collect();
    }
    Ok(read)
}

fn router(given: &xhttp::router::v3::Router) -> Result<Router, Invalid> {
    if !given.upstream_log.is_empty() {
        return Err(Invalid::unsupported("upstream_log", "an upstream log"));
    }
    if !given.upstream_http_filters.is_empty() {
        return Err(Invalid::unsupported("upstream_http_filters", "a filter after routing"));
    }
    if !given.strict_check_headers.is_empty() {
        return Err(Invalid::unsupported("strict_check_headers", given.strict_check_headers.join(",")));
    }
    Ok(Router { suppress_envoy_headers: given.suppress_envoy_headers, respect_expected_timeout: given.respect_expected_rq_timeout })
}

/// Reads the settings of filters at one level.
///
/// # Errors
/// Settings of an unknown filter that is not optional.
pub(crate) fn per_filter(given: &HashMap<String, Any>) -> Result<PerFilterConfig, Invalid> {
    let mut config = PerFilterConfig::default();
    let mut sorted: Vec<_> = given.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, any) in sorted {
        per_filter_one(name, any, false, &mut config).within(format!("typed_per_filter_config[{name}]"))?;
    }
    Ok(config)
}

fn per_filter_one(name: &str, any: &Any, optional: bool, config: &mut PerFilterConfig) -> Result<(), Invalid> {
    let typed = Typed::of(any)?;
    let is = |full_name: String| typed.name() == full_name;
    if is(GenericFilterConfig::full_name()) {
        let wrapper: GenericFilterConfig = typed.read()?;
        if wrapper.disabled {
            config.disabled.push(name.into());
            return Ok(());
        }
        return match &wrapper.config {
            Some(inner) if type_name(&inner.type_url) == GenericFilterConfig::full_name() => Err(Invalid::new("config", "wraps itself")),
            Some(inner) => per_filter_one(name, inner, optional || wrapper.is_optional, config),
            None => Ok(()),
        };
    }
    if is(xhttp::fault::v3::HttpFault::full_name()) {
        config.fault = Some(Arc::new(Fault::from_xds(&typed.read()?)?));
    } else if is(xhttp::cors::v3::CorsPolicy::full_name()) {
        config.cors = Some(Arc::new(CorsPolicy::from_xds(&typed.read()?)?));
    } else if is(xhttp::rbac::v3::RbacPerRoute::full_name()) {
        let given: xhttp::rbac::v3::RbacPerRoute = typed.read()?;
        let change = match &given.rbac {
            Some(rbac) => RbacOverride::Rules(Arc::new(crate::rbac::rbac(rbac)?)),
            None => RbacOverride::Off,
        };
        config.rbac.push((name.into(), change));
    } else if !optional {
        return Err(Invalid::unsupported("", format!("per-route settings of type {}", typed.name())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(json: serde_json::Value) -> Result<Option<HttpFilter>, Invalid> {
        http_filter(&serde_json::from_value(json).unwrap())
    }

    fn unknown(name: &str) -> xhcm::HttpFilter {
        let any = Any { type_url: "type.googleapis.com/moon.Phase".into(), value: Vec::new().into() };
        xhcm::HttpFilter { name: name.into(), config_type: Some(xhcm::http_filter::ConfigType::TypedConfig(any)), ..xhcm::HttpFilter::default() }
    }

    #[test]
    fn an_unknown_filter_is_refused_by_name_and_type() {
        let error = http_filter(&unknown("moon")).unwrap_err();
        assert_eq!(error.why, "HTTP filter `moon` (moon.Phase) is not supported by this proxy");
    }

    #[test]
    fn an_unknown_optional_filter_is_left_out() {
        let optional = xhcm::HttpFilter { is_optional: true, ..unknown("moon") };
        assert!(http_filter(&optional).unwrap().is_none());
    }

    #[test]
    fn a_disabled_filter_is_left_out() {
        let json = serde_json::json!({"name": "f", "disabled": true, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}});
        assert!(filter(json).unwrap().is_none());
    }

    #[test]
    fn istios_filters_are_read_from_a_typed_struct() {
        let json = serde_json::json!({"name": "istio.metadata_exchange", "typed_config": {
            "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
            "type_url": "type.googleapis.com/io.istio.http.peer_metadata.Config",
            "value": {"upstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}], "upstream_propagation": [{"istio_headers": {}}]}}});
        let Some(HttpFilter::PeerMetadata(read)) = filter(json).unwrap() else { panic!("another filter") };
        assert_eq!(read, PeerMetadata { upstream_discovery: true, upstream_propagation: true, ..PeerMetadata::default() });
    }

    #[test]
    fn per_route_settings_of_an_unknown_filter_are_refused() {
        let any = Any { type_url: "type.googleapis.com/moon.Phase".into(), value: Vec::new().into() };
        assert!(per_filter(&[("moon".to_owned(), any)].into()).unwrap_err().why.contains("moon.Phase"));
    }
}
