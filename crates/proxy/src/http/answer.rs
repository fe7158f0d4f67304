//! What routes and the connection manager do to heads: rewrites, header changes, redirects, and the fields every answer gets.
//!
//! - Reads: `plan::route::{HeaderOps, PathRewrite, HostRewrite, Redirect, DirectResponse}`, `plan::http::Hcm`.
//! - Twin: `kinds/src/virtual_service/headers.rs`, `kinds/src/virtual_service/rewrite.rs`.
//! - Rule: request changes happen once, before the first attempt; answer changes happen once, before its head goes down.
//! - Not here: filters' own fields (`filters`), framing (`http/responder.rs`).

use super::info::Info;
use super::local_reply::LocalReply;
use super::log;
use super::request::Request;
use super::stream::{Rules, Stream};
use lateen_base::headers;
use lateen_http1::{Headers, Known, ResponseHead};
use lateen_plan::http::ServerHeader;
use lateen_plan::listener::Direction;
use lateen_plan::listener::tls::DataSource;
use lateen_plan::names::Name;
use lateen_plan::request::RequestView;
use lateen_plan::route::hash::{self, NewCookie};
use lateen_plan::route::{DirectResponse, Forward, HeaderAction, HeaderOps, HeaderValue, HostRewrite, Redirect, RouteMatched, RouteTable};
use std::borrow::Cow;
use std::time::SystemTime;

/// Rewrites the request as its route says and writes the fields that go upstream.
pub(crate) fn finish_request(stream: &mut Stream<'_>, table: &RouteTable, matched: &RouteMatched<'_>, forward: &Forward) {
    for changes in matched.header_changes(table) {
        change_request(stream, &changes.request);
    }
    let Stream { request, info, rules, .. } = stream;
    if let Some(rewrite) = &forward.path_rewrite {
        let mut path = Vec::new();
        rewrite.write(&matched.route.matches.path, request.head.path(), &mut path);
        if path != request.head.path() {
            let old = request.head.path().to_vec();
            request.head.headers.set(headers::ORIGINAL_PATH.as_bytes(), &old);
            request.head.set_path(&path);
            info.original_path = Some(old.into());
        }
    }
    let literal = matched.weighted.and_then(|weighted| weighted.host_rewrite.as_ref());
    let host = match (literal, &forward.host_rewrite) {
        (Some(name), _) | (None, Some(HostRewrite::Literal(name))) => Some(name.as_bytes().to_vec()),
        (None, Some(HostRewrite::Header(name))) => request.values(name).next().map(<[u8]>::to_vec),
        (None, Some(HostRewrite::PathRegex(substitute))) => {
            let mut out = Vec::new();
            substitute.write(lateen_plan::request::path_only(request.head.path()), &mut out);
            Some(out)
        }
        (None, Some(HostRewrite::Auto)) => info.cluster.as_ref().and_then(|cluster| first_hostname(cluster)),
        (None, None) => None,
    };
    if let Some(host) = host.filter(|host| lateen_http1::valid_authority(host)) {
        let old = request.head.authority().to_vec();
        if forward.append_x_forwarded_host {
            request.head.headers.append(b"x-forwarded-host", &old);
        }
        request.head.headers.set(headers::ORIGINAL_HOST.as_bytes(), &old);
        request.head.set_authority(&host);
    }
    decorate_request(rules, matched, request);
}

/// The host name shared by a DNS cluster's endpoints.
fn first_hostname(cluster: &crate::cluster::Cluster) -> Option<Vec<u8>> {
    cluster.hosts().iter().map(|host| host.endpoint.hostname.as_bytes()).find(|name| !name.is_empty()).map(<[u8]>::to_vec)
}

/// `x-envoy-decorator-operation`: an outbound proxy names the operation, an inbound one takes the name away.
fn decorate_request(rules: &mut Rules<'_>, matched: &RouteMatched<'_>, request: &mut Request) {
    if rules.hcm.tracing.is_none() {
        return;
    }
    if rules.listener.direction == Direction::Inbound {
        rules.notes.operation_named = request.head.headers.remove(headers::DECORATOR_OPERATION.as_bytes());
    } else if let Some(decorator) = matched.route.decorator.as_ref().filter(|decorator| decorator.propagate) {
        request.head.headers.set(headers::DECORATOR_OPERATION.as_bytes(), decorator.operation.as_bytes());
    }
}

