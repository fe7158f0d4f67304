//! Peer metadata: the two proxies of an exchange tell each other whose they are, in headers.
//!
//! - Reads: `plan::http::PeerMetadata`; `x-envoy-peer-metadata` and `x-envoy-peer-metadata-id`.
//! - Rule: what came from a peer is taken out before the application sees it.
//! - Rule: an answer carries metadata only when the request did.
//! - Not here: what is done with it (`filters/istio_stats.rs`), its encoding (`telemetry::peer`).

use super::Flow;
use crate::http::info::Info;
use crate::http::stream::{Rules, Stream};
use lateen_base::headers;
use lateen_http1::{Headers, ResponseHead};
use lateen_plan::http::PeerMetadata;
use lateen_telemetry::istio::Peer;

/// More is not metadata of a workload.
const METADATA_BYTES_MAX: usize = 16 * 1024;

pub(crate) fn on_request(settings: PeerMetadata, stream: &mut Stream<'_>) -> Flow {
    let fields = &mut stream.request.head.headers;
    if settings.downstream_discovery {
        stream.info.downstream_peer = take(fields, &stream.rules);
        stream.rules.notes.peer_asked = stream.info.downstream_peer.is_some();
    }
    if settings.upstream_propagation {
        add_own(fields, &stream.rules);
    }
    Flow::Continue
}

pub(crate) fn on_answer(settings: PeerMetadata, rules: &Rules<'_>, head: &mut ResponseHead, info: &mut Info) {
    if settings.upstream_discovery && !info.local {
        info.upstream_peer = take(&mut head.headers, rules);
    }
    if settings.downstream_propagation && rules.notes.peer_asked {
        add_own(&mut head.headers, rules);
    }
}

/// Takes the metadata out of the fields; decoded only when seen for the first time.
fn take(fields: &mut Headers, rules: &Rules<'_>) -> Option<Peer> {
    let name = headers::PEER_METADATA.as_bytes();
    let found = fields.get(name).filter(|value| value.len() <= METADATA_BYTES_MAX).map(|value| rules.worker().metrics.borrow_mut().peer_of_header(value));
    fields.remove(name);
    let id = fields.remove(headers::PEER_METADATA_ID.as_bytes());
    found.or(id.then_some(Peer::UNKNOWN))
}

fn add_own(fields: &mut Headers, rules: &Rules<'_>) {
    let Some(own) = crate::filters::istio_stats::own_metadata(rules) else { return };
    fields.set(headers::PEER_METADATA.as_bytes(), own.encoded.as_bytes());
    fields.set(headers::PEER_METADATA_ID.as_bytes(), own.id.as_bytes());
}
