//! HTTP filters: a closed list, run in configured order for every request.
//!
//! - Reads: `plan::http::HttpFilter`.
//! - Rule: filters are plain functions over the stream; the only waiting one may ask for is [`Flow::Delay`].
//! - Rule: to add one, write its file and add an arm to each `match` here; the compiler asks for the rest.
//! - Not here: the filters' settings (`plan::http::filters`), the router (`http/router.rs`).

pub(crate) mod alpn;
pub(crate) mod cors;
pub(crate) mod fault;
pub(crate) mod grpc_stats;
pub(crate) mod istio_stats;
pub(crate) mod peer_metadata;
pub(crate) mod rbac;

use crate::http::info::Info;
use crate::http::local_reply::LocalReply;
use crate::http::request::Request;
use crate::http::stream::{Rules, Stream};
use lateen_http1::ResponseHead;
use lateen_plan::http::HttpFilter;
use std::time::Duration;

/// What a filter wants done with a request.
pub(crate) enum Flow {
    /// It goes on.
    Continue,
    /// It is answered here.
    Reply(Box<LocalReply>),
    /// It waits, then goes on or is answered.
    Delay(Duration, Option<Box<LocalReply>>),
}

/// What filters and the router remember of a request until its answer.
#[derive(Default)]
pub(crate) struct Notes {
    /// The origin that cross-origin rules allow.
    pub(crate) cors_origin: Option<Box<[u8]>>,
    /// `set-cookie` for the next request to find the same endpoint.
    pub(crate) cookie: Option<Vec<u8>>,
    /// The caller named the operation already.
    pub(crate) operation_named: bool,
    /// The router writes no `x-envoy-*` fields.
    pub(crate) suppress_envoy_headers: bool,
    /// The client sent peer metadata, so it gets some back.
    pub(crate) peer_asked: bool,
    /// A fault in force, counted while the request lives.
    pub(crate) fault: Option<fault::Active>,
}

/// Runs one filter on a request's head.
pub(crate) fn on_request(filter: &HttpFilter, stream: &mut Stream<'_>) -> Flow {
    match filter {
        HttpFilter::Fault(settings) => fault::on_request(settings, stream),
        HttpFilter::Cors => cors::on_request(stream),
        HttpFilter::Rbac(settings) => rbac::on_request(settings, stream),
        HttpFilter::PeerMetadata(settings) => peer_metadata::on_request(*settings, stream),
        HttpFilter::GrpcStats => {
            stream.watch.begin(&stream.request);
            Flow::Continue
        }
        HttpFilter::Router(settings) => {
            stream.rules.notes.suppress_envoy_headers = settings.suppress_envoy_headers;
            Flow::Continue
        }
        HttpFilter::IstioStats(_) | HttpFilter::Alpn(_) => Flow::Continue,
    }
}

/// Runs the filters, last first, on an answer's head.
pub(crate) fn on_answer(rules: &Rules<'_>, request: &Request, head: &mut ResponseHead, info: &mut Info) {
    for filter in rules.hcm.filters.iter().rev() {
        match filter {
            HttpFilter::Cors => cors::on_answer(rules, head),
            HttpFilter::PeerMetadata(settings) => peer_metadata::on_answer(*settings, rules, head, info),
            HttpFilter::Fault(_) | HttpFilter::Rbac(_) | HttpFilter::GrpcStats | HttpFilter::IstioStats(_) | HttpFilter::Alpn(_) | HttpFilter::Router(_) => {}
        }
    }
    let _ = request;
}

/// Tells the filters that a request has ended.
pub(crate) fn on_complete(stream: &mut Stream<'_>) {
    stream.watch.end(&mut stream.info);
    for filter in &stream.rules.hcm.filters {
        if let HttpFilter::IstioStats(settings) = filter {
            istio_stats::on_complete(*settings, stream);
        }
    }
}
