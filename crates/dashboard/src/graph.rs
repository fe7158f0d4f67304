//! From samples to a graph: nodes for each version of each service, edges with rate, errors, latency and mutual TLS.
//!
//! - Reads: samples of all sidecars (`sampler.rs`) and the list of pods. Pure.
//! - Rule: of one call, the source's report counts requests (it knows those that never arrived); only the destination knows the
//!   connection's security. Where the source has no sidecar, the destination's report stands for both.
//! - Rule: counters are compared per sidecar, so that a restarted or new sidecar does not look like traffic.
//! - Limits: [`EDGES_MAX`] edges, the busiest first.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    time::Instant,
};

use lateen_base::Finding;
use serde::Serialize;

use crate::{
    Pod,
    metrics::{End, Measure, Series},
};

/// Edges sent to the page at most.
pub(crate) const EDGES_MAX: usize = 2000;

/// All sidecars' counters at one moment.
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) by_pod: HashMap<IpAddr, HashMap<Series, f64>>,
}

/// What the page gets.
#[derive(Serialize)]
pub(crate) struct Answer {
    pub(crate) mesh: String,
    pub(crate) gateway_url: Option<String>,
    #[serde(flatten)]
    pub(crate) graph: Graph,
    pub(crate) pods: Vec<Pod>,
    pub(crate) problems: Vec<Finding>,
}

/// Nodes and edges.
#[derive(Default, Serialize)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
}

/// One version of one service, a gateway, or something outside.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct Node {
    /// `namespace/app@version`.
    pub(crate) id: String,
    /// `namespace/app`: nodes of one group are versions of one service.
    pub(crate) group: String,
    pub(crate) namespace: String,
    pub(crate) app: String,
    pub(crate) version: String,
    pub(crate) kind: NodeKind,
    /// Pods ready.
    pub(crate) ready: usize,
    /// Pods in all.
    pub(crate) total: usize,
    /// Pods with a sidecar.
    pub(crate) injected: usize,
}

/// What a node stands for.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeKind {
    /// Pods with an application.
    Service,
    /// A proxy without an application.
    Gateway,
    /// Named by a service entry, or reached by address.
    Outside,
}

/// Calls from one node to another during the window.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
    /// `http` or `tcp`.
    pub(crate) protocol: &'static str,
    /// Requests a second; for TCP new connections a second.
    pub(crate) rate: f64,
    /// Bytes a second, TCP only.
    pub(crate) bytes: f64,
    /// Part of the requests that failed with a 5xx or without an answer, 0 to 100.
    pub(crate) error_percent: f64,
    /// Milliseconds; `None` without requests in the window.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Whether the connections are mutual TLS; `None` where nobody knows.
    pub(crate) mtls: Option<bool>,
    /// Requests a second by code.
    pub(crate) codes: BTreeMap<u16, f64>,
    /// Requests since the sidecars started: an idle edge stays on the page.
    pub(crate) total: f64,
}

#[derive(Default)]
struct Sums {
    source: Side,
    destination: Side,
    tls: f64,
    plain: f64,
}

#[derive(Default)]
struct Side {
    total: f64,
    codes: BTreeMap<u16, f64>,
    buckets: BTreeMap<u64, f64>,
    tcp_bytes: f64,
    tcp_opened: f64,
    is_tcp: bool,
}

/// Builds the graph from a window of samples, oldest first.
pub(crate) fn build(window: &VecDeque<Sample>, pods: &[Pod]) -> Graph {
    let mut nodes = nodes_of(pods);
    let (Some(first), Some(last)) = (window.front(), window.back()) else { return Graph { nodes: nodes.into_values().collect(), edges: Vec::new() } };
    let mut sums: BTreeMap<(String, String), Sums> = BTreeMap::new();
    for (ip, counters) in &last.by_pod {
        let before = first.by_pod.get(ip);
        for (series, now) in counters {
            let (from, to) = (ensure(&mut nodes, &series.from, ""), ensure(&mut nodes, &series.to, &series.service));
            let then = before.and_then(|before| before.get(series)).copied();
            // A pod first seen in this window has counters from before it; a series new in a known pod starts from zero.
            let delta = match (then, before) {
                (Some(then), _) => (now - then).max(0.0),
                (None, Some(_)) => *now,
                (None, None) => 0.0,
            };
            add(sums.entry((from, to)).or_default(), series, *now, delta);
        }
    }
    let seconds = last.at.duration_since(first.at).as_secs_f64();
    let mut edges: Vec<Edge> = sums.into_iter().map(|((from, to), sums)| edge(from, to, &sums, seconds)).collect();
    edges.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    edges.truncate(EDGES_MAX);
    edges.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    Graph { nodes: nodes.into_values().collect(), edges }
}

