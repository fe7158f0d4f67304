//! Answers made by the proxy itself: status, body, flag and detail exactly as Envoy gives them.
//!
//! - Reads: nothing; the texts are Envoy's, which clients and dashboards match on.
//! - Rule: one constructor per cause, so that a cause cannot be answered in two ways.
//! - Rule: a gRPC request gets a 200 with the error in `grpc-status`, as Envoy does.
//! - Not here: when to answer (`http/router.rs`, `filters`), writing (`http/responder.rs`).

use super::info::Info;
use super::request::Request;
use lateen_base::headers;
use lateen_telemetry::ResponseFlags;
use lateen_http1::Headers;
use std::borrow::Cow;

/// An answer made here.
#[derive(Debug, Clone)]
pub struct LocalReply {
    /// HTTP status.
    pub status: u16,
    /// Body, mostly a fixed text.
    pub body: Cow<'static, [u8]>,
    /// Response flag, if the cause has one.
    pub flag: Option<ResponseFlags>,
    /// Response code detail.
    pub details: Cow<'static, str>,
    /// Fields beside the usual ones.
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// gRPC status instead of the one that follows from `status`.
    pub grpc_status: Option<u32>,
    /// The connection cannot carry another request.
    pub close: bool,
}

impl LocalReply {
    /// An answer with a text body.
    #[must_use]
    pub fn new(status: u16, body: &'static str, details: &'static str) -> Self {
        Self { status, body: Cow::Borrowed(body.as_bytes()), flag: None, details: Cow::Borrowed(details), headers: Vec::new(), grpc_status: None, close: false }
    }

    fn flagged(self, flag: ResponseFlags) -> Self {
        Self { flag: Some(flag), ..self }
    }

    fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// No virtual host or route takes the request.
    #[must_use]
    pub fn route_not_found() -> Self {
        Self::new(404, "", "route_not_found").flagged(ResponseFlags::NO_ROUTE_FOUND)
    }

    /// The route's cluster does not exist.
    #[must_use]
    pub fn cluster_not_found(status: u16) -> Self {
        Self::new(status, "", "cluster_not_found").flagged(ResponseFlags::NO_CLUSTER_FOUND)
    }

    /// The cluster has no endpoint to give.
    #[must_use]
    pub fn no_healthy_upstream() -> Self {
        Self::new(503, "no healthy upstream", "no_healthy_upstream").flagged(ResponseFlags::NO_HEALTHY_UPSTREAM)
    }

