//! Istio's standard metrics: requests and connections by who called whom, and how it went.
//!
//! - Source: Istio's «Standard metrics» page; names and labels are its own, because dashboards read them.
//! - Rule: a worker has a [`Shard`] of its own; recording touches nothing shared and, after the first time, allocates nothing.
//! - Rule: shards are merged when somebody asks ([`Report`]).
//! - Limits: [`SERIES_MAX`] series and [`PEERS_MAX`] peers per worker; whatever comes later is counted under `overflow`.
//! - Not here: who the peers are (`peer`), when to record (`proxy`).

mod interner;
mod report;

pub use interner::{Peer, Service, Text};
pub use report::Report;

use crate::flags::ResponseFlags;
use crate::histogram::Histogram;
use crate::peer::PeerMetadata;
use interner::Interner;
use std::collections::HashMap;
use std::time::Duration;

/// Series of each kind that one worker keeps: 25 labels over a mesh of a few hundred workloads stay well below.
pub const SERIES_MAX: usize = 8_192;
/// Peers, services and principals that one worker remembers.
pub const PEERS_MAX: usize = 4_096;

/// Who tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reporter {
    /// The client's proxy.
    Source,
    /// The server's proxy.
    Destination,
    /// A waypoint.
    Waypoint,
}

/// What was spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
    /// Bytes.
    Tcp,
}

/// How the connection was secured, as far as the reporter knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Security {
    /// The reporter is the client's side.
    Unknown,
    /// Plaintext, or TLS without a client certificate.
    None,
    /// Mutual TLS.
    MutualTls,
}

/// The labels of one series, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who tells.
    pub reporter: Reporter,
    /// The calling workload.
    pub source: Peer,
    /// The called workload.
    pub destination: Peer,
    /// The caller's identity.
    pub source_principal: Text,
    /// The callee's identity.
    pub destination_principal: Text,
    /// The called service.
    pub service: Service,
    /// What was spoken.
    pub protocol: Protocol,
    /// Status; 0 for TCP and for requests without an answer.
    pub response_code: u16,
    /// gRPC status. `None`: not gRPC, or not said.
    pub grpc_status: Option<u8>,
    /// What happened.
    pub flags: ResponseFlags,
    /// How it was secured.
    pub security: Security,
}

/// What one request adds.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestSizes {
    /// From first to last byte.
    pub duration: Duration,
    /// Head and body of the request in bytes.
    pub request_bytes: u64,
    /// Head and body of the answer in bytes.
    pub response_bytes: u64,
    /// gRPC messages in the request.
    pub request_messages: u64,
    /// gRPC messages in the answer.
    pub response_messages: u64,
}

#[derive(Clone, Debug, Default)]
struct HttpSeries {
    requests: u64,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    request_messages: u64,
    response_messages: u64,
}

#[derive(Clone, Debug, Default)]
struct TcpSeries {
    opened: u64,
    closed: u64,
    sent: u64,
    received: u64,
}

/// One worker's metrics.
#[derive(Debug, Default)]
pub struct Shard {
    names: Interner,
    http: Table<HttpSeries>,
    tcp: Table<TcpSeries>,
}

/// Series by key.
#[derive(Debug)]
struct Table<S> {
    ids: HashMap<Key, usize, crate::hash::FastHash>,
    keys: Vec<Key>,
    series: Vec<S>,
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self { ids: HashMap::default(), keys: Vec::new(), series: Vec::new() }
    }
}

impl<S: Default> Table<S> {
    fn get(&mut self, key: &Key) -> Option<&mut S> {
        let id = match self.ids.get(key) {
            Some(id) => *id,
            None => self.insert(*key),
        };
        self.series.get_mut(id)
    }

    #[cold]
    fn insert(&mut self, key: Key) -> usize {
        // The last place is kept for everything that comes too late.
        let key = if self.keys.len() + 1 >= SERIES_MAX { key.overflow() } else { key };
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = self.keys.len();
        self.keys.push(key);
        self.series.push(S::default());
        self.ids.insert(key, id);
        id
    }
}

