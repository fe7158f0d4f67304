//! Load balancing: which endpoint of a destination gets the next request.
//!
//! - Reads: `trafficPolicy.loadBalancer`.
//! - Writes: `lb_policy`, `lb_config` and locality weighting of `config.cluster.v3.Cluster`; the route's hash policy.
//! - Twin: `plan/src/lb/`, which picks; `plan/src/route/hash.rs`.
//! - Rule: least request where nothing is said; `LEAST_CONN` is its old name; a consistent hash needs the route's [`hash_policy`] too.
//! - Not here: priorities of localities (`compile/src/endpoint/`).

use lateen_envoy_api::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig,
    SlowStartConfig, common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig},
};
use lateen_envoy_api::envoy::config::cluster::v3::Cluster;
use lateen_envoy_api::envoy::config::core::v3::RuntimeDouble;
use lateen_envoy_api::envoy::config::route::v3::route_action::{HashPolicy, hash_policy as hash};
use lateen_envoy_api::wkt::UInt64Value;
use lateen_istio_api::{ConsistentHashLB, LoadBalancerSettings, LocalityLoadBalancerSetting, SimpleLB};

use crate::check::Check;
use crate::wire;

/// Smallest ring where nothing is said. Source: Istio's `minimumRingSize`.
const RING_SIZE_MIN: u64 = 1024;
/// Largest ring. Source: Envoy's `maximum_ring_size` default.
const RING_SIZE_MAX: u64 = 8 * 1024 * 1024;
/// Largest Maglev table. Source: Envoy.
const TABLE_SIZE_MAX: u64 = 5_000_011;

/// Checks the settings at `path`.
pub fn validate(settings: &LoadBalancerSettings, path: &str, check: &mut Check<'_>) {
    if settings.simple.is_some() && settings.consistent_hash.is_some() {
        check.error(path, "simple and consistentHash are both set", "keep one of them");
    }
    if let Some(consistent) = &settings.consistent_hash {
        validate_hash(consistent, &format!("{path}.consistentHash"), check);
    }
    if settings.locality_lb_setting.is_some() && settings.zone_aware_lb_setting.is_some() {
        check.error(path, "localityLbSetting and zoneAwareLbSetting are both set", "keep one of them");
    }
    if let Some(locality) = &settings.locality_lb_setting {
        validate_locality(locality, &format!("{path}.localityLbSetting"), check);
    }
    if let Some(warmup) = &settings.warmup {
        let path = format!("{path}.warmup");
        match warmup.duration {
            Some(_) => check.duration(&format!("{path}.duration"), warmup.duration),
            None => check.error(&path, "the warm-up has no duration", "add duration, such as 60s"),
        }
        if let Some(percent) = warmup.minimum_percent {
            check.percent(&format!("{path}.minimumPercent"), percent);
        }
        if warmup.aggression.is_some_and(|aggression| aggression < 1.0) {
            check.error(format!("{path}.aggression"), "aggression is below 1", "use 1 or more");
        }
        check.not_enforced(&path);
    }
    check.duration(&format!("{path}.warmupDurationSecs"), settings.warmup_duration_secs);
    check.not_enforced_if(path, &[("zoneAwareLbSetting", settings.zone_aware_lb_setting.is_some()), ("warmupDurationSecs", settings.warmup_duration_secs.is_some())]);
}

