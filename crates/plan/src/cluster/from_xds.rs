//! Clusters off the wire.
//!
//! - Reads: `config.cluster.v3.Cluster`.
//! - Rule: what changes where traffic goes, or whether it is encrypted, is understood or refused.

use super::options::http_options;
use super::{
    Cluster, Discovery, Dns, DnsFamily, IstioService, LocalityMode, OriginalDst, RetryBudget, Thresholds, TransportMatch, UpstreamTransport,
    cluster_endpoints, upstream_tls,
};
use crate::address::{bind_config, keepalive};
use crate::any::Typed;
use crate::lb::{LbPolicy, MAGLEV_SIZE, MAGLEV_SIZE_MAX, RING_SIZE_MAX, RING_SIZE_MIN};
use crate::names::Name;
use crate::outlier::OutlierDetection;
use crate::rejected::{Invalid, Within};
use crate::time::{duration, duration_or_none};
use lateen_envoy_api::envoy::config::cluster::v3 as xcluster;
use lateen_envoy_api::envoy::config::core::v3 as xcore;
use lateen_envoy_api::envoy::extensions::transport_sockets as xtransport;
use lateen_envoy_api::envoy::tcp::metadataexchange::config::MetadataExchange;
use lateen_envoy_api::wkt;
use prost::Name as _;
use std::sync::Arc;
use std::time::Duration;
use xcluster::cluster as xc;

impl Cluster {
    /// A static cluster without endpoints and with Envoy's defaults.
    #[must_use]
    pub fn bare(name: &str) -> Self {
        let given = xcluster::Cluster { name: name.into(), ..xcluster::Cluster::default() };
        cluster(&given).expect("a cluster of defaults is valid")
    }
}

/// Reads a cluster.
///
/// # Errors
/// An unsupported discovery type, policy, transport or filter; a negative duration; active health checks.
pub fn cluster(given: &xcluster::Cluster) -> Result<Cluster, Invalid> {
    refuse_unsupported(given)?;
    let common = given.common_lb_config.as_ref();
    let (lb, choice) = lb_policy(given)?;
    let discovery = discovery(given)?;
    if matches!(discovery, Discovery::OriginalDst(_)) != (lb == LbPolicy::ClusterProvided) {
        return Err(Invalid::new("lb_policy", "CLUSTER_PROVIDED and type ORIGINAL_DST belong together"));
    }
    let override_host_header = match &discovery {
        Discovery::OriginalDst(settings) => settings.header.clone(),
        Discovery::Static(_) | Discovery::Eds { .. } | Discovery::StrictDns(_) | Discovery::LogicalDns(_) => None,
    };
    let name: Name = given.name.as_str().into();
    let matches = given.transport_socket_matches.iter().enumerate();
    Ok(Cluster {
        stat_name: if given.alt_stat_name.is_empty() { name.clone() } else { given.alt_stat_name.as_str().into() },
        name,
        discovery,
        lb,
        locality: choice.unwrap_or_else(|| locality_mode(common)),
        panic_threshold: common.and_then(|c| c.healthy_panic_threshold.as_ref()).map_or(PANIC_THRESHOLD, |p| p.value),
        fail_traffic_on_panic: fails_on_panic(common),
        connect_timeout: given.connect_timeout.as_ref().map_or(Ok(CONNECT_TIMEOUT), duration).within("connect_timeout")?,
        circuit_breakers: circuit_breakers(given.circuit_breakers.as_ref())?,
        outlier: given.outlier_detection.as_ref().map(OutlierDetection::from_xds).transpose().within("outlier_detection")?,
        transport: transport(given.transport_socket.as_ref()).within("transport_socket")?,
        transport_matches: matches
            .map(|(i, m)| transport_match(m).within(format!("transport_socket_matches[{i}]")))
            .collect::<Result<_, _>>()?,
        http: http_options(given)?,
        bind: given.upstream_bind_config.as_ref().map(bind_config).transpose().within("upstream_bind_config")?,
        keepalive: given.upstream_connection_options.as_ref().and_then(|o| o.tcp_keepalive.as_ref()).map(keepalive),
        services: services(given.metadata.as_ref()),
        override_host_header,
        close_connections_on_host_health_failure: given.close_connections_on_host_health_failure,
        per_connection_buffer_bytes_max: given.per_connection_buffer_limit_bytes.as_ref().map_or(BUFFER_BYTES, |v| v.value),
        peer_metadata_exchange: metadata_exchange(given)?,
        close_connections_on_host_set_change: common.is_some_and(|c| c.close_connections_on_host_set_change),
    })
}

