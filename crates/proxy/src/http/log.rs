//! Access log lines of requests.
//!
//! - Reads: `plan::access_log::AccessLog`, `telemetry::AccessRecord`.
//! - Twin: `proxy/src/network/report.rs` for connections.
//! - Rule: one line per request and log, written when the request has ended, into the worker's buffer.
//! - Not here: formats (`telemetry`), files (`log_sink.rs`).

use super::info::Info;
use super::request::Request;
use super::stream::{Rules, Stream};
use lateen_http1::ResponseHead;
use lateen_plan::access_log::LogFacts;
use lateen_plan::request::RequestView;
use lateen_telemetry::{AccessRecord, HeaderSource};
use std::time::SystemTime;

struct RequestFields<'a>(&'a Request);

impl HeaderSource for RequestFields<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        match name {
            ":path" => Some(self.0.path()),
            ":method" => Some(self.0.method()),
            ":authority" | "host" => Some(self.0.authority()),
            ":scheme" => Some(self.0.scheme()),
            _ => self.0.head.headers.get(name.as_bytes()),
        }
    }
}

struct AnswerFields<'a>(&'a ResponseHead);

impl HeaderSource for AnswerFields<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.headers.get(name.as_bytes())
    }
}

/// Calls `write` with everything that is known of a request.
pub(crate) fn with_record(rules: &Rules<'_>, request: &Request, response: &ResponseHead, info: &Info, write: impl FnOnce(&AccessRecord<'_>)) {
    let facts = &rules.origin.facts;
    let tls = rules.origin.tls.as_deref();
    let peer = tls.and_then(|tls| tls.peer.as_ref());
    let not_empty = |text: &'_ str| !text.is_empty();
    let matched = rules.matched();
    let record = AccessRecord {
        start: info.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        request: &RequestFields(request),
        response: &AnswerFields(response),
        protocol: Some(request.protocol.name()),
        upstream_protocol: info.host.as_ref().map(|_| info.upstream_protocol.name()),
        response_code: info.status,
        flags: info.flags,
        response_code_details: Some(&*info.details).filter(|text| not_empty(text)),
        connection_termination_details: Some(&*info.termination).filter(|text| not_empty(text)),
        upstream_transport_failure_reason: Some(&*info.transport_failure).filter(|text| not_empty(text)),
        bytes_received: info.bytes_received,
        bytes_sent: info.bytes_sent,
        duration: Some(info.duration),
        response_duration: info.upstream_service_time,
        upstream_host: info.host.as_ref().and_then(|host| host.socket_addr()),
        upstream_cluster: info.cluster_name.as_deref(),
        upstream_local_address: info.upstream_local,
        downstream_local_address: Some(facts.local),
        downstream_remote_address: Some(info.client.unwrap_or(facts.remote)),
        downstream_direct_remote_address: Some(facts.remote),
        requested_server_name: Some(&*facts.server_name).filter(|text| not_empty(text)),
        route_name: info.route.as_deref().filter(|text| not_empty(text)),
        virtual_host_name: matched.as_ref().map(|matched| &*matched.virtual_host.name),
        attempt_count: info.attempts,
        downstream_peer_uri_san: peer.and_then(|peer| peer.uri_sans.first()).map(String::as_str),
        downstream_peer_subject: peer.map(|peer| peer.subject.as_str()),
        downstream_local_uri_san: tls.and_then(|tls| tls.local_uri.as_deref()),
        downstream_tls_version: tls.map(|tls| tls.version),
        downstream_tls_cipher: tls.map(|tls| tls.cipher.as_str()),
        connection_id: facts.id,
        ..AccessRecord::default()
    };
    write(&record);
}

/// Writes the request's lines.
pub(crate) fn write(stream: &Stream<'_>) {
    let Stream { request, response, info, rules, .. } = stream;
    let hcm = &rules.hcm;
    if hcm.access_logs.is_empty() {
        return;
    }
    with_record(rules, request, response, info, |record| {
        for log in &hcm.access_logs {
            let wanted = log.filter.as_ref().is_none_or(|filter| {
                let flags = info.flags.to_string();
                let facts = LogFacts {
                    status: info.status,
                    duration_millis: u64::try_from(info.duration.as_millis()).unwrap_or(u64::MAX),
                    flags: &flags,
                    grpc_status: info.grpc_status,
                    health_check: false,
                    traced: false,
                    draw: rules.worker().draw(),
                };
                filter.passes(&facts, &|matcher| matcher.is_match(request))
            });
            if wanted {
                rules.worker().log.append(&log.sink, |out| log.format.write(record, out));
            }
        }
    });
}