impl Key {
    /// The series that takes what has no place of its own; few enough of them to fit always.
    fn overflow(self) -> Self {
        Self {
            reporter: Reporter::Source,
            source: Peer::OVERFLOW,
            destination: Peer::OVERFLOW,
            source_principal: Text::OVERFLOW,
            destination_principal: Text::OVERFLOW,
            service: Service::OVERFLOW,
            protocol: Protocol::Http,
            response_code: 0,
            grpc_status: None,
            flags: ResponseFlags::NONE,
            security: Security::Unknown,
        }
    }
}

impl Shard {
    /// The peer behind a metadata header, decoded at first sight only. Unreadable bytes are [`Peer::UNKNOWN`].
    pub fn peer_of_header(&mut self, header: &[u8]) -> Peer {
        self.names.peer_of_header(header)
    }

    /// The peer behind endpoint metadata `workload;namespace;…`, decoded at first sight only.
    pub fn peer_of_endpoint(&mut self, text: &str) -> Peer {
        self.names.peer_of_endpoint(text)
    }

    /// The peer `metadata`, for the own workload.
    pub fn peer(&mut self, metadata: &PeerMetadata) -> Peer {
        self.names.peer(metadata)
    }

    /// A service by host, name and namespace.
    pub fn service(&mut self, host: &str, name: &str, namespace: &str) -> Service {
        self.names.service(host, name, namespace)
    }

    /// An identity or another text. Empty: unknown.
    pub fn text(&mut self, text: &str) -> Text {
        self.names.text(text)
    }

    /// Counts a request that has ended.
    pub fn request(&mut self, key: &Key, sizes: &RequestSizes) {
        let Some(series) = self.http.get(key) else { return };
        series.requests += 1;
        series.duration.record(u64::try_from(sizes.duration.as_millis()).unwrap_or(u64::MAX));
        series.request_bytes.record(sizes.request_bytes);
        series.response_bytes.record(sizes.response_bytes);
        series.request_messages += sizes.request_messages;
        series.response_messages += sizes.response_messages;
    }

    /// Counts a connection that began.
    pub fn tcp_opened(&mut self, key: &Key) {
        if let Some(series) = self.tcp.get(key) {
            series.opened += 1;
        }
    }

    /// Counts bytes of a connection: to the client, and from it.
    pub fn tcp_bytes(&mut self, key: &Key, sent: u64, received: u64) {
        if let Some(series) = self.tcp.get(key) {
            series.sent += sent;
            series.received += received;
        }
    }

