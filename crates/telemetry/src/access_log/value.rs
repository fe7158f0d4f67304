//! Writing one operator's value.
//!
//! - Rule: network bytes are escaped so that they cannot end the line, close a quote or steer a terminal.
//! - Not here: which operators there are (`parse`), JSON's shape (`json`).

use super::parse::{Fact, GrpcStatus, Header, Op, Value};
use super::record::{AccessRecord, HeaderSource};
use super::time::write_utc;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Where a value ends up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// A text line: quotes, backslashes and control characters are escaped; an absent value is `-`.
    Text,
    /// Inside a JSON string; an absent value is `-`.
    Json,
    /// A header's value: as it stands; an absent value is empty.
    Header,
}

/// What a value is.
pub(super) enum Shape<'a> {
    Absent,
    Number(u64),
    /// Bytes from the network.
    Foreign(&'a [u8]),
    /// Text of ours, safe as it stands.
    Own(&'a str),
    Address(SocketAddr),
    Ip(std::net::IpAddr),
    Written,
}

/// Appends one piece.
pub(super) fn write_text(op: &Op, record: &AccessRecord<'_>, out: &mut Vec<u8>, escape: Escape) {
    let (value, length) = match op {
        Op::Literal(bytes) => {
            if escape == Escape::Json { write_escaped(bytes, out, escape) } else { out.extend_from_slice(bytes) }
            return;
        }
        Op::Value(value, length) => (value, *length),
    };
    let start = out.len();
    match look_up(value, record, out) {
        Shape::Absent if escape == Escape::Header => {}
        Shape::Absent => out.push(b'-'),
        Shape::Number(n) => {
            let _ = write!(out, "{n}");
        }
        Shape::Foreign(bytes) => {
            let cut = length.and_then(|l| bytes.get(..l)).unwrap_or(bytes);
            write_escaped(cut, out, escape);
            return;
        }
        Shape::Own(text) => out.extend_from_slice(text.as_bytes()),
        Shape::Address(address) => {
            let _ = write!(out, "{address}");
        }
        Shape::Ip(ip) => {
            let _ = write!(out, "{ip}");
        }
        Shape::Written => {}
    }
    if let Some(length) = length {
        out.truncate(out.len().min(start + length));
    }
}

/// Appends `bytes`, escaped for where they end up.
pub(super) fn write_escaped(bytes: &[u8], out: &mut Vec<u8>, escape: Escape) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let hex = |b: u8| [HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]];
    if escape == Escape::Header {
        out.extend(bytes.iter().filter(|b| !matches!(b, b'\r' | b'\n' | 0)));
        return;
    }
    // JSON must be UTF-8; so should a log be, and invalid bytes are shown as such.
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..='\x1f' | '\x7f' => {
                    out.extend_from_slice(if escape == Escape::Json { b"\\u00" } else { b"\\x" });
                    out.extend_from_slice(&hex(c as u8));
                }
                '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                _ => {
                    let mut buffer = [0; 4];
                    out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                }
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(if escape == Escape::Json { b"\\u00" } else { b"\\x" });
            out.extend_from_slice(&hex(*byte));
        }
    }
}

/// Finds a value; times are written at once ([`Shape::Written`]).
pub(super) fn look_up<'a>(value: &'a Value, record: &AccessRecord<'a>, out: &mut Vec<u8>) -> Shape<'a> {
    match value {
        Value::Request(header) => foreign(find(record.request, header)),
        Value::Response(header) => foreign(find(record.response, header)),
        Value::Trailer(header) => foreign(find(record.trailers, header)),
        Value::RequestWithoutQuery(header) => foreign(find(record.request, header).map(|v| v.split(|b| *b == b'?').next().unwrap_or(v))),
        Value::StartTime(None) => {
            write_utc(record.start, out);
            Shape::Written
        }
        Value::StartTime(Some(format)) => {
            format.write(record.start, out);
            Shape::Written
        }
        Value::Metadata(filter, path) => {
            let found = record.metadata.iter().find(|(f, p, _)| f == filter && p == path);
            foreign(found.map(|(_, _, v)| v.as_bytes()))
        }
        Value::FilterState(key) => foreign(record.filter_state.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_bytes())),
        Value::GrpcStatus(style) => grpc_status(*style, record),
        Value::Fact(fact) => look_up_fact(*fact, record, out),
    }
}

fn find<'a>(headers: &'a dyn HeaderSource, wanted: &Header) -> Option<&'a [u8]> {
    headers.get(&wanted.name).or_else(|| headers.get(wanted.otherwise.as_deref()?))
}

fn foreign(found: Option<&[u8]>) -> Shape<'_> {
    found.filter(|v| !v.is_empty()).map_or(Shape::Absent, Shape::Foreign)
}

fn millis(duration: Option<Duration>) -> Shape<'static> {
    duration.map_or(Shape::Absent, |d| Shape::Number(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
}

fn address(address: Option<SocketAddr>) -> Shape<'static> {
    address.map_or(Shape::Absent, Shape::Address)
}

fn ip(address: Option<SocketAddr>) -> Shape<'static> {
    address.map_or(Shape::Absent, |a| Shape::Ip(a.ip()))
}

