//! Locality preferences: nearby endpoints first, others when those fail, or fixed shares.
//!
//! - Reads: `trafficPolicy.loadBalancer.localityLbSetting`, `MeshConfig.localityLbSetting`, the proxy's own locality.
//! - Rule: `distribute` sets weights; otherwise priorities apply, and only with outlier detection, as in Istio.
//! - Limits: `failoverPriority` by labels is not lowered.
//! - Not here: ejection, which makes a lower priority take over.

use crate::{View, pb};
use lateen_envoy_api::envoy::config::core::v3::Locality as EnvoyLocality;
use lateen_envoy_api::envoy::config::endpoint::v3::LocalityLbEndpoints;
use lateen_istio_api::{LocalityDistribute, LocalityLoadBalancerSetting};
use lateen_kinds::destination_rule::subset::Effective;
use lateen_mesh::Locality;

/// Localities with the priorities or weights the policy gives them for this proxy.
pub(super) fn prioritized(view: &View<'_>, endpoints: Vec<LocalityLbEndpoints>, policy: &Effective<'_>) -> Vec<LocalityLbEndpoints> {
    let own = policy.load_balancer.and_then(|lb| lb.locality_lb_setting.as_ref());
    let setting = own.or(view.config().locality_lb_setting.as_ref());
    let Some(setting) = setting.filter(|s| s.enabled != Some(false)) else { return endpoints };
    let from = proxy_locality(view);
    if from == Locality::default() {
        return endpoints;
    }
    if let Some(shares) = setting.distribute.iter().find(|d| covers(&d.from, &from)) {
        return distributed(endpoints, shares);
    }
    if policy.outlier_detection.is_none() {
        return endpoints;
    }
    failover(endpoints, setting, &from)
}

fn proxy_locality(view: &View<'_>) -> Locality {
    if view.proxy.locality != Locality::default() {
        return view.proxy.locality.clone();
    }
    view.proxy.ip_addresses.iter().find_map(|a| view.snapshot.workload_at(a)).map(|w| w.locality.clone()).unwrap_or_default()
}

/// Whether `pattern` (`region/zone/*`) takes in a locality.
fn covers(pattern: &str, locality: &Locality) -> bool {
    let parts = [&locality.region, &locality.zone, &locality.sub_zone];
    pattern.split('/').zip(parts).all(|(wanted, part)| wanted == "*" || wanted == part)
}

fn distributed(endpoints: Vec<LocalityLbEndpoints>, shares: &LocalityDistribute) -> Vec<LocalityLbEndpoints> {
    let share = |l: &EnvoyLocality| shares.to.iter().find(|(pattern, _)| covers(pattern, &ours(l))).map(|(pattern, share)| (pattern.clone(), *share));
    let weighted = endpoints.iter().map(|e| (e.locality.as_ref().and_then(share), weight(e))).collect::<Vec<_>>();
    let each = |(endpoint, (found, own)): (LocalityLbEndpoints, (Option<(String, u32)>, u32))| {
        let (pattern, share) = found?;
        // Localities under one pattern divide its share by their own weights.
        let total: u64 = weighted.iter().filter(|(f, _)| f.as_ref().is_some_and(|(p, _)| *p == pattern)).map(|(_, w)| u64::from(*w)).sum();
        let part = (u64::from(share) * u64::from(own)).div_ceil(total.max(1));
        Some(LocalityLbEndpoints { load_balancing_weight: pb::uint(u32::try_from(part).unwrap_or(u32::MAX)), ..endpoint })
    };
    endpoints.into_iter().zip(weighted.clone()).filter_map(each).collect()
}

fn weight(endpoints: &LocalityLbEndpoints) -> u32 {
    endpoints.load_balancing_weight.map_or(1, |w| w.value)
}

/// Nearest first: same sub-zone, zone, region, then the region named for failover, then the rest; without gaps.
fn failover(mut endpoints: Vec<LocalityLbEndpoints>, setting: &LocalityLoadBalancerSetting, from: &Locality) -> Vec<LocalityLbEndpoints> {
    let next = setting.failover.iter().find(|f| f.from == from.region).map(|f| f.to.as_str());
    let distance = |l: &Locality| -> u32 {
        let region = l.region == from.region;
        let zone = region && l.zone == from.zone;
        match (region, zone, zone && l.sub_zone == from.sub_zone) {
            (_, _, true) => 0,
            (_, true, false) => 1,
            (true, false, false) => 2,
            (false, _, _) if next == Some(l.region.as_str()) || next.is_none() => 3,
            (false, _, _) => 4,
        }
    };
    let mut used: Vec<u32> = Vec::new();
    for group in &mut endpoints {
        group.priority = group.locality.as_ref().map_or(4, |l| distance(&ours(l)));
        used.push(group.priority);
    }
    used.sort_unstable();
    used.dedup();
    for group in &mut endpoints {
        group.priority = used.iter().position(|p| *p == group.priority).and_then(|p| u32::try_from(p).ok()).unwrap_or_default();
    }
    endpoints.sort_by_key(|group| group.priority);
    endpoints
}

fn ours(locality: &EnvoyLocality) -> Locality {
    Locality { region: locality.region.clone(), zone: locality.zone.clone(), sub_zone: locality.sub_zone.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: &str) -> LocalityLbEndpoints {
        let l = Locality::parse(path);
        let locality = EnvoyLocality { region: l.region, zone: l.zone, sub_zone: l.sub_zone };
        LocalityLbEndpoints { locality: Some(locality), load_balancing_weight: pb::uint(1), ..Default::default() }
    }

    #[test]
    fn the_own_zone_comes_first_and_priorities_have_no_gaps() {
        let setting = LocalityLoadBalancerSetting::default();
        let found = failover(vec![group("r2/z1/"), group("r1/z1/")], &setting, &Locality::parse("r1/z1/"));
        let order: Vec<(u32, &str)> = found.iter().map(|g| (g.priority, g.locality.as_ref().unwrap().region.as_str())).collect();
        assert_eq!(order, [(0, "r1"), (1, "r2")]);
    }

    #[test]
    fn shares_are_divided_within_a_pattern() {
        let shares = LocalityDistribute { from: "r1/*".into(), to: [("r1/*".to_owned(), 80), ("r2/*".to_owned(), 20)].into() };
        let found = distributed(vec![group("r1/z1/"), group("r1/z2/"), group("r2/z1/"), group("r3/z1/")], &shares);
        assert_eq!(found.iter().map(weight).collect::<Vec<_>>(), [40, 40, 20]);
    }
}
