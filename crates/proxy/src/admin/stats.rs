//! `/stats` and `/stats/prometheus`: counters of the proxy and of the mesh.
//!
//! - Reads: shared cluster counters, and each worker's Istio metrics, merged at the moment of asking.
//! - Rule: names are Envoy's (`cluster.NAME.upstream_rq_total`) and Istio's (`istio_requests_total{…}`).
//! - Rule: parameters `filter` (regular expression), `usedonly`, `format=json|prometheus` as Envoy's.
//! - Not here: Istio's labels and buckets (`telemetry`).

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use hyper::StatusCode;
use lateen_telemetry::istio::Report;
use serde_json::json;

use super::{Answer, Query};
use crate::cluster::shared::{ClusterStats, SharedCluster};
use crate::server::{Server, State};

/// Whether a statistic only grows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

struct Stat {
    name: String,
    value: u64,
    kind: Kind,
}

/// Answers `/stats`.
pub async fn answer(server: &Server, query: &Query) -> Answer {
    if query.value("format") == Some("prometheus") {
        return prometheus(server).await;
    }
    let filter = match query.value("filter").map(regex::Regex::new).transpose() {
        Ok(filter) => filter,
        Err(error) => return Answer::status(StatusCode::BAD_REQUEST, format!("Invalid re2 regex: {error}\n")),
    };
    let used = query.has("usedonly");
    let mut all = collect(server);
    all.retain(|s| filter.as_ref().is_none_or(|f| f.is_match(&s.name)) && (!used || s.value != 0));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    if query.value("format") == Some("json") {
        let stats: Vec<_> = all.iter().map(|s| json!({ "name": s.name, "value": s.value })).collect();
        return Answer::json(&json!({ "stats": stats }));
    }
    let mut text = String::new();
    for stat in all {
        let _ = writeln!(text, "{}: {}", stat.name, stat.value);
    }
    Answer::text(text)
}

fn collect(server: &Server) -> Vec<Stat> {
    let config = server.config();
    let mut all = vec![
        gauge("server.live", u64::from(server.state() == State::Live)),
        gauge("server.state", u64::from(server.state() != State::Live)),
        gauge("server.uptime", server.started.elapsed().as_secs()),
        gauge("server.concurrency", server.workers_len() as u64),
        gauge("listener_manager.total_listeners_active", config.plan.listeners.len() as u64),
        gauge("listener_manager.workers_started", u64::from(server.state() != State::Initializing)),
        gauge("cluster_manager.active_clusters", config.plan.clusters.len() as u64),
        counter("access_log.dropped_bytes", server.log.dropped_bytes()),
    ];
    for (kind, (success, rejected)) in server.updates() {
        let manager = if kind == "CDS" { "cluster_manager" } else { "listener_manager" };
        all.push(counter(&format!("{manager}.{}.update_success", kind.to_ascii_lowercase()), success));
        all.push(counter(&format!("{manager}.{}.update_rejected", kind.to_ascii_lowercase()), rejected));
    }
    for (name, shared) in server.registry.all() {
        let stat_name = config.plan.clusters.get(&name).map_or_else(|| name.to_string(), |c| c.stat_name.to_string());
        cluster(&mut all, stat_name.trim_end_matches(';'), &shared);
    }
    all
}

fn gauge(name: &str, value: u64) -> Stat {
    Stat { name: name.into(), value, kind: Kind::Gauge }
}

fn counter(name: &str, value: u64) -> Stat {
    Stat { name: name.into(), value, kind: Kind::Counter }
}

