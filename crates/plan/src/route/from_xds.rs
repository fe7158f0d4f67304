//! Route tables off the wire.
//!
//! - Reads: `config.route.v3.RouteConfiguration`.
//! - Rule: what changes where a request goes or what it becomes is understood or refused.

use super::headers::header_ops;
use super::rewrite::Substitute;
use super::{
    Action, ClusterChoice, Decorator, DirectResponse, DomainIndex, Forward, HashPolicy, HeaderChanges, HostRewrite, Mirror, PathRewrite, Priority,
    Redirect, RequireTls, RetryPolicy, Route, RouteMatch, RouteTable, VirtualHost, WeightedCluster, WeightedClusters,
};
use crate::cluster::MetaValue;
use crate::fraction::Fraction;
use crate::http::{CorsPolicy, PerFilterConfig};
use crate::names::Name;
use crate::rejected::{Invalid, Within};
use crate::time::{duration, duration_or};
use lateen_envoy_api::envoy::config::core::v3 as xcore;
use lateen_envoy_api::envoy::config::route::v3 as xroute;
use std::sync::Arc;
use std::time::Duration;

/// Envoy's route timeout when none is given.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's ceiling of a direct response's body.
const DIRECT_BODY_BYTES_MAX: usize = 4096;

/// Reads a route table.
///
/// # Errors
/// A domain twice, an unsupported condition or action, weights that sum to 0, a duration below 0.
pub fn route_table(given: &xroute::RouteConfiguration) -> Result<RouteTable, Invalid> {
    if given.vhds.is_some() {
        return Err(Invalid::unsupported("vhds", "fetching virtual hosts apart"));
    }
    if !given.cluster_specifier_plugins.is_empty() {
        return Err(Invalid::unsupported("cluster_specifier_plugins", "choosing clusters by plugin"));
    }
    if !given.vhost_header.is_empty() {
        return Err(Invalid::unsupported("vhost_header", &given.vhost_header));
    }
    let mirrors = mirrors(&given.request_mirror_policies)?;
    let body_max = given.max_direct_response_body_size_bytes.as_ref().map_or(DIRECT_BODY_BYTES_MAX, |v| v.value as usize);
    let mut domains = DomainIndex::default();
    let mut virtual_hosts = Vec::with_capacity(given.virtual_hosts.len());
    for (index, one) in (0u32..).zip(&given.virtual_hosts) {
        let place = || format!("virtual_hosts[{}]", one.name);
        for domain in &one.domains {
            domains.insert(domain, index).within(place())?;
        }
        virtual_hosts.push(virtual_host(one, &mirrors, body_max).within(place())?);
    }
    Ok(RouteTable {
        name: given.name.as_str().into(),
        virtual_hosts,
        domains,
        ignore_port_in_host_matching: given.ignore_port_in_host_matching,
        headers: changes(
            (&given.request_headers_to_add, &given.request_headers_to_remove),
            (&given.response_headers_to_add, &given.response_headers_to_remove),
        )?,
        most_specific_header_mutations_wins: given.most_specific_header_mutations_wins,
        per_filter: crate::http::per_filter(&given.typed_per_filter_config)?,
    })
}

type Ops<'a> = (&'a [xcore::HeaderValueOption], &'a [String]);

fn changes(request: Ops<'_>, response: Ops<'_>) -> Result<HeaderChanges, Invalid> {
    Ok(HeaderChanges { request: header_ops(request.0, request.1).within("request")?, response: header_ops(response.0, response.1).within("response")? })
}

fn virtual_host(given: &xroute::VirtualHost, outer_mirrors: &[Mirror], body_max: usize) -> Result<VirtualHost, Invalid> {
    use xroute::virtual_host::TlsRequirementType as T;
    if given.matcher.is_some() {
        return Err(Invalid::unsupported("matcher", "a matcher tree"));
    }
    if given.hedge_policy.is_some() {
        return Err(Invalid::unsupported("hedge_policy", "hedging"));
    }
    let require_tls = match T::try_from(given.require_tls) {
        Ok(T::None) => RequireTls::None,
        Ok(T::ExternalOnly) => RequireTls::ExternalOnly,
        Ok(T::All) => RequireTls::All,
        Err(_) => return Err(Invalid::new("require_tls", format!("{} is not known", given.require_tls))),
    };
    let own_mirrors = mirrors(&given.request_mirror_policies)?;
    let mirrors = if own_mirrors.is_empty() { outer_mirrors } else { &own_mirrors };
    let routes = given.routes.iter().enumerate().map(|(i, r)| {
        let place = if r.name.is_empty() { format!("routes[{i}]") } else { format!("routes[{i} {}]", r.name) };
        route(r, mirrors, body_max).within(place)
    });
    let mut per_filter = crate::http::per_filter(&given.typed_per_filter_config)?;
    old_cors(given.cors.as_ref(), &mut per_filter)?;
    Ok(VirtualHost {
        name: given.name.as_str().into(),
        routes: routes.collect::<Result<_, _>>()?,
        require_tls,
        headers: changes(
            (&given.request_headers_to_add, &given.request_headers_to_remove),
            (&given.response_headers_to_add, &given.response_headers_to_remove),
        )?,
        per_filter,
        retry: given.retry_policy.as_ref().map(RetryPolicy::from_xds).transpose().within("retry_policy")?,
        include_request_attempt_count: given.include_request_attempt_count,
        include_attempt_count_in_response: given.include_attempt_count_in_response,
    })
}