fn validate_hash(consistent: &ConsistentHashLB, path: &str, check: &mut Check<'_>) {
    let keys = [
        consistent.http_header_name.is_some(),
        consistent.http_cookie.is_some(),
        consistent.use_source_ip.is_some(),
        consistent.http_query_parameter_name.is_some(),
    ];
    match keys.iter().filter(|set| **set).count() {
        0 => check.error(path, "the hash has no key", "add httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName"),
        1 => {}
        _ => check.error(path, "the hash has several keys", "keep one of them"),
    }
    if consistent.http_header_name.as_deref() == Some("") {
        check.error(format!("{path}.httpHeaderName"), "the header name is empty", "name a header");
    }
    if let Some(cookie) = &consistent.http_cookie {
        if cookie.name.is_empty() {
            check.error(format!("{path}.httpCookie.name"), "the cookie has no name", "name the cookie");
        }
        check.duration_or_zero(&format!("{path}.httpCookie.ttl"), cookie.ttl);
        for (i, _) in cookie.attributes.iter().enumerate().filter(|(_, attribute)| attribute.name.is_empty()) {
            check.error(format!("{path}.httpCookie.attributes[{i}].name"), "the attribute has no name", "name it, such as SameSite");
        }
    }
    if consistent.ring_hash.is_some() && consistent.maglev.is_some() {
        check.error(path, "ringHash and maglev are both set", "keep one of them");
    }
    if consistent.minimum_ring_size > RING_SIZE_MAX || consistent.ring_hash.as_ref().is_some_and(|ring| ring.minimum_ring_size > RING_SIZE_MAX) {
        check.error(path, "the ring is too large", format!("use at most {RING_SIZE_MAX}"));
    }
    let table = consistent.maglev.as_ref().map(|maglev| maglev.table_size).filter(|size| *size != 0);
    if let Some(size) = table.filter(|size| *size > TABLE_SIZE_MAX || !is_prime(*size)) {
        check.error(format!("{path}.maglev.tableSize"), format!("{size} is no prime of at most {TABLE_SIZE_MAX}"), "use a prime, such as 65537");
    }
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

fn validate_locality(locality: &LocalityLoadBalancerSetting, path: &str, check: &mut Check<'_>) {
    if !locality.distribute.is_empty() && (!locality.failover.is_empty() || !locality.failover_priority.is_empty()) {
        check.error(path, "distribute and failover are both set", "keep one of them");
    }
    for (i, distribute) in locality.distribute.iter().enumerate() {
        let path = format!("{path}.distribute[{i}]");
        let sum: u64 = distribute.to.values().map(|share| u64::from(*share)).sum();
        if sum != 100 {
            check.error(format!("{path}.to"), format!("the shares add up to {sum}"), "make them add up to 100");
        }
        if distribute.to.values().any(|share| *share == 0) {
            check.error(format!("{path}.to"), "a share is 0", "leave the locality out instead");
        }
        for name in std::iter::once(&distribute.from).chain(distribute.to.keys()) {
            if name.is_empty() || name.split('/').any(str::is_empty) || name.split('/').count() > 3 {
                check.error(&path, format!("\"{name}\" is no locality"), "use region/zone/subzone; * stands for all");
            }
        }
    }
    check.not_enforced_if(path, &[("failoverPriority", !locality.failover_priority.is_empty())]);
    for (i, failover) in locality.failover.iter().enumerate() {
        let path = format!("{path}.failover[{i}]");
        if failover.from == failover.to {
            check.error(&path, format!("\"{}\" fails over to itself", failover.from), "name another region in to");
        }
        for (field, region) in [("from", &failover.from), ("to", &failover.to)] {
            if region.contains(['/', '*']) || region.is_empty() {
                check.error(format!("{path}.{field}"), format!("\"{region}\" is no region"), "name a region alone");
            }
        }
    }
}

/// Writes the balancing policy into `cluster`, whose discovery is already set; `None` is Istio's default.
pub fn apply(settings: Option<&LoadBalancerSettings>, cluster: &mut Cluster) {
    let empty = LoadBalancerSettings::default();
    let settings = settings.unwrap_or(&empty);
    if let Some(consistent) = &settings.consistent_hash {
        apply_hash(consistent, cluster);
    } else {
        apply_simple(settings, cluster);
    }
    if is_locality_weighted(settings, cluster) {
        let common = cluster.common_lb_config.get_or_insert_with(CommonLbConfig::default);
        common.locality_config_specifier = Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {}));
    }
}

/// Localities weigh in where they are set and either a distribution or outlier detection makes them act.
fn is_locality_weighted(settings: &LoadBalancerSettings, cluster: &Cluster) -> bool {
    settings.locality_lb_setting.as_ref().is_some_and(|locality| {
        locality.enabled != Some(false) && (!locality.distribute.is_empty() || cluster.outlier_detection.is_some())
    })
}

fn apply_simple(settings: &LoadBalancerSettings, cluster: &mut Cluster) {
    let slow_start = slow_start(settings);
    let policy = match settings.simple.unwrap_or_default() {
        SimpleLB::Unspecified | SimpleLB::LeastConn | SimpleLB::LeastRequest => {
            cluster.lb_config = slow_start.map(|slow_start| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig { slow_start_config: Some(slow_start), ..Default::default() })
            });
            LbPolicy::LeastRequest
        }
        SimpleLB::RoundRobin => {
            cluster.lb_config = slow_start.map(|slow_start| LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(slow_start) }));
            LbPolicy::RoundRobin
        }
        SimpleLB::Random => LbPolicy::Random,
        SimpleLB::Passthrough => {
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into()));
            cluster.eds_cluster_config = None;
            cluster.load_assignment = None;
            LbPolicy::ClusterProvided
        }
    };
    cluster.lb_policy = policy.into();
}