fn cluster(all: &mut Vec<Stat>, name: &str, shared: &Arc<SharedCluster>) {
    for (stat, value) in named(&shared.stats) {
        let kind = if stat.ends_with("_active") { Kind::Gauge } else { Kind::Counter };
        let dotted = stat.strip_prefix("ssl_").map_or_else(|| stat.to_owned(), |rest| format!("ssl.{rest}"));
        all.push(Stat { name: format!("cluster.{name}.{dotted}"), value: value.load(Relaxed), kind });
    }
    let [normal, high] = &shared.breakers;
    let sum = |of: fn(&crate::cluster::circuit_breaker::Breaker) -> &AtomicU64| of(normal).load(Relaxed) + of(high).load(Relaxed);
    all.push(counter(&format!("cluster.{name}.upstream_rq_pending_overflow"), sum(|b| &b.pending_overflow)));
    all.push(counter(&format!("cluster.{name}.upstream_rq_retry_overflow"), sum(|b| &b.retries_overflow)));
    all.push(counter(&format!("cluster.{name}.upstream_cx_overflow"), sum(|b| &b.connections_overflow)));
    all.push(gauge(&format!("cluster.{name}.outlier_detection.ejections_active"), u64::from(shared.detector.active())));
    all.push(counter(&format!("cluster.{name}.outlier_detection.ejections_enforced_total"), shared.detector.total.load(Relaxed)));
    all.push(counter(&format!("cluster.{name}.outlier_detection.ejections_overflow"), shared.detector.overflow.load(Relaxed)));
}

macro_rules! stats {
    ($of:expr, $($name:ident)*) => { [$((stringify!($name), &$of.$name)),*] };
}

fn named(stats: &ClusterStats) -> [(&'static str, &AtomicU64); 24] {
    stats!(stats,
        upstream_cx_total upstream_cx_active upstream_cx_connect_fail upstream_cx_connect_timeout upstream_cx_none_healthy
        upstream_cx_http1_total upstream_cx_http2_total upstream_cx_rx_bytes_total upstream_cx_tx_bytes_total
        upstream_rq_total upstream_rq_active upstream_rq_2xx upstream_rq_3xx upstream_rq_4xx upstream_rq_5xx upstream_rq_pending_total
        upstream_rq_timeout upstream_rq_per_try_timeout upstream_rq_retry upstream_rq_retry_success
        ssl_handshake ssl_fail_verify_san ssl_fail_verify_error membership_change)
}

/// Answers `/stats/prometheus`: Istio's metrics of all workers, then the proxy's own.
pub async fn prometheus(server: &Server) -> Answer {
    let mut mesh = Report::default();
    let reports = server.ask(|worker| {
        let mut report = Report::default();
        report.add(&worker.metrics.borrow());
        report
    });
    reports.await.into_iter().for_each(|report| mesh.merge(report));
    let mut out = Vec::new();
    mesh.write(&mut out, &server.version);
    let mut text = String::from_utf8(out).unwrap_or_default();
    let mut last = String::new();
    let mut all = collect(server);
    let split = |stat: &Stat| -> (String, String) {
        let plain = |name: &str| format!("envoy_{}", name.replace(['.', '-'], "_"));
        match stat.name.strip_prefix("cluster.").and_then(|rest| rest.rsplit_once('.').map(|(c, s)| (c.to_owned(), s.to_owned()))) {
            Some((cluster, stat)) => {
                let (cluster, group) = ["ssl", "outlier_detection"]
                    .iter()
                    .find_map(|g| cluster.strip_suffix(&format!(".{g}")).map(|c| (c.to_owned(), format!("{g}_"))))
                    .unwrap_or((cluster, String::new()));
                (format!("envoy_cluster_{group}{stat}"), format!("{{cluster_name=\"{}\"}}", cluster.replace('\\', "\\\\").replace('"', "\\\"")))
            }
            None => (plain(&stat.name), "{}".into()),
        }
    };
    all.sort_by_cached_key(|s| split(s));
    for stat in &all {
        let (name, labels) = split(stat);
        if name != last {
            let kind = if stat.kind == Kind::Counter { "counter" } else { "gauge" };
            let _ = writeln!(text, "# TYPE {name} {kind}");
            last.clone_from(&name);
        }
        let _ = writeln!(text, "{name}{labels} {}", stat.value);
    }
    Answer::text(text)
}
