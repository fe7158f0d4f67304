//! The facts one access log line can hold.
//!
//! - Rule: everything is borrowed from the stream that ends; building a record allocates nothing.

use crate::flags::ResponseFlags;
use std::net::SocketAddr;
use std::time::Duration;

/// Looks headers up by lower-case name, pseudo-headers included.
pub trait HeaderSource {
    /// The first value of `name`.
    fn get(&self, name: &str) -> Option<&[u8]>;
}

/// A message without headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHeaders;

impl HeaderSource for NoHeaders {
    fn get(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

/// What is known of one request, or one connection, when its line is written. `None` prints as `-` (text) or `null` (JSON).
#[derive(Clone, Copy)]
pub struct AccessRecord<'a> {
    /// When it began, since the Unix epoch.
    pub start: Duration,
    /// Request headers with `:method`, `:path`, `:authority`, `:scheme`.
    pub request: &'a dyn HeaderSource,
    /// Answer headers with `:status`.
    pub response: &'a dyn HeaderSource,
    /// Answer trailers.
    pub trailers: &'a dyn HeaderSource,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`. `None`: a TCP connection.
    pub protocol: Option<&'a str>,
    /// The same upstream.
    pub upstream_protocol: Option<&'a str>,
    /// Status; 0: no answer was sent.
    pub response_code: u16,
    /// What happened.
    pub flags: ResponseFlags,
    /// Who answered and why, such as `via_upstream`.
    pub response_code_details: Option<&'a str>,
    /// Why the connection was ended here.
    pub connection_termination_details: Option<&'a str>,
    /// What the upstream TLS or TCP layer complained of.
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// What the downstream TLS layer complained of.
    pub downstream_transport_failure_reason: Option<&'a str>,
    /// Body bytes from the client.
    pub bytes_received: u64,
    /// Body bytes to the client.
    pub bytes_sent: u64,
    /// From start to last byte sent.
    pub duration: Option<Duration>,
    /// From start to the request's last byte.
    pub request_duration: Option<Duration>,
    /// From start to the answer's first byte from upstream.
    pub response_duration: Option<Duration>,
    /// The endpoint.
    pub upstream_host: Option<SocketAddr>,
    /// The cluster.
    pub upstream_cluster: Option<&'a str>,
    /// Own address towards the endpoint.
    pub upstream_local_address: Option<SocketAddr>,
    /// The address the client dialled.
    pub downstream_local_address: Option<SocketAddr>,
    /// The client, as far as trusted hops tell.
    pub downstream_remote_address: Option<SocketAddr>,
    /// The peer of the socket.
    pub downstream_direct_remote_address: Option<SocketAddr>,
    /// TLS server name.
    pub requested_server_name: Option<&'a str>,
    /// The route's name.
    pub route_name: Option<&'a str>,
    /// The virtual host's name.
    pub virtual_host_name: Option<&'a str>,
    /// The filter chain's name.
    pub filter_chain_name: Option<&'a str>,
    /// Attempts made.
    pub attempt_count: u32,
    /// URI name of the client's certificate.
    pub downstream_peer_uri_san: Option<&'a str>,
    /// Subject of the client's certificate.
    pub downstream_peer_subject: Option<&'a str>,
    /// URI name of the own certificate.
    pub downstream_local_uri_san: Option<&'a str>,
    /// `TLSv1.3` and so on.
    pub downstream_tls_version: Option<&'a str>,
    /// Cipher suite.
    pub downstream_tls_cipher: Option<&'a str>,
    /// Number of the connection.
    pub connection_id: u64,
    /// Name of this machine.
    pub hostname: Option<&'a str>,
    /// Dynamic metadata: filter, key path joined by `:`, value.
    pub metadata: &'a [(&'a str, &'a str, &'a str)],
    /// Filter state: key, value.
    pub filter_state: &'a [(&'a str, &'a str)],
}

impl Default for AccessRecord<'_> {
    fn default() -> Self {
        Self {
            start: Duration::ZERO,
            request: &NoHeaders,
            response: &NoHeaders,
            trailers: &NoHeaders,
            protocol: None,
            upstream_protocol: None,
            response_code: 0,
            flags: ResponseFlags::NONE,
            response_code_details: None,
            connection_termination_details: None,
            upstream_transport_failure_reason: None,
            downstream_transport_failure_reason: None,
            bytes_received: 0,
            bytes_sent: 0,
            duration: None,
            request_duration: None,
            response_duration: None,
            upstream_host: None,
            upstream_cluster: None,
            upstream_local_address: None,
            downstream_local_address: None,
            downstream_remote_address: None,
            downstream_direct_remote_address: None,
            requested_server_name: None,
            route_name: None,
            virtual_host_name: None,
            filter_chain_name: None,
            attempt_count: 0,
            downstream_peer_uri_san: None,
            downstream_peer_subject: None,
            downstream_local_uri_san: None,
            downstream_tls_version: None,
            downstream_tls_cipher: None,
            connection_id: 0,
            hostname: None,
            metadata: &[],
            filter_state: &[],
        }
    }
}