fn port(address: Option<SocketAddr>) -> Shape<'static> {
    address.map_or(Shape::Absent, |a| Shape::Number(a.port().into()))
}

fn own(text: Option<&str>) -> Shape<'_> {
    text.filter(|t| !t.is_empty()).map_or(Shape::Absent, Shape::Own)
}

fn bytes(text: Option<&str>) -> Shape<'_> {
    foreign(text.map(str::as_bytes))
}

fn look_up_fact<'a>(fact: Fact, r: &AccessRecord<'a>, out: &mut Vec<u8>) -> Shape<'a> {
    match fact {
        Fact::Protocol => own(r.protocol),
        Fact::UpstreamProtocol => own(r.upstream_protocol),
        Fact::ResponseCode => Shape::Number(r.response_code.into()),
        Fact::ResponseFlags => flags(r.flags.short(), out),
        Fact::ResponseFlagsLong => flags(r.flags.long(), out),
        Fact::ResponseCodeDetails => bytes(r.response_code_details),
        Fact::ConnectionTerminationDetails => bytes(r.connection_termination_details),
        Fact::UpstreamTransportFailureReason => bytes(r.upstream_transport_failure_reason),
        Fact::DownstreamTransportFailureReason => bytes(r.downstream_transport_failure_reason),
        Fact::BytesReceived => Shape::Number(r.bytes_received),
        Fact::BytesSent => Shape::Number(r.bytes_sent),
        Fact::Duration => millis(r.duration),
        Fact::RequestDuration => millis(r.request_duration),
        Fact::ResponseDuration => millis(r.response_duration),
        Fact::ResponseTxDuration => millis(r.duration.zip(r.response_duration).map(|(all, first)| all.saturating_sub(first))),
        Fact::UpstreamHost | Fact::UpstreamRemoteAddress => address(r.upstream_host),
        Fact::UpstreamRemoteIp => ip(r.upstream_host),
        Fact::UpstreamRemotePort => port(r.upstream_host),
        Fact::UpstreamCluster | Fact::UpstreamClusterRaw => own(r.upstream_cluster),
        Fact::UpstreamLocalAddress => address(r.upstream_local_address),
        Fact::UpstreamLocalIp => ip(r.upstream_local_address),
        Fact::UpstreamLocalPort => port(r.upstream_local_address),
        Fact::UpstreamRequestAttemptCount => Shape::Number(r.attempt_count.into()),
        Fact::DownstreamLocalAddress => address(r.downstream_local_address),
        Fact::DownstreamLocalIp => ip(r.downstream_local_address),
        Fact::DownstreamLocalPort => port(r.downstream_local_address),
        Fact::DownstreamRemoteAddress => address(r.downstream_remote_address),
        Fact::DownstreamRemoteIp => ip(r.downstream_remote_address),
        Fact::DownstreamRemotePort => port(r.downstream_remote_address),
        Fact::DownstreamDirectRemoteAddress => address(r.downstream_direct_remote_address),
        Fact::DownstreamDirectRemoteIp => ip(r.downstream_direct_remote_address),
        Fact::DownstreamDirectRemotePort => port(r.downstream_direct_remote_address),
        Fact::DownstreamPeerUriSan => bytes(r.downstream_peer_uri_san),
        Fact::DownstreamPeerSubject => bytes(r.downstream_peer_subject),
        Fact::DownstreamLocalUriSan => bytes(r.downstream_local_uri_san),
        Fact::DownstreamTlsVersion => own(r.downstream_tls_version),
        Fact::DownstreamTlsCipher => own(r.downstream_tls_cipher),
        Fact::RequestedServerName => bytes(r.requested_server_name),
        Fact::RouteName => own(r.route_name),
        Fact::VirtualHostName => own(r.virtual_host_name),
        Fact::FilterChainName => own(r.filter_chain_name),
        Fact::ConnectionId => Shape::Number(r.connection_id),
        Fact::Hostname => own(r.hostname),
    }
}

fn flags(words: impl Iterator<Item = &'static str>, out: &mut Vec<u8>) -> Shape<'static> {
    let start = out.len();
    for word in words {
        if out.len() > start {
            out.push(b',');
        }
        out.extend_from_slice(word.as_bytes());
    }
    // Envoy writes the dash in JSON too.
    if out.len() == start { Shape::Own("-") } else { Shape::Written }
}

/// gRPC status names: CamelCase and SNAKE_CASE. Source: gRPC's status code list.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

fn grpc_status<'a>(style: GrpcStatus, record: &AccessRecord<'a>) -> Shape<'a> {
    let text = record.trailers.get("grpc-status").or_else(|| record.response.get("grpc-status"));
    let Some(code) = text.and_then(|t| std::str::from_utf8(t).ok()).and_then(|t| t.parse::<u16>().ok()) else {
        return Shape::Absent;
    };
    match (style, GRPC.get(usize::from(code))) {
        (GrpcStatus::Camel, Some((camel, _))) => Shape::Own(camel),
        (GrpcStatus::Snake, Some((_, snake))) => Shape::Own(snake),
        (GrpcStatus::Number, _) | (_, None) => Shape::Number(code.into()),
    }
}
