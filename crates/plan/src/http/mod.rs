//! The HTTP connection: codec, limits, header treatment, and the filters every request passes.
//!
//! - Reads: `extensions.filters.network.http_connection_manager.v3.HttpConnectionManager` (Envoy), see `from_xds`.
//! - Rule: filters are a closed list in configured order; the router is last.
//! - Not here: routing (`route`), path rewriting rules (`normalize`), filters' own settings (`filters`).

mod filters;
mod from_xds;
pub mod cors;

pub use cors::CorsPolicy;
pub(crate) use filters::{istio_stats, per_filter};
pub use filters::{AlpnOverride, HttpFilter, HttpRbac, PeerMetadata, PerFilterConfig, RbacOverride, Router, http_filter};
pub use from_xds::hcm;

use crate::access_log::AccessLog;
use crate::fraction::Fraction;
use crate::names::Name;
use crate::normalize::PathRules;
use crate::route::RouteTable;
use std::sync::Arc;
use std::time::Duration;

/// One HTTP connection manager.
#[derive(Debug)]
pub struct Hcm {
    /// Prefix of its statistics, without a trailing dot.
    pub stat_prefix: Name,
    /// Which HTTP versions are spoken.
    pub codec: Codec,
    /// Where routes come from.
    pub routes: RouteSource,
    /// HTTP filters in order; the last is [`HttpFilter::Router`].
    pub filters: Vec<HttpFilter>,
    /// Access logs.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// Value of the `server` header.
    pub server_name: Name,
    /// What happens to a `server` header from upstream.
    pub server_header: ServerHeader,
    /// How the path is changed before anything looks at it.
    pub path: PathRules,
    /// Remove `:port` from the host before routing: always, only the listener's own, or never.
    pub strip_port: StripPort,
    /// Remove a trailing dot from the host.
    pub strip_trailing_host_dot: bool,
    /// The peer's address is trusted as the client's, and `x-forwarded-for` gets it appended.
    pub use_remote_address: bool,
    /// Hops of `x-forwarded-for` that are trusted.
    pub xff_num_trusted_hops: u32,
    /// Do not append to `x-forwarded-for`.
    pub skip_xff_append: bool,
    /// What happens to `x-forwarded-client-cert`.
    pub client_cert: ForwardClientCert,
    /// Which facts of the client's certificate are forwarded.
    pub client_cert_details: ClientCertDetails,
    /// `x-request-id` rules.
    pub request_id: RequestIdRules,
    /// The `via` value appended both ways; empty: none.
    pub via: Name,
    /// HTTP/1 settings.
    pub http1: Http1Options,
    /// HTTP/2 settings.
    pub http2: Http2Options,
    /// Upgrades allowed unless the route says otherwise, lower case, such as `websocket`.
    pub upgrades: Vec<Name>,
    /// Whole head must arrive within. `None`: no limit.
    pub request_headers_timeout: Option<Duration>,
    /// Whole request must arrive within. `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// A stream without bytes either way ends after. `None`: never.
    pub stream_idle_timeout: Option<Duration>,
    /// A connection without streams ends after. `None`: never. Envoy's default is 1 h.
    pub idle_timeout: Option<Duration>,
    /// A connection is drained after this age. `None`: never.
    pub max_connection_duration: Option<Duration>,
    /// A stream lasts at most. `None`: no limit.
    pub max_stream_duration: Option<Duration>,
    /// Requests on one connection before it is closed; 0: no limit.
    pub max_requests_per_connection: u32,
    /// Time for existing streams between the first and the last GOAWAY. Envoy's default is 5 s.
    pub drain_timeout: Duration,
    /// How long to wait for the peer after the last byte. Envoy's default is 1 s.
    pub delayed_close_timeout: Duration,
    /// Request head ceiling in bytes.
    pub headers_bytes_max: usize,
    /// Request header count ceiling.
    pub headers_count_max: usize,
    /// Forward `100-continue` instead of answering it.
    pub proxy_100_continue: bool,
    /// Keep the `x-request-id` of a request from outside.
    pub preserve_external_request_id: bool,
    /// Headers whose name holds an underscore.
    pub underscores: Underscores,
    /// Scheme of every request, instead of what the transport says. Empty: none.
    pub scheme_overwrite: Name,
    /// Tracing. `None`: off.
    pub tracing: Option<Tracing>,
    /// A malformed HTTP/1 message is answered without closing the connection.
    pub stream_error_on_invalid_messaging: bool,
}

