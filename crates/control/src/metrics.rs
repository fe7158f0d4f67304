//! The control plane's own metrics, under Istio's names.
//!
//! - Rule: names and label keys are those that dashboards query (`pilot_*`, `citadel_*`); the text form keeps counters without the
//!   `_total` that client libraries append, because Istio's have none.
//! - Limits: `SERIES_MAX` series per metric; further label values are counted under `other`.
//! - Lock: one mutex around plain counters, never held across an await; updates are rare next to proxy traffic.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Series per metric.
const SERIES_MAX: usize = 1000;
/// Upper bounds in seconds. Source: Istio's pilot histograms.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 10.0, 30.0];

/// Name, kind and help of every metric, so that each is there from the start.
const TABLE: &[(&str, &str, &str)] = &[
    ("pilot_xds", "gauge", "Number of proxies connected over xDS."),
    ("pilot_xds_pushes", "counter", "Responses sent, by resource type."),
    ("pilot_push_triggers", "counter", "Changes that led to a push."),
    ("pilot_total_xds_rejects", "counter", "Responses that proxies refused, by resource type."),
    ("pilot_xds_cds_reject", "gauge", "Proxies whose clusters stand refused."),
    ("pilot_xds_eds_reject", "gauge", "Proxies whose endpoints stand refused."),
    ("pilot_xds_lds_reject", "gauge", "Proxies whose listeners stand refused."),
    ("pilot_xds_rds_reject", "gauge", "Proxies whose routes stand refused."),
    ("pilot_xds_expired_nonce", "counter", "Answers to responses that were no longer the last."),
    ("pilot_total_rejected_configs", "gauge", "Objects that are reported as wrong."),
    ("pilot_services", "gauge", "Services known."),
    ("pilot_virt_services", "gauge", "VirtualServices known."),
    ("pilot_inbound_updates", "counter", "Changes received from the store."),
    ("pilot_proxy_convergence_time", "histogram", "Seconds from a change to its push to a proxy."),
    ("pilot_xds_push_time", "histogram", "Seconds to compile for one proxy."),
    ("pilot_debounce_time", "histogram", "Seconds a change waited for further ones."),
    ("pilot_xds_config_size_bytes", "gauge", "Bytes of the last response, by resource type."),
    ("citadel_server_csr_count", "counter", "Certificate requests received."),
    ("citadel_server_success_cert_issuance_count", "counter", "Certificates issued."),
    ("citadel_server_authentication_failure_count", "counter", "Certificate requests of callers who are not authenticated."),
    ("citadel_server_csr_sign_err_count", "counter", "Certificate requests refused."),
    ("citadel_server_root_cert_expiry_timestamp", "gauge", "Unix time at which the root expires."),
    ("istiod_uptime_seconds", "gauge", "Seconds since start."),
    ("pilot_info", "gauge", "Version."),
];

#[derive(Default, Clone)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

#[derive(Default)]
struct Values {
    numbers: BTreeMap<&'static str, BTreeMap<String, f64>>,
    histograms: BTreeMap<&'static str, Histogram>,
}

/// All metrics of one control plane. `labels` arguments are ready-made, such as `type="cds"`; empty for none.
#[derive(Default)]
pub struct Metrics(Mutex<Values>);

impl Metrics {
    /// Adds to a counter.
    pub fn add(&self, name: &'static str, labels: &str, amount: u64) {
        #[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
        self.with(|v| *series(v, name, labels) += amount as f64);
    }

    /// Sets a gauge.
    pub fn set(&self, name: &'static str, labels: &str, value: f64) {
        self.with(|v| *series(v, name, labels) = value);
    }

    /// Notes a span in a histogram.
    pub fn observe(&self, name: &'static str, span: Duration) {
        let seconds = span.as_secs_f64();
        self.with(|v| {
            let histogram = v.histograms.entry(name).or_default();
            histogram.count += 1;
            histogram.sum += seconds;
            for (bound, count) in BUCKETS.iter().zip(histogram.counts.iter_mut()) {
                if seconds <= *bound {
                    *count += 1;
                }
            }
        });
    }

    /// Prometheus' text form.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(8192);
        self.with(|v| {
            for (name, kind, help) in TABLE {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
                if *kind == "histogram" {
                    write_histogram(&mut text, name, &v.histograms.get(name).cloned().unwrap_or_default());
                } else if let Some(series) = v.numbers.get(name) {
                    for (labels, value) in series {
                        let _ = if labels.is_empty() { writeln!(text, "{name} {value}") } else { writeln!(text, "{name}{{{labels}}} {value}") };
                    }
                } else {
                    let _ = writeln!(text, "{name} 0");
                }
            }
        });
        text
    }

    fn with<T>(&self, f: impl FnOnce(&mut Values) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn series<'a>(values: &'a mut Values, name: &'static str, labels: &str) -> &'a mut f64 {
    debug_assert!(TABLE.iter().any(|(n, _, _)| *n == name), "{name} is not in the table");
    let all = values.numbers.entry(name).or_default();
    let labels = if all.len() >= SERIES_MAX && !all.contains_key(labels) { "other=\"true\"" } else { labels };
    all.entry(labels.to_owned()).or_insert(0.0)
}

fn write_histogram(text: &mut String, name: &str, histogram: &Histogram) {
    for (bound, count) in BUCKETS.iter().zip(histogram.counts) {
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let Histogram { count, sum, .. } = histogram;
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_istios_names_without_total() {
        let metrics = Metrics::default();
        metrics.add("pilot_xds_pushes", "type=\"cds\"", 2);
        metrics.observe("pilot_proxy_convergence_time", Duration::from_millis(3));
        let text = metrics.text();
        assert!(text.contains("\npilot_xds_pushes{type=\"cds\"} 2\n"), "{text}");
        assert!(text.contains("pilot_proxy_convergence_time_bucket{le=\"0.005\"} 1\n"));
        assert!(text.contains("\npilot_xds 0\n"));
    }
}
