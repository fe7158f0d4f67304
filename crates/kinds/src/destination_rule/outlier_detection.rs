//! Outlier detection: taking endpoints that fail out of balancing for a while.
//!
//! - Reads: `trafficPolicy.outlierDetection`.
//! - Writes: `Cluster.outlier_detection` and the panic threshold.
//! - Twin: `proxy/src/cluster/outlier_detection.rs`, which ejects; `plan/src/outlier.rs`.
//! - Rule: success-rate ejection is off; a threshold of 0 turns its detector off; with no `minHealthPercent` the proxy never panics into ejected endpoints.

use lateen_envoy_api::envoy::config::cluster::v3::{Cluster, OutlierDetection as EnvoyOutlierDetection, cluster::CommonLbConfig};
use lateen_istio_api::OutlierDetection;

use crate::check::Check;
use crate::wire;

/// Checks the settings at `path`.
pub fn validate(outlier: &OutlierDetection, path: &str, check: &mut Check<'_>) {
    check.duration(&format!("{path}.interval"), outlier.interval);
    check.duration(&format!("{path}.baseEjectionTime"), outlier.base_ejection_time);
    check.percent(&format!("{path}.maxEjectionPercent"), f64::from(outlier.max_ejection_percent));
    check.percent(&format!("{path}.minHealthPercent"), f64::from(outlier.min_health_percent));
    if outlier.consecutive_errors < 0 {
        check.error(format!("{path}.consecutiveErrors"), "the number is negative", "use consecutive5xxErrors, 0 or more");
    } else if outlier.consecutive_errors > 0 {
        check.warn(format!("{path}.consecutiveErrors"), "consecutiveErrors is deprecated", "use consecutiveGatewayErrors");
    }
    if outlier.consecutive_local_origin_failures.is_some() && !outlier.split_external_local_origin_errors {
        let path = format!("{path}.consecutiveLocalOriginFailures");
        check.error(path, "it has no effect without splitExternalLocalOriginErrors", "set splitExternalLocalOriginErrors: true");
    }
    check.not_enforced_if(path, &[("outlierDetectionHttpErrorCodes", !outlier.outlier_detection_http_error_codes.is_empty())]);
}

/// Writes the detector into `cluster`. Without one, only the panic threshold is set, to 0 as Istio has it.
pub fn apply(outlier: Option<&OutlierDetection>, cluster: &mut Cluster) {
    let healthy = outlier.map_or(0, |outlier| outlier.min_health_percent.clamp(0, 100));
    let common = cluster.common_lb_config.get_or_insert_with(CommonLbConfig::default);
    common.healthy_panic_threshold = Some(wire::percent(f64::from(healthy)));
    cluster.outlier_detection = outlier.map(lower);
}

fn lower(outlier: &OutlierDetection) -> EnvoyOutlierDetection {
    let enforcing = |threshold: u32| Some(wire::uint32(if threshold > 0 { 100 } else { 0 }));
    let mut lowered = EnvoyOutlierDetection {
        interval: outlier.interval.map(wire::duration),
        base_ejection_time: outlier.base_ejection_time.map(wire::duration),
        max_ejection_percent: wire::positive(outlier.max_ejection_percent),
        enforcing_success_rate: Some(wire::uint32(0)),
        ..Default::default()
    };
    if let Some(threshold) = outlier.consecutive_5xx_errors {
        lowered.consecutive_5xx = (threshold > 0).then(|| wire::uint32(threshold));
        lowered.enforcing_consecutive_5xx = enforcing(threshold);
    }
    let old = u32::try_from(outlier.consecutive_errors).ok().filter(|threshold| *threshold > 0);
    if let Some(threshold) = outlier.consecutive_gateway_errors.or(old) {
        lowered.consecutive_gateway_failure = (threshold > 0).then(|| wire::uint32(threshold));
        lowered.enforcing_consecutive_gateway_failure = enforcing(threshold);
    }
    if outlier.split_external_local_origin_errors {
        lowered.split_external_local_origin_errors = true;
        lowered.enforcing_local_origin_success_rate = Some(wire::uint32(0));
        if let Some(threshold) = outlier.consecutive_local_origin_failures {
            lowered.consecutive_local_origin_failure = (threshold > 0).then(|| wire::uint32(threshold));
            lowered.enforcing_consecutive_local_origin_failure = enforcing(threshold);
        }
    }
    lowered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(json: serde_json::Value) -> EnvoyOutlierDetection {
        lower(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn success_rate_is_always_off() {
        assert_eq!(lowered(serde_json::json!({})).enforcing_success_rate.unwrap().value, 0);
    }

    #[test]
    fn zero_turns_a_detector_off() {
        let detector = lowered(serde_json::json!({"consecutive5xxErrors": 0}));
        assert_eq!((detector.consecutive_5xx, detector.enforcing_consecutive_5xx.unwrap().value), (None, 0));
    }

    #[test]
    fn without_rule_the_panic_threshold_is_zero() {
        let mut cluster = Cluster::default();
        apply(None, &mut cluster);
        assert_eq!(cluster.common_lb_config.unwrap().healthy_panic_threshold.unwrap().value, 0.0);
    }
}