fn change_request(stream: &mut Stream<'_>, ops: &HeaderOps) {
    for set in &ops.set {
        let value = value(&set.value, &stream.rules, &stream.request, &stream.response, &stream.info);
        if value.is_empty() && !set.keep_empty {
            continue;
        }
        let head = &mut stream.request.head;
        match &*set.name {
            ":authority" => head.set_authority(&value),
            ":path" => head.set_path(&value),
            name => write(&mut head.headers, name, &value, set.action),
        }
    }
    for name in &ops.remove {
        stream.request.head.headers.remove(name.as_bytes());
    }
}

fn change_answer(ops: &HeaderOps, rules: &Rules<'_>, request: &Request, head: &mut ResponseHead, info: &Info) {
    for set in &ops.set {
        let value = value(&set.value, rules, request, head, info).into_owned();
        if !value.is_empty() || set.keep_empty {
            write(&mut head.headers, &set.name, &value, set.action);
        }
    }
    for name in &ops.remove {
        head.headers.remove(name.as_bytes());
    }
}

fn write(headers: &mut Headers, name: &str, value: &[u8], action: HeaderAction) {
    let name = name.as_bytes();
    match action {
        HeaderAction::Append => headers.append(name, value),
        HeaderAction::AddIfAbsent if headers.get(name).is_some() => {}
        HeaderAction::OverwriteIfExists if headers.get(name).is_none() => {}
        HeaderAction::AddIfAbsent | HeaderAction::Overwrite | HeaderAction::OverwriteIfExists => headers.set(name, value),
    }
}

fn value<'v>(value: &'v HeaderValue, rules: &Rules<'_>, request: &Request, response: &ResponseHead, info: &Info) -> Cow<'v, [u8]> {
    match value {
        HeaderValue::Literal(bytes) => Cow::Borrowed(bytes),
        HeaderValue::Format(format) => {
            let mut out = Vec::new();
            log::with_record(rules, request, response, info, |record| format.write_header_value(record, &mut out));
            // A value from the network cannot end its line.
            out.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
            Cow::Owned(out)
        }
    }
}

/// The fields of every answer, from upstream or made here.
pub(crate) fn finish(rules: &Rules<'_>, request: &Request, head: &mut ResponseHead, info: &mut Info) {
    let hcm = &rules.hcm;
    if !info.local && info.details.is_empty() {
        info.details = Cow::Borrowed("via_upstream");
    }
    if !info.local && head.status == 503 {
        head.headers.remove(headers::UNPROCESSED.as_bytes());
    }
    if let Some(millis) = info.upstream_service_time.filter(|_| !info.local && !rules.notes.suppress_envoy_headers) {
        let mut number = itoa::Buffer::new();
        let millis = number.format(u64::try_from(millis.as_millis()).unwrap_or(u64::MAX));
        head.headers.set(headers::UPSTREAM_SERVICE_TIME.as_bytes(), millis.as_bytes());
    }
    if let (Some(table), Some(matched)) = (rules.table.as_deref(), rules.matched()) {
        if !info.local || matched.forward().is_none() {
            for changes in matched.header_changes(table) {
                change_answer(&changes.response, rules, request, head, info);
            }
        }
        if matched.virtual_host.include_attempt_count_in_response {
            head.headers.set(headers::ATTEMPT_COUNT.as_bytes(), info.attempts.to_string().as_bytes());
        }
        decorate_answer(rules, &matched, head);
    }
    if let Some(cookie) = &rules.notes.cookie {
        head.headers.append(b"set-cookie", cookie);
    }
    match hcm.server_header {
        ServerHeader::Overwrite => head.headers.set(b"server", hcm.server_name.as_bytes()),
        ServerHeader::AppendIfAbsent if head.headers.known(Known::Server).is_some() => {}
        ServerHeader::AppendIfAbsent => head.headers.append(b"server", hcm.server_name.as_bytes()),
        ServerHeader::PassThrough => {}
    }
    if head.headers.known(Known::Date).is_none() {
        head.headers.append(b"date", &date_now());
    }
    if !hcm.via.is_empty() {
        head.headers.append(b"via", hcm.via.as_bytes());
    }
    if hcm.request_id.always_set_in_response
        && let Some(id) = request.head.headers.known(Known::XRequestId)
    {
        head.headers.set(headers::REQUEST_ID.as_bytes(), id);
    }
    info.status = head.status;
    info.response_head_bytes = head.headers.wire_bytes() as u64;
    if let Some(status) = super::upstream::grpc_status(&head.headers) {
        info.grpc_status = Some(status);
    }
}

