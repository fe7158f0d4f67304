//! `VirtualService` as a user writes it: every field of the Istio message, typed and strict.
//!
//! - Reads: `networking.istio.io` objects, the `spec` part (`istio.networking.v1alpha3`).
//! - Rule: an unknown field, a wrong type or an unknown enum word is an error; a missing field is its proto3 default.
//! - Not here: what the fields mean, their validation and Istio's later defaults (`kinds/src/virtual_service/`).
#![allow(
    missing_docs,
    reason = "fields carry Istio's own names, documented at istio.io/latest/docs/reference/config"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::common::{PortSelector, StringMatch};
use crate::duration::GoDuration;

/// `istio.networking.v1alpha3.VirtualService`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct VirtualService {
    pub hosts: Vec<String>,
    pub gateways: Vec<String>,
    pub http: Vec<HTTPRoute>,
    pub tls: Vec<TLSRoute>,
    pub tcp: Vec<TCPRoute>,
    pub export_to: Vec<String>,
}

/// `istio.networking.v1alpha3.Destination`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Destination {
    pub host: String,
    pub subset: String,
    pub port: Option<PortSelector>,
}

/// `istio.networking.v1alpha3.HTTPRoute`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPRoute {
    pub name: String,
    pub r#match: Vec<HTTPMatchRequest>,
    pub route: Vec<HTTPRouteDestination>,
    pub redirect: Option<HTTPRedirect>,
    pub direct_response: Option<HTTPDirectResponse>,
    pub delegate: Option<Delegate>,
    pub rewrite: Option<HTTPRewrite>,
    pub timeout: Option<GoDuration>,
    pub retries: Option<HTTPRetry>,
    pub fault: Option<HTTPFaultInjection>,
    pub mirror: Option<Destination>,
    pub mirrors: Vec<HTTPMirrorPolicy>,
    #[serde(deserialize_with = "crate::number::option")]
    pub mirror_percent: Option<u32>,
    pub mirror_percentage: Option<Percent>,
    pub cors_policy: Option<CorsPolicy>,
    pub headers: Option<Headers>,
}

/// `istio.networking.v1alpha3.Delegate`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Delegate {
    pub name: String,
    pub namespace: String,
}

/// `istio.networking.v1alpha3.Headers`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Headers {
    pub request: Option<HeaderOperations>,
    pub response: Option<HeaderOperations>,
}

/// `istio.networking.v1alpha3.Headers.HeaderOperations`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderOperations {
    pub set: BTreeMap<String, String>,
    pub add: BTreeMap<String, String>,
    pub remove: Vec<String>,
}

/// `istio.networking.v1alpha3.TLSRoute`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TLSRoute {
    pub r#match: Vec<TLSMatchAttributes>,
    pub route: Vec<RouteDestination>,
}

/// `istio.networking.v1alpha3.TCPRoute`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TCPRoute {
    pub r#match: Vec<L4MatchAttributes>,
    pub route: Vec<RouteDestination>,
}

/// `istio.networking.v1alpha3.HTTPMatchRequest`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPMatchRequest {
    pub name: String,
    pub uri: Option<StringMatch>,
    pub scheme: Option<StringMatch>,
    pub method: Option<StringMatch>,
    pub authority: Option<StringMatch>,
    pub headers: BTreeMap<String, StringMatch>,
    #[serde(deserialize_with = "crate::number::plain")]
    pub port: u32,
    pub source_labels: BTreeMap<String, String>,
    pub gateways: Vec<String>,
    pub query_params: BTreeMap<String, StringMatch>,
    pub ignore_uri_case: bool,
    pub without_headers: BTreeMap<String, StringMatch>,
    pub source_namespace: String,
    pub stat_prefix: String,
}

/// `istio.networking.v1alpha3.HTTPRouteDestination`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPRouteDestination {
    pub destination: Option<Destination>,
    #[serde(deserialize_with = "crate::number::plain")]
    pub weight: i32,
    pub headers: Option<Headers>,
}

/// `istio.networking.v1alpha3.RouteDestination`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RouteDestination {
    pub destination: Option<Destination>,
    #[serde(deserialize_with = "crate::number::plain")]
    pub weight: i32,
}

