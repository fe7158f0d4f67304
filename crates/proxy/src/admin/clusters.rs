//! `/clusters`: every cluster, its limits, and the state of its endpoints.
//!
//! - Rule: text as Envoy's, one fact a line (`NAME::ADDRESS::health_flags::healthy`); `?format=json` as `admin.v3.Clusters`, which
//!   `istioctl proxy-config endpoints` reads.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lateen_plan::cluster::{Cluster, ClusterEndpoints, Discovery, Endpoint, EndpointAddress, Health};
use serde_json::{Value, json};

use super::{Answer, Query};
use crate::cluster::endpoints::address_text;
use crate::cluster::shared::{SharedCluster, SharedHost};
use crate::server::Server;

/// Answers.
pub fn answer(server: &Server, query: &Query) -> Answer {
    let config = server.config();
    let mut clusters: Vec<&Arc<Cluster>> = config.plan.clusters.values().collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    let rows = clusters.into_iter().map(|cluster| Row {
        cluster,
        shared: server.registry.cluster(&cluster.name),
        endpoints: config.plan.endpoints_of(cluster).or_else(|| config.resolved.get(&cluster.name)).map(Arc::clone).unwrap_or_default(),
    });
    if query.value("format") == Some("json") {
        let statuses: Vec<Value> = rows.map(|row| row.json()).collect();
        return Answer::json(&json!({ "cluster_statuses": statuses }));
    }
    let mut text = String::new();
    for row in rows {
        // Writing to a string cannot fail.
        let _ = row.text(&mut text);
    }
    Answer::text(text)
}

struct Row<'a> {
    cluster: &'a Cluster,
    shared: Arc<SharedCluster>,
    endpoints: Arc<ClusterEndpoints>,
}

impl Row<'_> {
    /// Endpoints with their priority and locality; for ORIGINAL_DST those met so far.
    fn hosts(&self) -> Vec<(Endpoint, usize, [String; 3])> {
        if let Discovery::OriginalDst(_) = self.cluster.discovery {
            let met = self.shared.hosts();
            return met.into_iter().map(|(address, _)| (Endpoint { address, ..Endpoint::at(([0, 0, 0, 0], 0).into()) }, 0, Default::default())).collect();
        }
        let mut rows = Vec::new();
        for (priority, level) in self.endpoints.priorities.iter().enumerate() {
            for group in &level.localities {
                let place = [group.locality.region.to_string(), group.locality.zone.to_string(), group.locality.sub_zone.to_string()];
                for endpoint in self.endpoints.endpoints.get(group.range.clone()).unwrap_or_default() {
                    rows.push((endpoint.clone(), priority, place.clone()));
                }
            }
        }
        rows
    }

    fn text(&self, out: &mut String) -> std::fmt::Result {
        let name = &self.cluster.name;
        writeln!(out, "{name}::observability_name::{}", self.cluster.stat_name)?;
        for (priority, limits) in ["default_priority", "high_priority"].iter().zip(&self.cluster.circuit_breakers) {
            writeln!(out, "{name}::{priority}::max_connections::{}", limits.max_connections)?;
            writeln!(out, "{name}::{priority}::max_pending_requests::{}", limits.max_pending_requests)?;
            writeln!(out, "{name}::{priority}::max_requests::{}", limits.max_requests)?;
            writeln!(out, "{name}::{priority}::max_retries::{}", limits.max_retries)?;
        }
        writeln!(out, "{name}::added_via_api::true")?;
        for (endpoint, priority, [region, zone, sub_zone]) in self.hosts() {
            let host = self.shared.host(&endpoint.address);
            let at = format!("{name}::{}", address_text(&endpoint.address));
            for (stat, value) in host_stats(&host) {
                writeln!(out, "{at}::{stat}::{value}")?;
            }
            writeln!(out, "{at}::hostname::{}", endpoint.hostname)?;
            writeln!(out, "{at}::health_flags::{}", health_flags(&endpoint, &host))?;
            writeln!(out, "{at}::weight::{}", endpoint.weight)?;
            writeln!(out, "{at}::region::{region}\n{at}::zone::{zone}\n{at}::sub_zone::{sub_zone}")?;
            writeln!(out, "{at}::canary::false\n{at}::priority::{priority}\n{at}::success_rate::-1\n{at}::local_origin_success_rate::-1")?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let hosts: Vec<Value> = self.hosts().into_iter().map(|(endpoint, priority, place)| self.host_json(&endpoint, priority, &place)).collect();
        json!({
            "name": &*self.cluster.name,
            "observability_name": &*self.cluster.stat_name,
            "added_via_api": true,
            "host_statuses": hosts,
        })
    }

    fn host_json(&self, endpoint: &Endpoint, priority: usize, [region, zone, sub_zone]: &[String; 3]) -> Value {
        let host = self.shared.host(&endpoint.address);
        let stats: Vec<Value> = host_stats(&host)
            .into_iter()
            .map(|(name, value)| json!({"type": if name.ends_with("active") { "GAUGE" } else { "COUNTER" }, "name": name, "value": value.to_string()}))
            .collect();
        let mut health = json!({ "eds_health_status": eds_health(endpoint.health) });
        if let Value::Object(fields) = &mut health {
            if host.record.is_ejected() {
                fields.insert("failed_outlier_check".into(), true.into());
            }
            if host.failed_active_check.load(Relaxed) {
                fields.insert("failed_active_health_check".into(), true.into());
            }
        }
        json!({
            "address": address_json(&endpoint.address),
            "stats": stats,
            "health_status": health,
            "weight": endpoint.weight,
            "hostname": &*endpoint.hostname,
            "priority": priority,
            "locality": {"region": region, "zone": zone, "sub_zone": sub_zone},
        })
    }
}