fn slow_start(settings: &LoadBalancerSettings) -> Option<SlowStartConfig> {
    let old = settings.warmup_duration_secs.map(|window| (window, None, None));
    let new = settings.warmup.as_ref().and_then(|warmup| Some((warmup.duration?, warmup.aggression, warmup.minimum_percent)));
    let (window, aggression, minimum_percent) = new.or(old)?;
    Some(SlowStartConfig {
        slow_start_window: Some(wire::duration(window)),
        aggression: aggression.map(|default_value| RuntimeDouble { default_value, runtime_key: String::new() }),
        min_weight_percent: minimum_percent.map(wire::percent),
    })
}

fn apply_hash(consistent: &ConsistentHashLB, cluster: &mut Cluster) {
    if let Some(maglev) = &consistent.maglev {
        cluster.lb_policy = LbPolicy::Maglev.into();
        let table_size = (maglev.table_size != 0).then_some(UInt64Value { value: maglev.table_size });
        cluster.lb_config = table_size.map(|size| LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: Some(size) }));
        return;
    }
    let own = consistent.ring_hash.as_ref().map(|ring| ring.minimum_ring_size).filter(|size| *size != 0);
    let old = Some(consistent.minimum_ring_size).filter(|size| *size != 0);
    cluster.lb_policy = LbPolicy::RingHash.into();
    cluster.lb_config = Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
        minimum_ring_size: Some(UInt64Value { value: own.or(old).unwrap_or(RING_SIZE_MIN) }),
        ..Default::default()
    }));
}

/// What routes to this destination hash on; `None` without a consistent hash.
#[must_use]
pub fn hash_policy(settings: Option<&LoadBalancerSettings>) -> Option<HashPolicy> {
    let consistent = settings?.consistent_hash.as_ref()?;
    let specifier = if let Some(name) = &consistent.http_header_name {
        hash::PolicySpecifier::Header(hash::Header { header_name: name.clone(), regex_rewrite: None })
    } else if let Some(cookie) = &consistent.http_cookie {
        let attributes = cookie.attributes.iter().map(|a| hash::CookieAttribute { name: a.name.clone(), value: a.value.clone() }).collect();
        hash::PolicySpecifier::Cookie(hash::Cookie { name: cookie.name.clone(), ttl: cookie.ttl.map(wire::duration), path: cookie.path.clone(), attributes })
    } else if consistent.use_source_ip == Some(true) {
        hash::PolicySpecifier::ConnectionProperties(hash::ConnectionProperties { source_ip: true })
    } else {
        let name = consistent.http_query_parameter_name.clone()?;
        hash::PolicySpecifier::QueryParameter(hash::QueryParameter { name })
    };
    Some(HashPolicy { terminal: false, policy_specifier: Some(specifier) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(json: serde_json::Value) -> Cluster {
        let mut cluster = Cluster::default();
        apply(Some(&serde_json::from_value(json).unwrap()), &mut cluster);
        cluster
    }

    #[test]
    fn least_request_is_the_default() {
        let mut cluster = Cluster::default();
        apply(None, &mut cluster);
        assert_eq!(cluster.lb_policy(), LbPolicy::LeastRequest);
        assert_eq!(applied(serde_json::json!({"simple": "LEAST_CONN"})).lb_policy(), LbPolicy::LeastRequest);
    }

    #[test]
    fn passthrough_takes_the_clients_destination() {
        let cluster = applied(serde_json::json!({"simple": "PASSTHROUGH"}));
        assert_eq!(cluster.lb_policy(), LbPolicy::ClusterProvided);
        assert_eq!(cluster.cluster_discovery_type, Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())));
    }

    #[test]
    fn a_hash_is_a_ring_of_at_least_1024() {
        let cluster = applied(serde_json::json!({"consistentHash": {"httpHeaderName": "x"}}));
        let Some(LbConfig::RingHashLbConfig(ring)) = cluster.lb_config else { unreachable!() };
        assert_eq!(ring.minimum_ring_size.unwrap().value, 1024);
    }

    #[test]
    fn the_hash_key_goes_to_the_route() {
        let settings = serde_json::from_value(serde_json::json!({"consistentHash": {"useSourceIp": true}})).unwrap();
        let policy = hash_policy(Some(&settings)).unwrap();
        assert_eq!(policy.policy_specifier, Some(hash::PolicySpecifier::ConnectionProperties(hash::ConnectionProperties { source_ip: true })));
    }
}