/// `istio.networking.v1alpha3.L4MatchAttributes`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct L4MatchAttributes {
    pub destination_subnets: Vec<String>,
    #[serde(deserialize_with = "crate::number::plain")]
    pub port: u32,
    pub source_subnet: String,
    pub source_labels: BTreeMap<String, String>,
    pub gateways: Vec<String>,
    pub source_namespace: String,
}

/// `istio.networking.v1alpha3.TLSMatchAttributes`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TLSMatchAttributes {
    pub sni_hosts: Vec<String>,
    pub destination_subnets: Vec<String>,
    #[serde(deserialize_with = "crate::number::plain")]
    pub port: u32,
    pub source_labels: BTreeMap<String, String>,
    pub gateways: Vec<String>,
    pub source_namespace: String,
}

/// `istio.networking.v1alpha3.HTTPRedirect`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPRedirect {
    pub uri: String,
    pub authority: String,
    #[serde(deserialize_with = "crate::number::option")]
    pub port: Option<u32>,
    pub derive_port: Option<RedirectPortSelection>,
    pub scheme: String,
    #[serde(deserialize_with = "crate::number::plain")]
    pub redirect_code: u32,
    pub prefix_rewrite: String,
}

/// `istio.networking.v1alpha3.HTTPDirectResponse`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPDirectResponse {
    #[serde(deserialize_with = "crate::number::plain")]
    pub status: u32,
    pub body: Option<HTTPBody>,
}

/// `istio.networking.v1alpha3.HTTPBody`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPBody {
    pub string: Option<String>,
    pub bytes: Option<String>,
}

/// `istio.networking.v1alpha3.HTTPRewrite`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPRewrite {
    pub uri: String,
    pub authority: String,
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// `istio.networking.v1alpha3.RegexRewrite`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RegexRewrite {
    pub r#match: String,
    pub rewrite: String,
}

/// `istio.networking.v1alpha3.HTTPRetry`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPRetry {
    #[serde(deserialize_with = "crate::number::plain")]
    pub attempts: i32,
    pub per_try_timeout: Option<GoDuration>,
    pub retry_on: String,
    pub retry_remote_localities: Option<bool>,
    pub retry_ignore_previous_hosts: Option<bool>,
    pub backoff: Option<GoDuration>,
}

/// `istio.networking.v1alpha3.CorsPolicy`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CorsPolicy {
    pub allow_origin: Vec<String>,
    pub allow_origins: Vec<StringMatch>,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub max_age: Option<GoDuration>,
    pub allow_credentials: Option<bool>,
    pub unmatched_preflights: UnmatchedPreflights,
}

/// `istio.networking.v1alpha3.HTTPFaultInjection`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPFaultInjection {
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
}

/// `istio.networking.v1alpha3.HTTPFaultInjection.Delay`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Delay {
    #[serde(deserialize_with = "crate::number::plain")]
    pub percent: i32,
    pub fixed_delay: Option<GoDuration>,
    pub exponential_delay: Option<GoDuration>,
    pub percentage: Option<Percent>,
}

/// `istio.networking.v1alpha3.HTTPFaultInjection.Abort`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Abort {
    #[serde(deserialize_with = "crate::number::option")]
    pub http_status: Option<i32>,
    pub grpc_status: Option<String>,
    pub http2_error: Option<String>,
    pub percentage: Option<Percent>,
}

/// `istio.networking.v1alpha3.HTTPMirrorPolicy`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HTTPMirrorPolicy {
    pub destination: Option<Destination>,
    pub percentage: Option<Percent>,
}

/// `istio.networking.v1alpha3.Percent`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Percent {
    #[serde(deserialize_with = "crate::number::plain")]
    pub value: f64,
}

/// `istio.networking.v1alpha3` enum `RedirectPortSelection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RedirectPortSelection {
    #[default]
    #[serde(rename = "FROM_PROTOCOL_DEFAULT")]
    FromProtocolDefault,
    #[serde(rename = "FROM_REQUEST_PORT")]
    FromRequestPort,
}

/// `istio.networking.v1alpha3` enum `UnmatchedPreflights`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UnmatchedPreflights {
    #[default]
    #[serde(rename = "UNSPECIFIED")]
    Unspecified,
    #[serde(rename = "FORWARD")]
    Forward,
    #[serde(rename = "IGNORE")]
    Ignore,
}