/// Envoy's default panic threshold in percent.
const PANIC_THRESHOLD: f64 = 50.0;
/// Envoy's default connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Envoy's default buffer ceiling.
const BUFFER_BYTES: u32 = 1024 * 1024;
/// Envoy's default time between look-ups.
const DNS_REFRESH: Duration = Duration::from_secs(5);

fn refuse_unsupported(given: &xcluster::Cluster) -> Result<(), Invalid> {
    let refuse = |present: bool, field: &str, what: &str| if present { Err(Invalid::unsupported(field, what)) } else { Ok(()) };
    refuse(!given.health_checks.is_empty(), "health_checks", "active health checking")?;
    refuse(given.lb_subset_config.as_ref().is_some_and(|s| !s.subset_selectors.is_empty()), "lb_subset_config", "subset load balancing")?;
    refuse(given.transport_socket_matcher.is_some(), "transport_socket_matcher", "a matcher tree")?;
    refuse(given.upstream_config.is_some(), "upstream_config", "a custom upstream")?;
    refuse(given.connection_pool_per_downstream_connection, "connection_pool_per_downstream_connection", "a pool per connection")?;
    let per_host = given.circuit_breakers.as_ref().is_some_and(|c| !c.per_host_thresholds.is_empty());
    refuse(per_host, "circuit_breakers.per_host_thresholds", "a circuit breaker per host")
}

/// The only network filter a cluster may have is Istio's peer metadata.
fn metadata_exchange(given: &xcluster::Cluster) -> Result<bool, Invalid> {
    for (i, filter) in given.filters.iter().enumerate() {
        let field = format!("filters[{i}]");
        let Some(any) = &filter.typed_config else { return Err(Invalid::unsupported(field, format!("filter `{}`", filter.name))) };
        let typed = Typed::of(any).within(&field)?;
        if typed.name() != MetadataExchange::full_name() {
            return Err(Invalid::unsupported(field, format!("filter `{}` ({})", filter.name, typed.name())));
        }
    }
    Ok(!given.filters.is_empty())
}

fn discovery(given: &xcluster::Cluster) -> Result<Discovery, Invalid> {
    use xc::DiscoveryType as D;
    let kind = match &given.cluster_discovery_type {
        None => D::Static,
        Some(xc::ClusterDiscoveryType::Type(kind)) => D::try_from(*kind).map_err(|_| Invalid::new("type", format!("{kind} is not known")))?,
        Some(xc::ClusterDiscoveryType::ClusterType(custom)) => return Err(Invalid::unsupported("cluster_type", &custom.name)),
    };
    let assignment = || match &given.load_assignment {
        Some(assignment) => cluster_endpoints(assignment).map(Arc::new).within("load_assignment"),
        None => Ok(Arc::new(super::ClusterEndpoints::flat(given.name.as_str().into(), Vec::new()))),
    };
    Ok(match kind {
        D::Static => Discovery::Static(assignment()?),
        D::Eds => {
            let service = given.eds_cluster_config.as_ref().map_or("", |e| e.service_name.as_str());
            Discovery::Eds { service_name: if service.is_empty() { given.name.as_str().into() } else { service.into() } }
        }
        D::StrictDns => Discovery::StrictDns(dns(given, assignment()?)?),
        D::LogicalDns => Discovery::LogicalDns(dns(given, assignment()?)?),
        D::OriginalDst => Discovery::OriginalDst(original_dst(given)?),
    })
}

fn dns(given: &xcluster::Cluster, endpoints: Arc<super::ClusterEndpoints>) -> Result<Dns, Invalid> {
    use xc::DnsLookupFamily as F;
    let family = match F::try_from(given.dns_lookup_family) {
        Ok(F::Auto) => DnsFamily::Auto,
        Ok(F::V4Only) => DnsFamily::V4Only,
        Ok(F::V6Only) => DnsFamily::V6Only,
        Ok(F::V4Preferred) => DnsFamily::V4Preferred,
        Ok(F::All) => DnsFamily::All,
        Err(_) => return Err(Invalid::new("dns_lookup_family", format!("{} is not known", given.dns_lookup_family))),
    };
    let refresh_rate = duration_or_none(given.dns_refresh_rate.as_ref()).within("dns_refresh_rate")?.unwrap_or(DNS_REFRESH);
    Ok(Dns { endpoints, refresh_rate, respect_ttl: given.respect_dns_ttl, family })
}

