//! Reading Istio's standard metrics out of Prometheus text.
//!
//! - Reads: `istio_requests_total`, `istio_request_duration_milliseconds_bucket`, `istio_tcp_{sent,received}_bytes_total`,
//!   `istio_tcp_connections_opened_total`.
//! - Rule: a line that cannot be read is skipped; metrics come from programs that are not ours (a real Envoy).
//! - Not here: what the numbers mean together (`graph.rs`).

use std::collections::HashMap;

/// What a series counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Measure {
    /// Requests answered with this code and these response flags.
    Requests { code: u16, flags: String },
    /// Requests that took at most so many milliseconds; the number is in thousandths so that it can be compared.
    Bucket { le_micros: u64 },
    /// Bytes of TCP connections, both directions.
    TcpBytes,
    /// TCP connections opened.
    TcpOpened,
}

/// One end of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct End {
    pub(crate) namespace: String,
    /// Canonical service, `unknown` outside the mesh.
    pub(crate) app: String,
    /// Canonical revision.
    pub(crate) version: String,
}

/// One series: who reports what about which call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Series {
    pub(crate) by_source: bool,
    pub(crate) from: End,
    pub(crate) to: End,
    /// Service name that was called, as the source knows it.
    pub(crate) service: String,
    /// `mutual_tls`, `none` or `unknown`.
    pub(crate) security: String,
    pub(crate) measure: Measure,
}

/// Reads all series of one scrape and adds them to `into`.
pub(crate) fn read(text: &str, into: &mut HashMap<Series, f64>) {
    for line in text.lines() {
        if line.starts_with("istio_") && let Some((series, value)) = line_of(line) {
            *into.entry(series).or_insert(0.0) += value;
        }
    }
}

fn line_of(line: &str) -> Option<(Series, f64)> {
    let (name, rest) = line.split_once('{')?;
    let known = matches!(
        name,
        "istio_requests_total"
            | "istio_request_duration_milliseconds_bucket"
            | "istio_tcp_sent_bytes_total"
            | "istio_tcp_received_bytes_total"
            | "istio_tcp_connections_opened_total"
    );
    if !known {
        return None;
    }
    let (labels, rest) = labels(rest)?;
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    let label = |name: &str| labels.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone()).unwrap_or_default();
    let measure = match name {
        "istio_requests_total" => Measure::Requests { code: label("response_code").parse().unwrap_or(0), flags: label("response_flags") },
        "istio_request_duration_milliseconds_bucket" => Measure::Bucket { le_micros: micros(&label("le"))? },
        "istio_tcp_connections_opened_total" => Measure::TcpOpened,
        _ => Measure::TcpBytes,
    };
    let end = |side: &str| End {
        namespace: label(&format!("{side}_workload_namespace")),
        app: label(&format!("{side}_canonical_service")),
        version: label(&format!("{side}_canonical_revision")),
    };
    let series = Series {
        by_source: label("reporter") == "source",
        from: end("source"),
        to: end("destination"),
        service: label("destination_service_name"),
        security: label("connection_security_policy"),
        measure,
    };
    Some((series, value))
}

/// A bucket's bound in thousandths; `+Inf` is the largest number.
fn micros(bound: &str) -> Option<u64> {
    if bound == "+Inf" {
        return Some(u64::MAX);
    }
    let milliseconds: f64 = bound.parse().ok()?;
    u64::try_from(std::time::Duration::try_from_secs_f64(milliseconds).ok()?.as_millis()).ok()
}

/// Labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.push((name, value));
        rest = after;
    }
}

/// A label's value up to its closing quote, escapes undone.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(index + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_series_is_read() {
        let text = "# TYPE istio_requests_total counter\nistio_requests_total{reporter=\"destination\",source_canonical_service=\"a\",destination_canonical_service=\"b\",\
                    destination_canonical_revision=\"v1\",destination_workload_namespace=\"x\",response_code=\"200\",response_flags=\"-\",connection_security_policy=\"mutual_tls\"} 7\n";
        let mut into = HashMap::new();
        read(text, &mut into);
        let (series, value) = into.iter().next().expect("one series");
        assert_eq!(*value, 7.0);
        assert_eq!(series.to, End { namespace: "x".into(), app: "b".into(), version: "v1".into() });
        assert_eq!(series.measure, Measure::Requests { code: 200, flags: "-".into() });
    }

    #[test]
    fn escapes_in_values_are_undone() {
        assert_eq!(quoted("a\\\"b\\\\c\"} 1"), Some(("a\"b\\c".to_owned(), "} 1")));
    }

    #[test]
    fn broken_lines_are_skipped() {
        let mut into = HashMap::new();
        read("istio_requests_total{reporter=\"x\nistio_requests_total 5\nistio_requests_total{} x\n", &mut into);
        assert!(into.is_empty());
    }

    #[test]
    fn bucket_bounds_compare() {
        assert_eq!(micros("0.5"), Some(500));
        assert_eq!(micros("+Inf"), Some(u64::MAX));
    }
}