fn nodes_of(pods: &[Pod]) -> BTreeMap<String, Node> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod.app != lateen_base::names::ISTIOD) {
        let id = format!("{}/{}@{}", pod.namespace, pod.app, pod.version);
        let node = nodes.entry(id.clone()).or_insert_with(|| Node {
            id,
            group: format!("{}/{}", pod.namespace, pod.app),
            namespace: pod.namespace.clone(),
            app: pod.app.clone(),
            version: pod.version.clone(),
            kind: if pod.gateway { NodeKind::Gateway } else { NodeKind::Service },
            ready: 0,
            total: 0,
            injected: 0,
        });
        node.total += 1;
        node.ready += usize::from(pod.ready);
        node.injected += usize::from(pod.injected || pod.gateway);
    }
    nodes
}

/// The node of one end of a call; makes one for what has no pod.
fn ensure(nodes: &mut BTreeMap<String, Node>, end: &End, service: &str) -> String {
    let unknown = end.app.is_empty() || end.app == "unknown";
    let (namespace, app, version) = if !unknown {
        (end.namespace.as_str(), end.app.as_str(), end.version.as_str())
    } else if service.is_empty() || service == "unknown" {
        ("", "unknown", "")
    } else {
        ("", service, "")
    };
    let group = format!("{namespace}/{app}");
    let id = format!("{group}@{version}");
    if nodes.contains_key(&id) {
        return id;
    }
    nodes.insert(
        id.clone(),
        Node {
            id: id.clone(),
            group,
            namespace: namespace.to_owned(),
            app: app.to_owned(),
            version: version.to_owned(),
            kind: if unknown { NodeKind::Outside } else { NodeKind::Service },
            ready: 0,
            total: 0,
            injected: 0,
        },
    );
    id
}

fn add(sums: &mut Sums, series: &Series, now: f64, delta: f64) {
    let side = if series.by_source { &mut sums.source } else { &mut sums.destination };
    match &series.measure {
        Measure::Requests { code, .. } => {
            side.total += now;
            *side.codes.entry(*code).or_default() += delta;
            match series.security.as_str() {
                "mutual_tls" => sums.tls += now,
                "none" => sums.plain += now,
                _ => {}
            }
        }
        Measure::Bucket { le_micros } => *side.buckets.entry(*le_micros).or_default() += delta,
        Measure::TcpBytes => {
            side.is_tcp = true;
            side.tcp_bytes += delta;
        }
        Measure::TcpOpened => {
            side.is_tcp = true;
            side.total += now;
            side.tcp_opened += delta;
            match series.security.as_str() {
                "mutual_tls" => sums.tls += now,
                "none" => sums.plain += now,
                _ => {}
            }
        }
    }
}

fn edge(from: String, to: String, sums: &Sums, seconds: f64) -> Edge {
    let side = if sums.source.total > 0.0 { &sums.source } else { &sums.destination };
    let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    let requests: f64 = side.codes.values().sum();
    let failed: f64 = side.codes.iter().filter(|(code, _)| **code >= 500 || **code == 0).map(|(_, count)| count).sum();
    Edge {
        from,
        to,
        protocol: if side.is_tcp && side.codes.is_empty() { "tcp" } else { "http" },
        rate: per_second(if side.codes.is_empty() { side.tcp_opened } else { requests }),
        bytes: per_second(side.tcp_bytes),
        error_percent: if requests > 0.0 { 100.0 * failed / requests } else { 0.0 },
        p50: quantile(&side.buckets, 0.5),
        p99: quantile(&side.buckets, 0.99),
        mtls: if sums.tls + sums.plain > 0.0 { Some(sums.plain == 0.0) } else { None },
        codes: side.codes.iter().filter(|(_, count)| **count > 0.0).map(|(code, count)| (*code, per_second(*count))).collect(),
        total: side.total,
    }
}