    /// Counts a connection that ended.
    pub fn tcp_closed(&mut self, key: &Key) {
        if let Some(series) = self.tcp.get(key) {
            series.closed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn key(shard: &mut Shard, code: u16) -> Key {
        let source = shard.peer_of_endpoint("frontend;default;frontend;latest;Kubernetes");
        let service = shard.service("backend.default.svc.cluster.local", "backend", "default");
        let source_principal = shard.text("spiffe://cluster.local/ns/default/sa/frontend");
        Key {
            reporter: Reporter::Destination,
            source,
            destination: Peer::UNKNOWN,
            source_principal,
            destination_principal: Text::UNKNOWN,
            service,
            protocol: Protocol::Http,
            response_code: code,
            grpc_status: None,
            flags: ResponseFlags::NONE,
            security: Security::MutualTls,
        }
    }

    fn text(shards: &[&Shard]) -> String {
        let mut report = Report::default();
        shards.iter().for_each(|s| report.add(s));
        let mut out = Vec::new();
        report.write(&mut out, "0.1.0");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_written_with_all_25_labels() {
        let mut shard = Shard::default();
        let key = key(&mut shard, 200);
        shard.request(&key, &RequestSizes { duration: Duration::from_millis(3), ..RequestSizes::default() });
        let text = text(&[&shard]);
        let line = text.lines().find(|l| l.starts_with("istio_requests_total{")).unwrap();
        assert_eq!(
            line,
            "istio_requests_total{reporter=\"destination\",source_workload=\"frontend\",source_canonical_service=\"frontend\",\
             source_canonical_revision=\"latest\",source_workload_namespace=\"default\",\
             source_principal=\"spiffe://cluster.local/ns/default/sa/frontend\",source_app=\"frontend\",source_version=\"latest\",\
             source_cluster=\"Kubernetes\",destination_workload=\"unknown\",destination_workload_namespace=\"unknown\",\
             destination_principal=\"unknown\",destination_app=\"unknown\",destination_version=\"unknown\",\
             destination_service=\"backend.default.svc.cluster.local\",destination_canonical_service=\"unknown\",\
             destination_canonical_revision=\"unknown\",destination_service_name=\"backend\",destination_service_namespace=\"default\",\
             destination_cluster=\"unknown\",request_protocol=\"http\",response_code=\"200\",grpc_response_status=\"\",response_flags=\"-\",\
             connection_security_policy=\"mutual_tls\"} 1"
        );
        assert_eq!(line.matches("=\"").count(), 25);
    }

    #[test]
    fn shards_of_two_workers_add_up() {
        let (mut a, mut b) = (Shard::default(), Shard::default());
        for shard in [&mut a, &mut b] {
            // Ids of one worker mean nothing to another: the order of first sight differs.
            shard.text(&format!("{:p}", std::ptr::from_ref(shard)));
            let key = key(shard, 200);
            shard.request(&key, &RequestSizes { duration: Duration::from_millis(700), ..RequestSizes::default() });
        }
        let text = text(&[&a, &b]);
        assert_eq!(text.lines().filter(|l| l.starts_with("istio_requests_total{")).count(), 1);
        assert!(text.contains("connection_security_policy=\"mutual_tls\"} 2\n"));
        assert!(text.contains(",le=\"500\"} 0\n") && text.contains(",le=\"1000\"} 2\n") && text.contains(",le=\"+Inf\"} 2\n"));
    }

    #[test]
    fn too_many_series_are_counted_together() {
        let mut shard = Shard::default();
        let template = key(&mut shard, 200);
        for flags in 0..u16::try_from(SERIES_MAX).unwrap() + 100 {
            shard.request(&Key { response_code: flags, ..template }, &RequestSizes::default());
        }
        assert_eq!(shard.http.keys.len(), SERIES_MAX);
        assert!(text(&[&shard]).contains("source_workload=\"overflow\""));
        let total: u64 = shard.http.series.iter().map(|s| s.requests).sum();
        assert_eq!(total, SERIES_MAX as u64 + 100);
    }

    #[test]
    fn too_many_peers_are_one_peer() {
        let mut shard = Shard::default();
        for i in 0..PEERS_MAX + 10 {
            shard.peer_of_endpoint(&format!("w{i};ns"));
        }
        assert_eq!(shard.peer_of_endpoint("one-more;ns"), Peer::OVERFLOW);
        assert_ne!(shard.peer_of_endpoint("w0;ns"), Peer::OVERFLOW);
    }

    #[test]
    fn tcp_connections_have_four_counters() {
        let mut shard = Shard::default();
        let key = Key { protocol: Protocol::Tcp, ..key(&mut shard, 0) };
        shard.tcp_opened(&key);
        shard.tcp_bytes(&key, 10, 20);
        shard.tcp_closed(&key);
        let text = text(&[&shard]);
        for (name, value) in [("connections_opened_total", 1), ("connections_closed_total", 1), ("sent_bytes_total", 10), ("received_bytes_total", 20)] {
            let line = text.lines().find(|l| l.starts_with(&format!("istio_tcp_{name}{{"))).unwrap();
            assert!(line.ends_with(&format!("request_protocol=\"tcp\",response_flags=\"-\",connection_security_policy=\"mutual_tls\"}} {value}")), "{line}");
        }
    }

    #[test]
    fn the_build_is_told() {
        assert!(text(&[]).contains("istio_build{component=\"proxy\",tag=\"0.1.0\"} 1\n"));
    }
}