    /// The route's timeout ran out.
    #[must_use]
    pub fn response_timeout() -> Self {
        Self::new(504, "upstream request timeout", "response_timeout").flagged(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
    }

    /// The last attempt's own timeout ran out.
    #[must_use]
    pub fn per_try_timeout() -> Self {
        Self::new(504, "upstream request timeout", "upstream_per_try_timeout").flagged(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
    }

    /// No bytes either way for too long.
    #[must_use]
    pub fn stream_idle_timeout() -> Self {
        Self::new(408, "stream timeout", "stream_idle_timeout").flagged(ResponseFlags::STREAM_IDLE_TIMEOUT).closing()
    }

    /// The request did not arrive in time.
    #[must_use]
    pub fn request_timeout(details: &'static str) -> Self {
        Self::new(408, "", details).closing()
    }

    /// The stream lasted longer than allowed.
    #[must_use]
    pub fn max_duration_reached() -> Self {
        Self::new(408, "downstream duration timeout", "max_duration_timeout").flagged(ResponseFlags::DURATION_TIMEOUT).closing()
    }

    /// The upstream was lost before it answered. `reason` is Envoy's reset reason; `transport` what the socket said.
    #[must_use]
    pub fn upstream_reset(reason: ResetReason, transport: &str, retried: bool) -> Self {
        let text = reason.text();
        let prefix = "upstream connect error or disconnect/reset before headers. ";
        let retried = if retried { "retried and the latest " } else { "" };
        let status = if reason == ResetReason::ProtocolError { 502 } else { 503 };
        let bar = if transport.is_empty() { "" } else { "|" };
        let details = format!("upstream_reset_before_response_started{{{}{bar}{}}}", text.replace(' ', "_"), transport.replace(' ', "_"));
        let mut reply = Self::new(status, "", "").flagged(reason.flag());
        reply.body = format!("{prefix}{retried}reset reason: {text}").into_bytes().into();
        reply.details = details.into();
        if reason == ResetReason::Overflow {
            reply.headers.push((headers::OVERLOADED, b"true".to_vec()));
        }
        reply
    }

    /// The client went away; nothing is sent, only logged.
    #[must_use]
    pub fn client_gone() -> Self {
        Self::new(0, "", "downstream_remote_disconnect").flagged(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION).closing()
    }

    /// Authorization refused. `details` names the policy.
    #[must_use]
    pub fn rbac_denied(details: String) -> Self {
        Self { details: details.into(), ..Self::new(403, "RBAC: access denied", "") }
    }

    /// An injected fault.
    #[must_use]
    pub fn fault(status: u16, grpc_status: Option<u32>) -> Self {
        Self { grpc_status, ..Self::new(status, "fault filter abort", "fault_filter_abort").flagged(ResponseFlags::FAULT_INJECTED) }
    }

    /// The request could not be understood.
    #[must_use]
    pub fn protocol_error(status: u16, details: &'static str) -> Self {
        let body = match status {
            400 => "Bad Request",
            431 => "Request Header Fields Too Large",
            426 => "Upgrade Required",
            505 => "HTTP Version Not Supported",
            _ => "",
        };
        Self::new(status, body, details).flagged(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR).closing()
    }

    /// HTTP/1.0 from a client that must upgrade.
    #[must_use]
    pub fn low_version() -> Self {
        Self::protocol_error(426, "low_version")
    }

    /// A target that is no path, such as `*`.
    #[must_use]
    pub fn not_absolute() -> Self {
        Self::new(404, "", "absolute_path_rejected")
    }

    /// An upgrade that the route does not allow.
    #[must_use]
    pub fn upgrade_refused() -> Self {
        Self::new(403, "", "upgrade_failed")
    }

    /// The answer as fields and body for this request; notes flag and details.
    pub(crate) fn prepare(self, request: &Request, info: &mut Info, fields: &mut Headers) -> (u16, Cow<'static, [u8]>) {
        fields.clear();
        if let Some(flag) = self.flag {
            info.flags.insert(flag);
        }
        info.details = self.details;
        info.local = true;
        let (mut status, mut body) = (self.status, self.body);
        if request.is_grpc() {
            let grpc = self.grpc_status.unwrap_or_else(|| super::grpc::status_of_http(status));
            fields.append(b"content-type", b"application/grpc");
            fields.append(b"grpc-status", grpc.to_string().as_bytes());
            if !body.is_empty() {
                fields.append(b"grpc-message", &super::grpc::encode_message(&body));
            }
            info.grpc_status = Some(grpc);
            status = 200;
            body = Cow::Borrowed(&[]);
        } else if !body.is_empty() {
            fields.append(b"content-length", body.len().to_string().as_bytes());
            fields.append(b"content-type", b"text/plain");
        } else {
            fields.append(b"content-length", b"0");
        }
        for (name, value) in &self.headers {
            fields.set(name.as_bytes(), value);
        }
        if request.head.method() == b"HEAD" {
            body = Cow::Borrowed(&[]);
        }
        (status, body)
    }
}

/// Why an upstream stream ended before its answer, in Envoy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// A circuit breaker refused.
    Overflow,
    /// No connection.
    ConnectionFailure,
    /// No connection in time.
    ConnectionTimeout,
    /// The connection ended.
    ConnectionTermination,
    /// The stream was reset (HTTP/2).
    RemoteReset,
    /// The stream was refused unprocessed (HTTP/2).
    RefusedStream,
    /// The answer was malformed.
    ProtocolError,
}

impl ResetReason {
    /// Envoy's text.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::ConnectionFailure => "remote connection failure",
            Self::ConnectionTimeout => "connection timeout",
            Self::ConnectionTermination => "connection termination",
            Self::RemoteReset => "remote reset",
            Self::RefusedStream => "remote refused stream reset",
            Self::ProtocolError => "protocol error",
        }
    }

    /// Envoy's response flag.
    #[must_use]
    pub fn flag(self) -> ResponseFlags {
        match self {
            Self::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
            Self::ConnectionFailure | Self::ConnectionTimeout => ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
            Self::ConnectionTermination => ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
            Self::RemoteReset | Self::RefusedStream => ResponseFlags::UPSTREAM_REMOTE_RESET,
            Self::ProtocolError => ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(reply: LocalReply, content_type: Option<&str>) -> (u16, String, Headers, Info) {
        let mut request = Request::default();
        if let Some(value) = content_type {
            request.head.headers.append(b"content-type", value.as_bytes());
        }
        let (mut info, mut fields) = (Info::default(), Headers::default());
        let (status, body) = reply.prepare(&request, &mut info, &mut fields);
        (status, String::from_utf8_lossy(&body).into_owned(), fields, info)
    }

    #[test]
    fn a_refused_connection_reads_as_envoys() {
        let reply = LocalReply::upstream_reset(ResetReason::ConnectionFailure, "delayed_connect_error:_Connection_refused", true);
        let (status, body, fields, info) = prepared(reply, None);
        assert_eq!(status, 503);
        assert_eq!(body, "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure");
        assert_eq!(info.details, "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}");
        assert_eq!(info.flags.to_string(), "UF");
        assert_eq!(fields.get(b"content-type"), Some(&b"text/plain"[..]));
    }

    #[test]
    fn overflow_says_that_it_is_overload() {
        let (_, body, fields, info) = prepared(LocalReply::upstream_reset(ResetReason::Overflow, "", false), None);
        assert!(body.ends_with("reset reason: overflow"));
        assert_eq!(fields.get(b"x-envoy-overloaded"), Some(&b"true"[..]));
        assert_eq!((info.flags.to_string().as_str(), &*info.details), ("UO", "upstream_reset_before_response_started{overflow}"));
    }

    #[test]
    fn grpc_callers_get_a_grpc_status() {
        let (status, body, fields, info) = prepared(LocalReply::rbac_denied("x".into()), Some("application/grpc"));
        assert_eq!((status, body.as_str(), info.grpc_status), (200, "", Some(7)));
        assert_eq!(fields.get(b"grpc-message"), Some(&b"RBAC: access denied"[..]));
    }

    #[test]
    fn answers_without_body_have_length_zero_and_no_type() {
        let (status, _, fields, info) = prepared(LocalReply::route_not_found(), None);
        assert_eq!((status, info.flags.to_string().as_str()), (404, "NR"));
        assert_eq!((fields.get(b"content-length"), fields.get(b"content-type")), (Some(&b"0"[..]), None));
    }
}