fn decorate_answer(rules: &Rules<'_>, matched: &RouteMatched<'_>, head: &mut ResponseHead) {
    if rules.hcm.tracing.is_none() {
        return;
    }
    if rules.listener.direction != Direction::Inbound {
        head.headers.remove(headers::DECORATOR_OPERATION.as_bytes());
    } else if let Some(decorator) = matched.route.decorator.as_ref().filter(|decorator| decorator.propagate && !rules.notes.operation_named) {
        head.headers.set(headers::DECORATOR_OPERATION.as_bytes(), decorator.operation.as_bytes());
    }
}

thread_local! {
    /// The last `date` value and its second: formatted once a second, not once a request.
    static DATE: std::cell::RefCell<(u64, [u8; 29])> = const { std::cell::RefCell::new((0, [0; 29])) };
}

/// `date` of this second (RFC 9110 §5.6.7).
fn date_now() -> [u8; 29] {
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(at, text)| {
        if *at != second
            && let Ok(fresh) = httpdate::fmt_http_date(now).into_bytes().try_into()
        {
            (*at, *text) = (second, fresh);
        }
        *text
    })
}

/// Answers made by routes.
fn found(status: u16, location: Vec<u8>) -> LocalReply {
    let mut reply = LocalReply::new(status, "", "direct_response");
    reply.headers.push(("location", location));
    reply
}

/// A route's redirect.
pub(crate) fn redirect(redirect: &Redirect, matched: &RouteMatched<'_>, request: &Request) -> LocalReply {
    let mut location = Vec::new();
    redirect.write_location(request, &matched.route.matches.path, &mut location);
    found(redirect.status, location)
}

/// The redirect of a virtual host that demands TLS.
pub(crate) fn https_redirect(request: &Request) -> LocalReply {
    found(301, [b"https://", request.head.authority(), request.head.path()].concat())
}

/// The redirect to a path without escaped slashes.
pub(crate) fn path_redirect(request: &Request, path: &[u8]) -> LocalReply {
    let scheme: &[u8] = if request.https { b"https://" } else { b"http://" };
    let mut reply = found(307, [scheme, request.head.authority(), path].concat());
    reply.details = Cow::Borrowed("path_normalization_failed");
    reply
}

/// A route's answer in place.
pub(crate) fn direct(direct: &DirectResponse) -> LocalReply {
    let mut reply = LocalReply::new(direct.status, "", "direct_response");
    match &direct.body {
        None => {}
        Some(DataSource::Bytes(bytes)) => reply.body = Cow::Owned(bytes.to_vec()),
        Some(DataSource::File(path)) => match std::fs::read(&**path) {
            Ok(bytes) => reply.body = Cow::Owned(bytes),
            Err(error) => tracing::error!(%path, %error, "body of a direct response cannot be read; answering without it"),
        },
    }
    reply
}

/// The cluster named by the request itself.
pub(crate) fn cluster_from_header(matched: &RouteMatched<'_>, request: &Request) -> Option<Name> {
    let header = matched.cluster_header()?;
    let value = request.values(header).next()?;
    std::str::from_utf8(value).ok().map(Name::from)
}

/// The hash for consistent balancing; a cookie to make is noted for the answer.
pub(crate) fn hash(stream: &mut Stream<'_>, forward: &Forward) -> Option<u64> {
    if forward.hash.is_empty() {
        return None;
    }
    let connection = stream.rules.connection(&stream.info);
    let (hash, cookie) = hash::hash(&forward.hash, &stream.request, &connection, stream.rules.worker().draw());
    let cookie = cookie.map(|cookie| set_cookie(&cookie));
    if cookie.is_some() {
        stream.rules.notes.cookie = cookie;
    }
    hash
}

/// `name="value"; Max-Age=…; Path=…; HttpOnly`, as Envoy writes it.
fn set_cookie(cookie: &NewCookie<'_>) -> Vec<u8> {
    let mut text = format!("{}=\"{:016x}\"", cookie.name, cookie.value);
    if !cookie.ttl.is_zero() {
        text.push_str(&format!("; Max-Age={}", cookie.ttl.as_secs()));
    }
    if !cookie.path.is_empty() {
        text.push_str(&format!("; Path={}", cookie.path));
    }
    text.push_str("; HttpOnly");
    text.into_bytes()
}
