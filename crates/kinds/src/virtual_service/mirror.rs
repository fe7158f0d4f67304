//! Mirroring: a copy of the request for a second destination, whose answer nobody waits for.
//!
//! - Reads: `VirtualService.http[].mirror`, `mirrorPercentage`, `mirrorPercent`, `mirrors[]`.
//! - Writes: `RouteAction.RequestMirrorPolicy`.
//! - Twin: `proxy/src/http/mirror.rs`, which sends the copies.
//! - Rule: 100 % where no percentage is given; 0 % means no policy at all; the copy's Host gets no `-shadow` suffix.

use lateen_envoy_api::envoy::config::route::v3::route_action::RequestMirrorPolicy;
use lateen_istio_api::{Destination, HTTPRoute};

use crate::check::Check;
use crate::wire;

/// One copy to be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mirror<'a> {
    /// Where to.
    pub destination: &'a Destination,
    /// Of how many requests, 0 to 100.
    pub percent: f64,
}

/// Checks mirroring of a rule at `path`.
pub fn validate(rule: &HTTPRoute, path: &str, check: &mut Check<'_>) {
    if let Some(mirror) = &rule.mirror {
        super::destination::validate(mirror, &format!("{path}.mirror"), check);
    }
    if rule.mirror.is_some() && !rule.mirrors.is_empty() {
        check.error(format!("{path}.mirrors"), "mirror and mirrors are both set", "keep mirrors");
    }
    if let Some(percentage) = &rule.mirror_percentage {
        check.percent(&format!("{path}.mirrorPercentage.value"), percentage.value);
    }
    if let Some(percent) = rule.mirror_percent {
        check.percent(&format!("{path}.mirrorPercent"), f64::from(percent));
    }
    if rule.mirror.is_none() && (rule.mirror_percentage.is_some() || rule.mirror_percent.is_some()) {
        check.warn(format!("{path}.mirrorPercentage"), "there is a mirror percentage but no mirror", "add mirror, or remove the percentage");
    }
    for (i, mirror) in rule.mirrors.iter().enumerate() {
        let path = format!("{path}.mirrors[{i}]");
        match &mirror.destination {
            Some(destination) => super::destination::validate(destination, &format!("{path}.destination"), check),
            None => check.error(&path, "the mirror has no destination", "add destination.host"),
        }
        if let Some(percentage) = &mirror.percentage {
            check.percent(&format!("{path}.percentage.value"), percentage.value);
        }
    }
}

/// The copies a rule asks for; none for those at 0 %.
#[must_use]
pub fn mirrors(rule: &HTTPRoute) -> Vec<Mirror<'_>> {
    let own = rule.mirror.as_ref().map(|destination| {
        let old = rule.mirror_percent.map(f64::from);
        let percent = rule.mirror_percentage.as_ref().map(|percentage| percentage.value).or(old).unwrap_or(100.0);
        Mirror { destination, percent }
    });
    let listed = rule.mirrors.iter().filter_map(|mirror| {
        let percent = mirror.percentage.as_ref().map_or(100.0, |percentage| percentage.value);
        Some(Mirror { destination: mirror.destination.as_ref()?, percent })
    });
    own.into_iter().chain(listed).filter(|mirror| mirror.percent > 0.0).collect()
}

/// Envoy's form of one copy, towards `cluster`.
#[must_use]
pub fn lower(mirror: &Mirror<'_>, cluster: String) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster,
        runtime_fraction: Some(wire::runtime_fraction(mirror.percent)),
        trace_sampled: Some(wire::boolean(false)),
        disable_shadow_host_suffix_append: true,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: serde_json::Value) -> HTTPRoute {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn no_percentage_means_all() {
        assert_eq!(mirrors(&rule(serde_json::json!({"mirror": {"host": "a"}})))[0].percent, 100.0);
    }

    #[test]
    fn zero_percent_means_no_mirror() {
        assert!(mirrors(&rule(serde_json::json!({"mirror": {"host": "a"}, "mirrorPercentage": {"value": 0}}))).is_empty());
    }
}
