//! Prometheus' text format: type lines, names, labels.
//!
//! - Source: Prometheus «Exposition formats», text format 0.0.4.
//! - Rule: label values are escaped; names are made of letters, digits and underscores.

use std::io::Write;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// Appends the type line of `name`.
pub fn write_type(out: &mut Vec<u8>, name: &str, kind: Kind) {
    let word = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let _ = writeln!(out, "# TYPE {name} {word}");
}

/// Appends `key="value"`, after a comma if labels are there already.
pub fn write_label(out: &mut Vec<u8>, key: &str, value: &str) {
    if !out.is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"=\"");
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Appends one sample; `labels` as [`write_label`] made them.
pub fn write_sample(out: &mut Vec<u8>, name: &str, labels: &[u8], value: u64) {
    out.extend_from_slice(name.as_bytes());
    if !labels.is_empty() {
        out.push(b'{');
        out.extend_from_slice(labels);
        out.push(b'}');
    }
    let _ = writeln!(out, " {value}");
}

/// A name fit for Prometheus: every other character becomes `_`, as Envoy does.
#[must_use]
pub fn sanitize(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut out = Vec::new();
        write_label(&mut out, "a", "x\"y\\z\n");
        write_label(&mut out, "b", "1");
        assert_eq!(out, b"a=\"x\\\"y\\\\z\\n\",b=\"1\"");
    }

    #[test]
    fn names_lose_their_dots() {
        assert_eq!(sanitize("cluster.outbound|80"), "cluster_outbound_80");
    }
}