fn original_dst(given: &xcluster::Cluster) -> Result<OriginalDst, Invalid> {
    let Some(xc::LbConfig::OriginalDstLbConfig(config)) = &given.lb_config else { return Ok(OriginalDst::default()) };
    if config.metadata_key.is_some() {
        return Err(Invalid::unsupported("original_dst_lb_config.metadata_key", "a destination from metadata"));
    }
    let header = match config.http_header_name.as_str() {
        _ if !config.use_http_header => None,
        "" => Some(lateen_base::headers::ORIGINAL_DST_HOST.into()),
        name => Some(name.to_ascii_lowercase().into()),
    };
    let port_override = match config.upstream_port_override.as_ref().map(|v| u16::try_from(v.value)) {
        None => None,
        Some(Ok(port)) => Some(port),
        Some(Err(_)) => return Err(Invalid::new("original_dst_lb_config.upstream_port_override", "is above 65535")),
    };
    Ok(OriginalDst { header, port_override })
}

/// The policy, and how localities count when a typed policy says so.
fn lb_policy(given: &xcluster::Cluster) -> Result<(LbPolicy, Option<LocalityMode>), Invalid> {
    use xc::LbPolicy as P;
    if let Some(typed) = &given.load_balancing_policy {
        return typed_policy(typed, 0).within("load_balancing_policy");
    }
    let policy = match P::try_from(given.lb_policy) {
        Ok(P::RoundRobin) => LbPolicy::RoundRobin,
        Ok(P::LeastRequest) => match &given.lb_config {
            Some(xc::LbConfig::LeastRequestLbConfig(config)) => least_request(config.choice_count.as_ref()),
            _ => least_request(None),
        },
        Ok(P::Random) => LbPolicy::Random,
        Ok(P::RingHash) => match &given.lb_config {
            Some(xc::LbConfig::RingHashLbConfig(config)) => ring_hash(
                config.minimum_ring_size.as_ref(),
                config.maximum_ring_size.as_ref(),
                config.hash_function == xc::ring_hash_lb_config::HashFunction::MurmurHash2 as i32,
            )?,
            _ => ring_hash(None, None, false)?,
        },
        Ok(P::Maglev) => match &given.lb_config {
            Some(xc::LbConfig::MaglevLbConfig(config)) => maglev(config.table_size.as_ref())?,
            _ => maglev(None)?,
        },
        Ok(P::ClusterProvided) => LbPolicy::ClusterProvided,
        Ok(P::LoadBalancingPolicyConfig) => return Err(Invalid::new("load_balancing_policy", "is required by lb_policy")),
        Err(_) => return Err(Invalid::new("lb_policy", format!("{} is not known", given.lb_policy))),
    };
    Ok((policy, None))
}

fn least_request(choices: Option<&wkt::UInt32Value>) -> LbPolicy {
    LbPolicy::LeastRequest { choice_count: choices.map_or(2, |v| v.value.max(2)) }
}

fn ring_hash(minimum: Option<&wkt::UInt64Value>, maximum: Option<&wkt::UInt64Value>, murmur: bool) -> Result<LbPolicy, Invalid> {
    let minimum_size = minimum.map_or(RING_SIZE_MIN, |v| v.value).max(1);
    let maximum_size = maximum.map_or(RING_SIZE_MAX, |v| v.value);
    if minimum_size > maximum_size || maximum_size > RING_SIZE_MAX {
        return Err(Invalid::new("ring_hash_lb_config", format!("sizes {minimum_size} to {maximum_size} are not within 1 to {RING_SIZE_MAX}")));
    }
    Ok(LbPolicy::RingHash { minimum_size, maximum_size, murmur })
}