/// HTTP versions spoken downstream. Source: `codec_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Codec {
    /// By ALPN, else by the preface.
    #[default]
    Auto,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Where a connection manager's routes come from.
#[derive(Clone, Debug)]
pub enum RouteSource {
    /// Given in place.
    Inline(Arc<RouteTable>),
    /// A resource of the plan: `Plan::routes`. Absent there: every request is answered 404 `NR`.
    Rds(Name),
}

/// What happens to a `server` header from upstream. Source: `server_header_transformation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ServerHeader {
    /// Replaced.
    #[default]
    Overwrite,
    /// Set when absent.
    AppendIfAbsent,
    /// Left alone.
    PassThrough,
}

/// Whether `:port` is removed from the host before routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StripPort {
    /// Never.
    #[default]
    Never,
    /// When it is the listener's.
    Matching,
    /// Always.
    Any,
}

/// What happens to `x-forwarded-client-cert`. Source: `forward_client_cert_details`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ForwardClientCert {
    /// Removed.
    #[default]
    Sanitize,
    /// Forwarded when the connection is mutual TLS, else removed.
    ForwardOnly,
    /// The client's certificate is appended when the connection is mutual TLS, else removed.
    AppendForward,
    /// Replaced by the client's certificate when the connection is mutual TLS, else removed.
    SanitizeSet,
    /// Always forwarded as it came.
    AlwaysForwardOnly,
}

/// Which facts of the client's certificate are forwarded. Source: `set_current_client_cert_details`.
/// `By` and `Hash` are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ClientCertDetails {
    /// `Subject=`.
    pub subject: bool,
    /// `Cert=`: the certificate in PEM, URL-encoded.
    pub cert: bool,
    /// `Chain=`.
    pub chain: bool,
    /// `DNS=`.
    pub dns: bool,
    /// `URI=`.
    pub uri: bool,
}

/// `x-request-id` rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestIdRules {
    /// Make one when absent.
    pub generate: bool,
    /// Also answer with it.
    pub always_set_in_response: bool,
    /// The trace decision is written into the id's 15th digit (`pack_trace_reason`).
    pub pack_trace_reason: bool,
    /// The id decides sampling.
    pub use_for_trace_sampling: bool,
}

/// HTTP/1 settings. Source: `Http1ProtocolOptions`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Http1Options {
    /// Serve HTTP/1.0 instead of answering 426.
    pub accept_http_10: bool,
    /// Host for HTTP/1.0 requests that name none.
    pub default_host_for_http_10: Name,
    /// Allow absolute-form targets (default on).
    pub allow_absolute_url: bool,
    /// Keep chunked framing together with a Content-Length (else refused).
    pub allow_chunked_length: bool,
    /// Header names are written as `Proper-Case`.
    pub proper_case_headers: bool,
    /// Header names are written as they came.
    pub preserve_case: bool,
    /// Trailers are forwarded.
    pub enable_trailers: bool,
}

/// HTTP/2 settings. `None`: the codec's default. Source: `Http2ProtocolOptions`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Http2Options {
    /// Streams at once.
    pub max_concurrent_streams: Option<u32>,
    /// Stream window in bytes.
    pub initial_stream_window_size: Option<u32>,
    /// Connection window in bytes.
    pub initial_connection_window_size: Option<u32>,
    /// Extended CONNECT is allowed.
    pub allow_connect: bool,
    /// Ping interval. `None`: no pings.
    pub keepalive_interval: Option<Duration>,
    /// How long a ping may stay unanswered.
    pub keepalive_timeout: Option<Duration>,
}

/// Headers whose name holds an underscore. Source: `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Underscores {
    /// Let through.
    #[default]
    Allow,
    /// The request is refused with 400.
    Reject,
    /// The header is dropped.
    Drop,
}

/// Trace sampling. Source: `HttpConnectionManager.Tracing`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Requests that ask for it.
    pub client_sampling: Fraction,
    /// Requests chosen by chance.
    pub random_sampling: Fraction,
    /// Ceiling over both.
    pub overall_sampling: Fraction,
    /// Name of the configured tracer; empty: spans are not exported and only headers are kept up.
    pub provider: Name,
}
