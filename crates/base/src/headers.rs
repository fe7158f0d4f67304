//! HTTP header names the mesh reads or writes, lower case. Source: Envoy's «HTTP header manipulation» page.

/// Unique id of a request.
pub const REQUEST_ID: &str = "x-request-id";
/// Addresses a request came through.
pub const FORWARDED_FOR: &str = "x-forwarded-for";
/// Scheme the first proxy saw.
pub const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Identities of the clients a request came through (XFCC).
pub const FORWARDED_CLIENT_CERT: &str = "x-forwarded-client-cert";
/// Attempts made so far, counted from 1.
pub const ATTEMPT_COUNT: &str = "x-envoy-attempt-count";
/// Milliseconds the upstream took.
pub const UPSTREAM_SERVICE_TIME: &str = "x-envoy-upstream-service-time";
/// Set on answers refused for overload.
pub const OVERLOADED: &str = "x-envoy-overloaded";
/// Path before a rewrite.
pub const ORIGINAL_PATH: &str = "x-envoy-original-path";
/// Host before a rewrite.
pub const ORIGINAL_HOST: &str = "x-envoy-original-host";
/// Milliseconds the caller is willing to wait.
pub const EXPECTED_TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms";
/// Name of the operation for traces.
pub const DECORATOR_OPERATION: &str = "x-envoy-decorator-operation";
/// Whether the request came from inside.
pub const INTERNAL: &str = "x-envoy-internal";
/// The trusted client address.
pub const EXTERNAL_ADDRESS: &str = "x-envoy-external-address";
/// Metadata of the peer: base64 of a protobuf Struct.
pub const PEER_METADATA: &str = "x-envoy-peer-metadata";
/// Node id of the peer.
pub const PEER_METADATA_ID: &str = "x-envoy-peer-metadata-id";
/// On a 503 between our own proxies: the request never reached the application, so sending it elsewhere is safe.
pub const UNPROCESSED: &str = "x-lateen-unprocessed";
/// The `server` header's value.
pub const SERVER_ISTIO_ENVOY: &str = "istio-envoy";
/// Destination asked for by the request, `IP:port`.
pub const ORIGINAL_DST_HOST: &str = "x-envoy-original-dst-host";
/// Node of the caller, as it names itself.
pub const DOWNSTREAM_NODE: &str = "x-envoy-downstream-service-node";