fn maglev(size: Option<&wkt::UInt64Value>) -> Result<LbPolicy, Invalid> {
    let table_size = size.map_or(MAGLEV_SIZE, |v| v.value);
    let prime = table_size > 1 && (2..).take_while(|d| d * d <= table_size).all(|d| !table_size.is_multiple_of(d));
    if table_size > MAGLEV_SIZE_MAX || !prime {
        return Err(Invalid::new("maglev_lb_config.table_size", format!("{table_size} is not a prime up to {MAGLEV_SIZE_MAX}")));
    }
    Ok(LbPolicy::Maglev { table_size })
}

/// The first policy of the list that is understood, as Envoy takes it.
fn typed_policy(given: &xcluster::LoadBalancingPolicy, depth: u32) -> Result<(LbPolicy, Option<LocalityMode>), Invalid> {
    use lateen_envoy_api::envoy::extensions::load_balancing_policies as xlb;
    let mut names = Vec::new();
    for policy in &given.policies {
        let Some(extension) = &policy.typed_extension_config else { continue };
        let Some(any) = &extension.typed_config else { continue };
        let typed = Typed::of(any)?;
        let weighted = |locality: Option<&xlb::common::v3::LocalityLbConfig>| {
            use xlb::common::v3::locality_lb_config::LocalityConfigSpecifier as S;
            match locality.and_then(|l| l.locality_config_specifier.as_ref()) {
                Some(S::LocalityWeightedLbConfig(_)) => LocalityMode::Weighted,
                Some(S::ZoneAwareLbConfig(_)) | None => LocalityMode::Ignored,
            }
        };
        let name = typed.name().to_owned();
        if name == xlb::round_robin::v3::RoundRobin::full_name() {
            let config: xlb::round_robin::v3::RoundRobin = typed.read()?;
            return Ok((LbPolicy::RoundRobin, Some(weighted(config.locality_lb_config.as_ref()))));
        } else if name == xlb::least_request::v3::LeastRequest::full_name() {
            let config: xlb::least_request::v3::LeastRequest = typed.read()?;
            return Ok((least_request(config.choice_count.as_ref()), Some(weighted(config.locality_lb_config.as_ref()))));
        } else if name == xlb::random::v3::Random::full_name() {
            let config: xlb::random::v3::Random = typed.read()?;
            return Ok((LbPolicy::Random, Some(weighted(config.locality_lb_config.as_ref()))));
        } else if name == xlb::ring_hash::v3::RingHash::full_name() {
            let config: xlb::ring_hash::v3::RingHash = typed.read()?;
            let murmur = config.hash_function == xlb::ring_hash::v3::ring_hash::HashFunction::MurmurHash2 as i32;
            return Ok((ring_hash(config.minimum_ring_size.as_ref(), config.maximum_ring_size.as_ref(), murmur)?, None));
        } else if name == xlb::maglev::v3::Maglev::full_name() {
            let config: xlb::maglev::v3::Maglev = typed.read()?;
            return Ok((maglev(config.table_size.as_ref())?, None));
        } else if name == xlb::wrr_locality::v3::WrrLocality::full_name() && depth == 0 {
            let config: xlb::wrr_locality::v3::WrrLocality = typed.read()?;
            let inner = config.endpoint_picking_policy.as_ref().ok_or_else(|| Invalid::new("endpoint_picking_policy", "is required"))?;
            return Ok((typed_policy(inner, depth + 1)?.0, Some(LocalityMode::Weighted)));
        }
        names.push(name);
    }
    Err(Invalid::unsupported("policies", if names.is_empty() { "an empty list".to_owned() } else { names.join(", ") }))
}

fn locality_mode(common: Option<&xc::CommonLbConfig>) -> LocalityMode {
    use xc::common_lb_config::LocalityConfigSpecifier as S;
    match common.and_then(|c| c.locality_config_specifier.as_ref()) {
        Some(S::LocalityWeightedLbConfig(_)) => LocalityMode::Weighted,
        // Zone-aware routing needs the proxy's own cluster; without one Envoy ignores it too.
        Some(S::ZoneAwareLbConfig(_)) | None => LocalityMode::Ignored,
    }
}

fn fails_on_panic(common: Option<&xc::CommonLbConfig>) -> bool {
    use xc::common_lb_config::LocalityConfigSpecifier as S;
    matches!(common.and_then(|c| c.locality_config_specifier.as_ref()), Some(S::ZoneAwareLbConfig(z)) if z.fail_traffic_on_panic)
}

