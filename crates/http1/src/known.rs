//! Field names that a proxy looks at on every message, as small numbers.
//!
//! - Rule: a name is classified once, when its field is added; later look-ups compare one byte.
//! - Limits: closed list; every other field is [`Known::Other`].
//! - Not here: values of any kind.

/// The classified name of a field. Names are compared in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    /// Any name not in this list.
    Other,
    /// Taken out; kept as a tombstone so that spans stay stable.
    Removed,
    /// `authorization`
    Authorization,
    /// `connection`
    Connection,
    /// `content-length`
    ContentLength,
    /// `content-type`
    ContentType,
    /// `cookie`
    Cookie,
    /// `date`
    Date,
    /// `expect`
    Expect,
    /// `grpc-status`
    GrpcStatus,
    /// `host`
    Host,
    /// `http2-settings`
    Http2Settings,
    /// `keep-alive`
    KeepAlive,
    /// `origin`
    Origin,
    /// `proxy-connection`
    ProxyConnection,
    /// `server`
    Server,
    /// `te`
    Te,
    /// `trailer`
    Trailer,
    /// `transfer-encoding`
    TransferEncoding,
    /// `upgrade`
    Upgrade,
    /// `user-agent`
    UserAgent,
    /// `via`
    Via,
    /// Any name that starts with `x-envoy-`.
    XEnvoy,
    /// `x-forwarded-client-cert`
    XForwardedClientCert,
    /// `x-forwarded-for`
    XForwardedFor,
    /// `x-forwarded-proto`
    XForwardedProto,
    /// `x-request-id`
    XRequestId,
}

impl Known {
    /// Classifies a lower-case name.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"authorization" => Self::Authorization,
            b"connection" => Self::Connection,
            b"content-length" => Self::ContentLength,
            b"content-type" => Self::ContentType,
            b"cookie" => Self::Cookie,
            b"date" => Self::Date,
            b"expect" => Self::Expect,
            b"grpc-status" => Self::GrpcStatus,
            b"host" => Self::Host,
            b"http2-settings" => Self::Http2Settings,
            b"keep-alive" => Self::KeepAlive,
            b"origin" => Self::Origin,
            b"proxy-connection" => Self::ProxyConnection,
            b"server" => Self::Server,
            b"te" => Self::Te,
            b"trailer" => Self::Trailer,
            b"transfer-encoding" => Self::TransferEncoding,
            b"upgrade" => Self::Upgrade,
            b"user-agent" => Self::UserAgent,
            b"via" => Self::Via,
            b"x-forwarded-client-cert" => Self::XForwardedClientCert,
            b"x-forwarded-for" => Self::XForwardedFor,
            b"x-forwarded-proto" => Self::XForwardedProto,
            b"x-request-id" => Self::XRequestId,
            _ if name.starts_with(b"x-envoy-") => Self::XEnvoy,
            _ => Self::Other,
        }
    }

    /// Whether the field speaks about one connection only and is never forwarded (RFC 9110 §7.6.1).
    #[must_use]
    pub fn is_hop_by_hop(self) -> bool {
        matches!(self, Self::Connection | Self::KeepAlive | Self::ProxyConnection | Self::TransferEncoding | Self::Upgrade | Self::Te | Self::Http2Settings)
    }
}
