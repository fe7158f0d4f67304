//! Istio's standard metrics of HTTP and gRPC requests.
//!
//! - Reads: `plan::listener::IstioStats`; what the peers said of themselves, the cluster's services, the TLS handshake.
//! - Twin: `proxy/src/network/report.rs` for connections.
//! - Rule: counted once per request, when it has ended.
//! - Not here: the tables and labels (`telemetry::istio`).

use crate::http::stream::{Rules, Stream};
use lateen_plan::listener::{Direction, IstioStats};
use lateen_plan::request::RequestView;
use lateen_plan::route::rewrite::split_port;
use lateen_telemetry::istio::{Key, Peer, Protocol, Reporter, RequestSizes, Security, Service, Shard};

/// What this proxy says of itself to its peers. `None`: it does not know.
pub(crate) fn own_metadata<'r>(rules: &'r Rules<'_>) -> Option<&'r crate::worker::OwnNode> {
    let own = &*rules.origin.worker.options.own;
    (!own.id.is_empty()).then_some(own)
}

pub(crate) fn on_complete(settings: IstioStats, stream: &Stream<'_>) {
    let Stream { request, info, rules, .. } = stream;
    let inbound = rules.listener.direction == Direction::Inbound || settings.server_gateway;
    let mut shard = rules.worker().metrics.borrow_mut();
    let own = rules.worker().own;
    let other = peer(&mut shard, stream, inbound);
    let (source, destination) = if inbound { (other, own) } else { (own, other) };
    let (source_principal, destination_principal) = principals(&mut shard, stream, inbound);
    let service = service(&mut shard, stream, settings, inbound);
    let grpc = request.is_grpc();
    let key = Key {
        reporter: if inbound { Reporter::Destination } else { Reporter::Source },
        source,
        destination,
        source_principal,
        destination_principal,
        service,
        protocol: if grpc { Protocol::Grpc } else { Protocol::Http },
        response_code: info.status,
        grpc_status: if grpc { info.grpc_status.and_then(|status| u8::try_from(status).ok()) } else { None },
        flags: info.flags,
        security: security(stream, inbound),
    };
    let sizes = RequestSizes {
        duration: info.duration,
        request_bytes: info.request_head_bytes + info.bytes_received,
        response_bytes: info.response_head_bytes + info.bytes_sent,
        request_messages: info.request_messages,
        response_messages: info.response_messages,
    };
    shard.request(&key, &sizes);
}

/// The other workload: as it introduced itself, else as the endpoint's metadata say.
fn peer(shard: &mut Shard, stream: &Stream<'_>, inbound: bool) -> Peer {
    let info = &stream.info;
    let said = if inbound { info.downstream_peer } else { info.upstream_peer };
    if let Some(peer) = said.filter(|peer| *peer != Peer::UNKNOWN) {
        return peer;
    }
    match info.host.as_ref().map(|host| &host.endpoint.workload) {
        Some(workload) if !inbound && !workload.is_empty() => shard.peer_of_endpoint(workload),
        _ => Peer::UNKNOWN,
    }
}

fn principals(shard: &mut Shard, stream: &Stream<'_>, inbound: bool) -> (lateen_telemetry::istio::Text, lateen_telemetry::istio::Text) {
    // Downstream the peer is the client; upstream it is the server.
    let tls = if inbound { stream.rules.origin.tls.as_deref() } else { stream.info.upstream_tls.as_deref() };
    let peer = tls.and_then(|tls| tls.peer.as_ref()?.uri_sans.first()).map(String::as_str);
    let own = tls.and_then(|tls| tls.local_uri.as_deref());
    let (source, destination) = if inbound { (peer, own) } else { (own, peer) };
    (shard.text(source.unwrap_or_default()), shard.text(destination.unwrap_or_default()))
}

/// The called service: the cluster's, else the host that was asked for.
fn service(shard: &mut Shard, stream: &Stream<'_>, settings: IstioStats, inbound: bool) -> Service {
    if let Some(service) = stream.info.cluster.as_ref().and_then(|cluster| cluster.plan.services.first()) {
        return shard.service(&service.host, &service.name, &service.namespace);
    }
    let passthrough = stream.info.cluster_name.as_deref();
    if !inbound && matches!(passthrough, Some(lateen_base::names::PASSTHROUGH_CLUSTER | lateen_base::names::BLACK_HOLE_CLUSTER)) {
        let name = passthrough.unwrap_or_default();
        return shard.service(name, name, "");
    }
    if settings.disable_host_header_fallback {
        return shard.service("", "", "");
    }
    let host = split_port(stream.request.authority()).0;
    let host = std::str::from_utf8(host).unwrap_or_default();
    shard.service(host, host, "")
}

fn security(stream: &Stream<'_>, inbound: bool) -> Security {
    if !inbound {
        return Security::Unknown;
    }
    match stream.rules.origin.tls.as_deref() {
        Some(tls) if tls.peer.is_some() => Security::MutualTls,
        Some(_) | None => Security::None,
    }
}