/// The old place of a CORS policy, which the filter still honours.
fn old_cors(given: Option<&xroute::CorsPolicy>, per_filter: &mut PerFilterConfig) -> Result<(), Invalid> {
    use lateen_envoy_api::envoy::extensions::filters::http::cors::v3 as xcors;
    let (Some(old), None) = (given, &per_filter.cors) else { return Ok(()) };
    let new = xcors::CorsPolicy {
        allow_origin_string_match: old.allow_origin_string_match.clone(),
        allow_methods: old.allow_methods.clone(),
        allow_headers: old.allow_headers.clone(),
        expose_headers: old.expose_headers.clone(),
        max_age: old.max_age.clone(),
        allow_credentials: old.allow_credentials,
        allow_private_network_access: old.allow_private_network_access,
        forward_not_matching_preflights: old.forward_not_matching_preflights,
        shadow_enabled: old.shadow_enabled.clone(),
        filter_enabled: old.enabled_specifier.as_ref().map(|xroute::cors_policy::EnabledSpecifier::FilterEnabled(f)| f.clone()),
    };
    per_filter.cors = Some(Arc::new(CorsPolicy::from_xds(&new).within("cors")?));
    Ok(())
}

fn route(given: &xroute::Route, mirrors: &[Mirror], body_max: usize) -> Result<Route, Invalid> {
    use xroute::route::Action as A;
    let matches = RouteMatch::from_xds(given.r#match.as_ref().ok_or_else(|| Invalid::new("match", "is required"))?).within("match")?;
    let mut per_filter = crate::http::per_filter(&given.typed_per_filter_config)?;
    let action = match &given.action {
        Some(A::Route(forward)) => {
            old_cors(forward.cors.as_ref(), &mut per_filter)?;
            Action::Forward(Box::new(self::forward(forward, mirrors).within("route")?))
        }
        Some(A::Redirect(redirect)) => Action::Redirect(Box::new(Redirect::from_xds(redirect).within("redirect")?)),
        Some(A::DirectResponse(direct)) => Action::Direct(Box::new(direct_response(direct, body_max).within("direct_response")?)),
        Some(A::NonForwardingAction(_)) => Action::NonForwarding,
        Some(A::FilterAction(_)) => return Err(Invalid::unsupported("filter_action", "an action left to a filter")),
        None => return Err(Invalid::new("action", "is required")),
    };
    let decorator = given.decorator.as_ref().map(|d| Decorator {
        operation: d.operation.as_str().into(),
        propagate: d.propagate.as_ref().is_none_or(|v| v.value),
    });
    let origin = crate::cluster::metadata_pairs(given.metadata.as_ref(), "istio").into_iter().find_map(|(k, v)| match v {
        MetaValue::Text(text) if &*k == "config" => Some(text),
        MetaValue::Text(_) | MetaValue::Number(_) | MetaValue::Bool(_) => None,
    });
    Ok(Route {
        name: given.name.as_str().into(),
        matches,
        action,
        headers: changes(
            (&given.request_headers_to_add, &given.request_headers_to_remove),
            (&given.response_headers_to_add, &given.response_headers_to_remove),
        )?,
        per_filter,
        decorator,
        origin: origin.unwrap_or_default(),
    })
}

fn direct_response(given: &xroute::DirectResponseAction, body_max: usize) -> Result<DirectResponse, Invalid> {
    let status = match u16::try_from(given.status) {
        Ok(status) if (200..600).contains(&status) => status,
        _ => return Err(Invalid::new("status", format!("{} is outside 200…599", given.status))),
    };
    if given.body_format.is_some() {
        return Err(Invalid::unsupported("body_format", "a formatted body"));
    }
    let body = given.body.as_ref().map(|b| crate::cluster::data_source(Some(b))).transpose().within("body")?;
    if let Some(crate::listener::tls::DataSource::Bytes(bytes)) = &body
        && bytes.len() > body_max
    {
        return Err(Invalid::new("body", format!("{} bytes are more than {body_max}", bytes.len())));
    }
    Ok(DirectResponse { status, body })
}

fn forward(given: &xroute::RouteAction, outer_mirrors: &[Mirror]) -> Result<Forward, Invalid> {
    refuse_unsupported(given)?;
    let own_mirrors = mirrors(&given.request_mirror_policies)?;
    let hash = given.hash_policy.iter().enumerate().map(|(i, p)| HashPolicy::from_xds(p).within(format!("hash_policy[{i}]")));
    let max_stream = given.max_stream_duration.as_ref();
    // The newer field for gRPC deadlines wins over the older one.
    let grpc = max_stream.and_then(|m| m.grpc_timeout_header_max.as_ref()).or(given.max_grpc_timeout.as_ref());
    Ok(Forward {
        cluster: cluster_choice(given)?,
        cluster_not_found_status: not_found_status(given.cluster_not_found_response_code)?,
        timeout: duration_or(given.timeout.as_ref(), Some(ROUTE_TIMEOUT)).within("timeout")?,
        idle_timeout: given.idle_timeout.as_ref().map(duration).transpose().within("idle_timeout")?,
        max_stream_duration: max_stream.and_then(|m| m.max_stream_duration.as_ref()).map(duration).transpose().within("max_stream_duration")?,
        max_grpc_timeout: grpc.map(duration).transpose().within("max_grpc_timeout")?,
        retry: given.retry_policy.as_ref().map(RetryPolicy::from_xds).transpose().within("retry_policy")?,
        mirrors: if own_mirrors.is_empty() { outer_mirrors.to_vec() } else { own_mirrors },
        path_rewrite: path_rewrite(given)?,
        host_rewrite: host_rewrite(given)?,
        append_x_forwarded_host: given.append_x_forwarded_host,
        hash: hash.collect::<Result<_, _>>()?,
        priority: match xcore::RoutingPriority::try_from(given.priority) {
            Ok(xcore::RoutingPriority::Default) => Priority::Default,
            Ok(xcore::RoutingPriority::High) => Priority::High,
            Err(_) => return Err(Invalid::new("priority", format!("{} is not known", given.priority))),
        },
        upgrades: given
            .upgrade_configs
            .iter()
            .map(|u| (u.upgrade_type.to_ascii_lowercase().into(), u.enabled.as_ref().is_none_or(|v| v.value)))
            .collect(),
        metadata_match: metadata_match(given.metadata_match.as_ref())?,
    })
}

fn refuse_unsupported(given: &xroute::RouteAction) -> Result<(), Invalid> {
    let refuse = |present: bool, field: &str, what: &str| if present { Err(Invalid::unsupported(field, what)) } else { Ok(()) };
    refuse(given.path_rewrite_policy.is_some(), "path_rewrite_policy", "a rewrite by template")?;
    refuse(given.internal_redirect_policy.is_some(), "internal_redirect_policy", "following redirects")?;
    refuse(given.hedge_policy.is_some(), "hedge_policy", "hedging")?;
    refuse(!given.path_rewrite.is_empty(), "path_rewrite", "a formatted path")?;
    let connect = given.upgrade_configs.iter().any(|u| u.connect_config.is_some());
    refuse(connect, "upgrade_configs.connect_config", "ending CONNECT here")
}

fn cluster_choice(given: &xroute::RouteAction) -> Result<ClusterChoice, Invalid> {
    use xroute::route_action::ClusterSpecifier as S;
    match &given.cluster_specifier {
        Some(S::Cluster(name)) => Ok(ClusterChoice::One(name.as_str().into())),
        Some(S::ClusterHeader(header)) => Ok(ClusterChoice::Header(header.to_ascii_lowercase().into())),
        Some(S::WeightedClusters(weighted)) => weighted_clusters(weighted).within("weighted_clusters").map(ClusterChoice::Weighted),
        Some(S::ClusterSpecifierPlugin(_) | S::InlineClusterSpecifierPlugin(_)) => {
            Err(Invalid::unsupported("cluster_specifier_plugin", "choosing clusters by plugin"))
        }
        None => Err(Invalid::new("cluster", "is required")),
    }
}

fn weighted_clusters(given: &xroute::WeightedCluster) -> Result<WeightedClusters, Invalid> {
    if given.random_value_specifier.is_some() {
        return Err(Invalid::unsupported("random_value_specifier", "a draw from the request"));
    }
    let clusters = given.clusters.iter().enumerate().map(|(i, c)| weighted_cluster(c).within(format!("clusters[{i}]")));
    let clusters: Vec<WeightedCluster> = clusters.collect::<Result<_, _>>()?;
    let total: u64 = clusters.iter().map(|c| u64::from(c.weight)).sum();
    if total == 0 {
        return Err(Invalid::new("clusters", "weights sum to 0; at least one cluster needs a weight"));
    }
    Ok(WeightedClusters { clusters, total })
}

fn weighted_cluster(given: &xroute::weighted_cluster::ClusterWeight) -> Result<WeightedCluster, Invalid> {
    use xroute::weighted_cluster::cluster_weight::HostRewriteSpecifier as H;
    if !given.cluster_header.is_empty() {
        return Err(Invalid::unsupported("cluster_header", "a weighted cluster named by a header"));
    }
    let host_rewrite = given.host_rewrite_specifier.as_ref().map(|H::HostRewriteLiteral(host)| host.as_str().into());
    Ok(WeightedCluster {
        name: given.name.as_str().into(),
        weight: given.weight.as_ref().map_or(0, |w| w.value),
        headers: changes(
            (&given.request_headers_to_add, &given.request_headers_to_remove),
            (&given.response_headers_to_add, &given.response_headers_to_remove),
        )?,
        host_rewrite,
        per_filter: crate::http::per_filter(&given.typed_per_filter_config)?,
        metadata_match: metadata_match(given.metadata_match.as_ref())?,
    })
}

fn not_found_status(given: i32) -> Result<u16, Invalid> {
    use xroute::route_action::ClusterNotFoundResponseCode as C;
    match C::try_from(given) {
        Ok(C::ServiceUnavailable) => Ok(503),
        Ok(C::NotFound) => Ok(404),
        Ok(C::InternalServerError) => Ok(500),
        Err(_) => Err(Invalid::new("cluster_not_found_response_code", format!("{given} is not known"))),
    }
}

fn path_rewrite(given: &xroute::RouteAction) -> Result<Option<PathRewrite>, Invalid> {
    match (&given.regex_rewrite, given.prefix_rewrite.as_str()) {
        (Some(_), prefix) if !prefix.is_empty() => Err(Invalid::new("regex_rewrite", "and prefix_rewrite exclude each other")),
        (Some(regex), _) => Ok(Some(PathRewrite::Regex(Substitute::from_xds(regex).within("regex_rewrite")?))),
        (None, "") => Ok(None),
        (None, prefix) => Ok(Some(PathRewrite::Prefix(prefix.as_bytes().into()))),
    }
}

fn host_rewrite(given: &xroute::RouteAction) -> Result<Option<HostRewrite>, Invalid> {
    use xroute::route_action::HostRewriteSpecifier as H;
    Ok(match &given.host_rewrite_specifier {
        None => None,
        Some(H::HostRewriteLiteral(host)) => Some(HostRewrite::Literal(host.as_str().into())),
        Some(H::AutoHostRewrite(on)) => on.value.then_some(HostRewrite::Auto),
        Some(H::HostRewriteHeader(name)) => Some(HostRewrite::Header(name.to_ascii_lowercase().into())),
        Some(H::HostRewritePathRegex(regex)) => Some(HostRewrite::PathRegex(Substitute::from_xds(regex).within("host_rewrite_path_regex")?)),
        Some(H::HostRewrite(_)) => return Err(Invalid::unsupported("host_rewrite", "a formatted host")),
    })
}

fn mirrors(given: &[xroute::route_action::RequestMirrorPolicy]) -> Result<Vec<Mirror>, Invalid> {
    given.iter().enumerate().map(|(i, m)| mirror(m).within(format!("request_mirror_policies[{i}]"))).collect()
}

fn mirror(given: &xroute::route_action::RequestMirrorPolicy) -> Result<Mirror, Invalid> {
    if !given.cluster_header.is_empty() || given.cluster.is_empty() {
        return Err(Invalid::unsupported("cluster_header", "a mirror named by a header"));
    }
    if !given.request_headers_mutations.is_empty() {
        return Err(Invalid::unsupported("request_headers_mutations", "header changes of a mirror"));
    }
    Ok(Mirror {
        cluster: given.cluster.as_str().into(),
        fraction: Fraction::from_runtime(given.runtime_fraction.as_ref()).within("runtime_fraction")?,
        keep_host: given.disable_shadow_host_suffix_append,
        host_rewrite: given.host_rewrite_literal.as_str().into(),
        trace_sampled: given.trace_sampled.as_ref().map(|v| v.value),
    })
}

/// Labels under `envoy.lb`; subset balancing itself is refused at the cluster, so these only restrict the pick.
fn metadata_match(given: Option<&xcore::Metadata>) -> Result<Vec<(Name, Name)>, Invalid> {
    let pair = |(key, value)| match value {
        MetaValue::Text(text) => Ok((key, text)),
        MetaValue::Number(_) | MetaValue::Bool(_) => Err(Invalid::unsupported("metadata_match", format!("the value of `{key}`"))),
    };
    crate::cluster::metadata_pairs(given, "envoy.lb").into_iter().map(pair).collect()
}