fn host_stats(host: &SharedHost) -> [(&'static str, u64); 8] {
    let s = &host.stats;
    [
        ("cx_active", s.cx_active.load(Relaxed)),
        ("cx_connect_fail", s.cx_connect_fail.load(Relaxed)),
        ("cx_total", s.cx_total.load(Relaxed)),
        ("rq_active", u64::from(host.rq_active.load(Relaxed))),
        ("rq_error", s.rq_error.load(Relaxed)),
        ("rq_success", s.rq_success.load(Relaxed)),
        ("rq_timeout", s.rq_timeout.load(Relaxed)),
        ("rq_total", s.rq_total.load(Relaxed)),
    ]
}

fn health_flags(endpoint: &Endpoint, host: &SharedHost) -> String {
    let mut flags = Vec::new();
    if host.failed_active_check.load(Relaxed) {
        flags.push("/failed_active_hc");
    }
    if host.record.is_ejected() {
        flags.push("/failed_outlier_check");
    }
    match endpoint.health {
        Health::Healthy => {}
        Health::Degraded => flags.push("/eds_degraded"),
        Health::Unhealthy => flags.push("/failed_eds_health"),
        Health::Draining => flags.push("/eds_status_draining"),
    }
    if flags.is_empty() { "healthy".into() } else { flags.concat() }
}

fn eds_health(health: Health) -> &'static str {
    match health {
        Health::Healthy => "HEALTHY",
        Health::Degraded => "DEGRADED",
        Health::Unhealthy => "UNHEALTHY",
        Health::Draining => "DRAINING",
    }
}

fn address_json(address: &EndpointAddress) -> Value {
    match address {
        EndpointAddress::Socket(a) => json!({"socket_address": {"address": a.ip().to_string(), "port_value": a.port()}}),
        EndpointAddress::Dns(name, port) => json!({"socket_address": {"address": &**name, "port_value": port}}),
        EndpointAddress::Pipe(path) => json!({"pipe": {"path": &**path}}),
    }
}