fn circuit_breakers(given: Option<&xcluster::CircuitBreakers>) -> Result<[Thresholds; 2], Invalid> {
    let mut read = [Thresholds::default(); 2];
    for one in given.map_or(&[][..], |c| &c.thresholds) {
        let at = match xcore::RoutingPriority::try_from(one.priority) {
            Ok(xcore::RoutingPriority::Default) => 0,
            Ok(xcore::RoutingPriority::High) => 1,
            Err(_) => return Err(Invalid::new("circuit_breakers.thresholds.priority", format!("{} is not known", one.priority))),
        };
        let defaults = Thresholds::default();
        let number = |v: &Option<wkt::UInt32Value>, default: u32| v.as_ref().map_or(default, |v| v.value);
        let budget = one.retry_budget.as_ref().map(|b| {
            let percent = b.budget_percent.as_ref().map_or(20.0, |p| p.value);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=10000")]
            let hundredths = (percent * 100.0).clamp(0.0, 10_000.0) as u32;
            RetryBudget { budget_percent_hundredths: hundredths, min_retry_concurrency: number(&b.min_retry_concurrency, 3) }
        });
        let thresholds = Thresholds {
            max_connections: number(&one.max_connections, defaults.max_connections),
            max_pending_requests: number(&one.max_pending_requests, defaults.max_pending_requests),
            max_requests: number(&one.max_requests, defaults.max_requests),
            max_retries: number(&one.max_retries, defaults.max_retries),
            retry_budget: budget,
        };
        if let Some(slot) = read.get_mut(at) {
            *slot = thresholds;
        }
    }
    Ok(read)
}

fn transport(given: Option<&xcore::TransportSocket>) -> Result<UpstreamTransport, Invalid> {
    use xcore::transport_socket::ConfigType as C;
    let Some(socket) = given else { return Ok(UpstreamTransport::Raw) };
    let Some(C::TypedConfig(any)) = &socket.config_type else {
        return Err(Invalid::new("typed_config", format!("of `{}` is empty", socket.name)));
    };
    let typed = Typed::of(any)?;
    if typed.name() == xtransport::raw_buffer::v3::RawBuffer::full_name() {
        return Ok(UpstreamTransport::Raw);
    }
    if typed.name() == xtransport::tls::v3::UpstreamTlsContext::full_name() {
        return Ok(UpstreamTransport::Tls(Arc::new(upstream_tls(&typed.read()?)?)));
    }
    Err(Invalid::unsupported("typed_config", format!("transport socket `{}` ({})", socket.name, typed.name())))
}

fn transport_match(given: &xc::TransportSocketMatch) -> Result<TransportMatch, Invalid> {
    let mut criteria = Vec::new();
    for (key, value) in given.r#match.iter().flat_map(|s| &s.fields) {
        let value = super::endpoints::meta_value(value).ok_or_else(|| Invalid::unsupported("match", format!("the value of `{key}`")))?;
        criteria.push((key.as_str().into(), value));
    }
    criteria.sort_by(|a: &(Name, _), b| a.0.cmp(&b.0));
    Ok(TransportMatch { name: given.name.as_str().into(), criteria, transport: transport(given.transport_socket.as_ref()).within("transport_socket")? })
}

/// Reads metadata `istio` / `services`: a list of `{host, name, namespace}`.
fn services(metadata: Option<&xcore::Metadata>) -> Vec<IstioService> {
    use wkt::value::Kind;
    let list = metadata.and_then(|m| m.filter_metadata.get("istio")).and_then(|s| s.fields.get("services"));
    let Some(Kind::ListValue(list)) = list.and_then(|v| v.kind.as_ref()) else { return Vec::new() };
    let text = |fields: &std::collections::HashMap<String, wkt::Value>, key: &str| match fields.get(key).and_then(|v| v.kind.as_ref()) {
        Some(Kind::StringValue(text)) => Name::from(text.as_str()),
        _ => Name::default(),
    };
    let service = |value: &wkt::Value| match &value.kind {
        Some(Kind::StructValue(s)) => {
            Some(IstioService { host: text(&s.fields, "host"), name: text(&s.fields, "name"), namespace: text(&s.fields, "namespace") })
        }
        _ => None,
    };
    list.values.iter().filter_map(service).collect()
}
