//! Telemetry: which requests are logged, counted and traced.
//!
//! - Reads: `telemetry.istio.io` Telemetry.
//! - Twin: `compile/src/access_log.rs`.
//! - Limits: of `accessLogging` the built-in provider and `disabled` are enforced; other providers, filters, metric overrides and tracing
//!   are reported as not enforced.

use lateen_base::Findings;
use lateen_istio_api::{Telemetry, WorkloadMode};
use lateen_mesh::{Object, Snapshot};

use crate::check::Check;
use crate::kind::{Gvk, Kind};

/// The provider that every mesh has: the proxy's own log file. Source: Istio's built-in extension provider.
const ENVOY_PROVIDER: &str = "envoy";

/// The kind.
pub enum TelemetryKind {}

impl Kind for TelemetryKind {
    const GVK: Gvk = Gvk { group: "telemetry.istio.io", version: "v1", also: &["v1alpha1"], kind: "Telemetry", plural: "telemetries" };
    type Spec = Telemetry;

    fn objects(mesh: &Snapshot) -> &[Object<Telemetry>] {
        &mesh.telemetries
    }

    fn validate(object: &Object<Telemetry>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let spec = &object.spec;
        check.selector(spec.selector.as_ref());
        check.target_refs(spec.target_ref.as_ref(), &spec.target_refs, spec.selector.as_ref());
        for (i, logging) in spec.access_logging.iter().enumerate() {
            if let Some(filter) = logging.filter.as_ref().filter(|filter| !is_balanced(&filter.expression)) {
                let message = format!("\"{}\" is not a CEL expression: brackets or quotes do not pair up", filter.expression);
                check.error(format!("spec.accessLogging[{i}].filter.expression"), message, "write one such as response.code >= 400");
            }
            let partial = logging.r#match.as_ref().is_some_and(|selector| selector.mode != WorkloadMode::ClientAndServer);
            let elsewhere = logging.providers.iter().any(|provider| provider.name != ENVOY_PROVIDER);
            let fields = [("filter", logging.filter.is_some()), ("match", partial), ("providers", elsewhere)];
            check.not_enforced_if(&format!("spec.accessLogging[{i}]"), &fields);
        }
        for (i, tracing) in spec.tracing.iter().enumerate() {
            if let Some(percent) = tracing.random_sampling_percentage {
                check.percent(&format!("spec.tracing[{i}].randomSamplingPercentage"), percent);
            }
            if tracing.providers.len() > 1 {
                check.error(format!("spec.tracing[{i}].providers"), "tracing takes one provider", "keep one of them");
            }
        }
        validate_metrics(spec, &mut check);
        check.not_enforced_if("spec", &[("tracing", !spec.tracing.is_empty()), ("metrics", !spec.metrics.is_empty())]);
    }

    fn analyze(_: &Object<Telemetry>, _: &Snapshot, _: &mut Findings) {}
}

/// Whether every bracket and quote of an expression has its partner. The expression itself is not parsed yet.
fn is_balanced(expression: &str) -> bool {
    let mut open = Vec::new();
    let mut quote = None;
    for c in expression.chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(') => open.push(')'),
            (None, '[') => open.push(']'),
            (None, '{') => open.push('}'),
            (None, ')' | ']' | '}') => {
                if open.pop() != Some(c) {
                    return false;
                }
            }
            (None, _) => {}
        }
    }
    open.is_empty() && quote.is_none()
}

fn validate_metrics(spec: &Telemetry, check: &mut Check<'_>) {
    use lateen_istio_api::TagOperation;
    for (i, metrics) in spec.metrics.iter().enumerate() {
        let path = format!("spec.metrics[{i}]");
        check.duration(&format!("{path}.reportingInterval"), metrics.reporting_interval);
        for (j, metric) in metrics.overrides.iter().enumerate() {
            for (tag, change) in &metric.tag_overrides {
                let path = format!("{path}.overrides[{j}].tagOverrides.{tag}");
                match (change.operation, change.value.is_empty()) {
                    (TagOperation::Upsert, true) => check.error(path, "the tag has no value", "add value, or use operation: REMOVE"),
                    (TagOperation::Remove, false) => check.error(path, "a removed tag takes no value", "remove value"),
                    _ => {}
                }
            }
        }
    }
}