/// Milliseconds below which `part` of the requests ended, by straight line within a bucket, as PromQL's `histogram_quantile`.
fn quantile(buckets: &BTreeMap<u64, f64>, part: f64) -> Option<f64> {
    let (_, count) = buckets.last_key_value()?;
    if *count <= 0.0 {
        return None;
    }
    let wanted = count * part;
    let (mut below, mut lower) = (0.0, 0.0);
    for (bound, cumulative) in buckets {
        if *bound == u64::MAX {
            return Some(lower);
        }
        let upper = std::time::Duration::from_micros(*bound).as_secs_f64() * 1000.0;
        if *cumulative >= wanted {
            let inside = cumulative - below;
            return Some(if inside > 0.0 { lower + (upper - lower) * (wanted - below) / inside } else { upper });
        }
        (below, lower) = (*cumulative, upper);
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn end(app: &str, version: &str) -> End {
        End { namespace: "default".into(), app: app.into(), version: version.into() }
    }

    fn series(by_source: bool, code: u16, security: &str) -> Series {
        Series {
            by_source,
            from: end("frontend", "v1"),
            to: end("backend", "v2"),
            service: "backend".into(),
            security: security.into(),
            measure: Measure::Requests { code, flags: "-".into() },
        }
    }

    fn window(before: &[(Series, f64)], after: &[(Series, f64)]) -> VecDeque<Sample> {
        let ip = IpAddr::from([10, 244, 0, 2]);
        let at = Instant::now();
        let sample = |at, counters: &[(Series, f64)]| Sample { at, by_pod: HashMap::from([(ip, counters.iter().cloned().collect())]) };
        VecDeque::from([sample(at, before), sample(at + Duration::from_secs(5), after)])
    }

    #[test]
    fn rate_is_the_difference_over_the_window() {
        let graph = build(&window(&[(series(true, 200, "unknown"), 100.0)], &[(series(true, 200, "unknown"), 150.0), (series(true, 503, "unknown"), 50.0)]), &[]);
        let edge = graph.edges.first().expect("one edge");
        assert_eq!((edge.rate, edge.error_percent, edge.mtls), (20.0, 50.0, None));
    }

    #[test]
    fn destination_tells_the_security_and_source_the_count() {
        let after = [(series(true, 200, "unknown"), 10.0), (series(false, 200, "mutual_tls"), 9.0)];
        let graph = build(&window(&[], &after), &[]);
        let edge = graph.edges.first().expect("one edge");
        assert_eq!((edge.rate, edge.mtls), (2.0, Some(true)));
    }

    #[test]
    fn counters_of_a_new_sidecar_are_no_traffic() {
        let mut window = window(&[], &[(series(true, 200, "unknown"), 500.0)]);
        window.front_mut().expect("first").by_pod.clear();
        assert_eq!(build(&window, &[]).edges.first().map(|edge| edge.rate), Some(0.0));
    }

    #[test]
    fn quantile_lies_on_a_line_within_its_bucket() {
        let buckets = BTreeMap::from([(1_000, 50.0), (2_000, 100.0), (u64::MAX, 100.0)]);
        assert_eq!(quantile(&buckets, 0.5), Some(1.0));
        assert_eq!(quantile(&buckets, 0.75), Some(1.5));
        assert_eq!(quantile(&BTreeMap::new(), 0.5), None);
    }

    #[test]
    fn versions_of_one_service_share_a_group() {
        let pod = |version: &str| Pod { namespace: "default".into(), app: "backend".into(), version: version.into(), ready: true, injected: true, ..Pod::default() };
        let graph = build(&VecDeque::new(), &[pod("v1"), pod("v2"), pod("v2")]);
        assert_eq!(graph.nodes.iter().map(|node| (node.group.as_str(), node.version.as_str(), node.total)).collect::<Vec<_>>(), [("default/backend", "v1", 1), ("default/backend", "v2", 2)]);
    }
}
