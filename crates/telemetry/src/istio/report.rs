//! Shards merged, and written for Prometheus.
//!
//! - Rule: series of different workers with equal labels become one; the output is sorted.

use super::{HttpSeries, Key, Protocol, Reporter, Security, Shard, TcpSeries};
use crate::histogram::{BOUND_TEXTS, Histogram};
use crate::prometheus::{Kind, write_label, write_sample, write_type};
use std::collections::BTreeMap;

/// All workers' series. Plain data: it may be filled on one thread and written on another.
#[derive(Clone, Debug, Default)]
pub struct Report {
    http: BTreeMap<Vec<u8>, HttpSeries>,
    tcp: BTreeMap<Vec<u8>, TcpSeries>,
}

impl Report {
    /// Adds one worker's series.
    pub fn add(&mut self, shard: &Shard) {
        for (key, series) in shard.http.keys.iter().zip(&shard.http.series) {
            self.http.entry(labels(shard, key)).or_default().merge(series);
        }
        for (key, series) in shard.tcp.keys.iter().zip(&shard.tcp.series) {
            self.tcp.entry(labels(shard, key)).or_default().merge(series);
        }
    }

    /// Adds what another report holds.
    pub fn merge(&mut self, other: Self) {
        for (labels, series) in other.http {
            self.http.entry(labels).or_default().merge(&series);
        }
        for (labels, series) in other.tcp {
            self.tcp.entry(labels).or_default().merge(&series);
        }
    }

    /// Appends Prometheus text; `version` is the build's.
    pub fn write(&self, out: &mut Vec<u8>, version: &str) {
        let mut build = Vec::new();
        write_label(&mut build, "component", "proxy");
        write_label(&mut build, "tag", version);
        write_type(out, "istio_build", Kind::Gauge);
        write_sample(out, "istio_build", &build, 1);
        counter(out, "istio_requests_total", &self.http, |s| Some(s.requests));
        histogram(out, "istio_request_duration_milliseconds", &self.http, |s| &s.duration);
        histogram(out, "istio_request_bytes", &self.http, |s| &s.request_bytes);
        histogram(out, "istio_response_bytes", &self.http, |s| &s.response_bytes);
        let grpc = |labels: &[u8], count| contains(labels, b"request_protocol=\"grpc\"").then_some(count);
        let messages = |pick: fn(&HttpSeries) -> u64| move |labels: &[u8], s: &HttpSeries| grpc(labels, pick(s));
        counter_by_labels(out, "istio_request_messages_total", &self.http, messages(|s| s.request_messages));
        counter_by_labels(out, "istio_response_messages_total", &self.http, messages(|s| s.response_messages));
        counter(out, "istio_tcp_sent_bytes_total", &self.tcp, |s| Some(s.sent));
        counter(out, "istio_tcp_received_bytes_total", &self.tcp, |s| Some(s.received));
        counter(out, "istio_tcp_connections_opened_total", &self.tcp, |s| Some(s.opened));
        counter(out, "istio_tcp_connections_closed_total", &self.tcp, |s| Some(s.closed));
    }
}

impl HttpSeries {
    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.duration.merge(&other.duration);
        self.request_bytes.merge(&other.request_bytes);
        self.response_bytes.merge(&other.response_bytes);
        self.request_messages += other.request_messages;
        self.response_messages += other.response_messages;
    }
}

impl TcpSeries {
    fn merge(&mut self, other: &Self) {
        self.opened += other.opened;
        self.closed += other.closed;
        self.sent += other.sent;
        self.received += other.received;
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

fn counter<S>(out: &mut Vec<u8>, name: &str, series: &BTreeMap<Vec<u8>, S>, value: impl Fn(&S) -> Option<u64>) {
    counter_by_labels(out, name, series, |_, s| value(s));
}

fn counter_by_labels<S>(out: &mut Vec<u8>, name: &str, series: &BTreeMap<Vec<u8>, S>, value: impl Fn(&[u8], &S) -> Option<u64>) {
    let mut samples = series.iter().filter_map(|(labels, s)| Some((labels, value(labels, s)?))).peekable();
    if samples.peek().is_some() {
        write_type(out, name, Kind::Counter);
    }
    samples.for_each(|(labels, value)| write_sample(out, name, labels, value));
}

fn histogram(out: &mut Vec<u8>, name: &str, series: &BTreeMap<Vec<u8>, HttpSeries>, pick: fn(&HttpSeries) -> &Histogram) {
    if series.is_empty() {
        return;
    }
    write_type(out, name, Kind::Histogram);
    let (bucket, sum, count) = (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
    for (labels, one) in series {
        let histogram = pick(one);
        let mut cumulated = 0;
        let mut with_bound = labels.clone();
        for (bound, in_bucket) in BOUND_TEXTS.iter().zip(&histogram.buckets) {
            cumulated += in_bucket;
            with_bound.truncate(labels.len());
            write_label(&mut with_bound, "le", bound);
            write_sample(out, &bucket, &with_bound, cumulated);
        }
        write_sample(out, &sum, labels, histogram.sum);
        write_sample(out, &count, labels, cumulated);
    }
}

/// The labels of a key in Istio's order; TCP series have no status.
fn labels(shard: &Shard, key: &Key) -> Vec<u8> {
    let names = &shard.names;
    let mut out = Vec::with_capacity(1024);
    write_label(&mut out, "reporter", match key.reporter {
        Reporter::Source => "source",
        Reporter::Destination => "destination",
        Reporter::Waypoint => "waypoint",
    });
    if let Some(source) = names.peer_named(key.source) {
        write_label(&mut out, "source_workload", &source.workload);
        write_label(&mut out, "source_canonical_service", &source.canonical_service);
        write_label(&mut out, "source_canonical_revision", &source.canonical_revision);
        write_label(&mut out, "source_workload_namespace", &source.namespace);
        write_label(&mut out, "source_principal", names.text_named(key.source_principal));
        write_label(&mut out, "source_app", &source.app);
        write_label(&mut out, "source_version", &source.version);
        write_label(&mut out, "source_cluster", &source.cluster);
    }
    if let (Some(to), Some(service)) = (names.peer_named(key.destination), names.service_named(key.service)) {
        write_label(&mut out, "destination_workload", &to.workload);
        write_label(&mut out, "destination_workload_namespace", &to.namespace);
        write_label(&mut out, "destination_principal", names.text_named(key.destination_principal));
        write_label(&mut out, "destination_app", &to.app);
        write_label(&mut out, "destination_version", &to.version);
        write_label(&mut out, "destination_service", &service.host);
        write_label(&mut out, "destination_canonical_service", &to.canonical_service);
        write_label(&mut out, "destination_canonical_revision", &to.canonical_revision);
        write_label(&mut out, "destination_service_name", &service.name);
        write_label(&mut out, "destination_service_namespace", &service.namespace);
        write_label(&mut out, "destination_cluster", &to.cluster);
    }
    write_label(&mut out, "request_protocol", match key.protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    });
    if key.protocol != Protocol::Tcp {
        write_label(&mut out, "response_code", &key.response_code.to_string());
        write_label(&mut out, "grpc_response_status", &key.grpc_status.map(|s| s.to_string()).unwrap_or_default());
    }
    write_label(&mut out, "response_flags", &key.flags.to_string());
    write_label(&mut out, "connection_security_policy", match key.security {
        Security::Unknown => "unknown",
        Security::None => "none",
        Security::MutualTls => "mutual_tls",
    });
    out
}
