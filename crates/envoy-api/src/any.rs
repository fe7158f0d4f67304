//! `google.protobuf.Any` with protobuf-JSON: `{"@type": "type.googleapis.com/…", …fields}`.
//!
//! - Rule: a type this build does not know reads as an error and writes as its type URL and base64 bytes; nothing is dropped.

use crate::{envoy, istio, udpa, xds};
use prost::bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// One message of any type. Source: `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Any {
    /// `type.googleapis.com/<full message name>`.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message's bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

impl prost::Name for Any {
    const NAME: &'static str = "Any";
    const PACKAGE: &'static str = "google.protobuf";
}

/// Reads one known type from JSON, or writes it.
struct Known {
    name: &'static str,
    from_json: fn(serde_json::Value) -> Result<Vec<u8>, String>,
    to_json: fn(&[u8]) -> Result<serde_json::Value, String>,
}

fn from_json<T: prost::Message + de::DeserializeOwned>(value: serde_json::Value) -> Result<Vec<u8>, String> {
    serde_json::from_value::<T>(value).map(|m| m.encode_to_vec()).map_err(|e| e.to_string())
}

fn to_json<T: prost::Message + Default + Serialize>(bytes: &[u8]) -> Result<serde_json::Value, String> {
    let message = T::decode(bytes).map_err(|e| e.to_string())?;
    serde_json::to_value(message).map_err(|e| e.to_string())
}

macro_rules! known {
    ($($name:literal => $type:ty,)*) => {
        const KNOWN: &[Known] = &[$(Known { name: $name, from_json: from_json::<$type>, to_json: to_json::<$type> },)*];
    };
}

use envoy::extensions::{access_loggers, filters, transport_sockets, upstreams};
known! {
    "envoy.config.bootstrap.v3.Bootstrap" => envoy::config::bootstrap::v3::Bootstrap,
    "envoy.config.listener.v3.Listener" => envoy::config::listener::v3::Listener,
    "envoy.config.cluster.v3.Cluster" => envoy::config::cluster::v3::Cluster,
    "envoy.config.endpoint.v3.ClusterLoadAssignment" => envoy::config::endpoint::v3::ClusterLoadAssignment,
    "envoy.config.route.v3.RouteConfiguration" => envoy::config::route::v3::RouteConfiguration,
    "envoy.config.trace.v3.ZipkinConfig" => envoy::config::trace::v3::ZipkinConfig,
    "envoy.config.trace.v3.OpenTelemetryConfig" => envoy::config::trace::v3::OpenTelemetryConfig,
    "envoy.admin.v3.BootstrapConfigDump" => envoy::admin::v3::BootstrapConfigDump,
    "envoy.admin.v3.ClustersConfigDump" => envoy::admin::v3::ClustersConfigDump,
    "envoy.admin.v3.ListenersConfigDump" => envoy::admin::v3::ListenersConfigDump,
    "envoy.admin.v3.RoutesConfigDump" => envoy::admin::v3::RoutesConfigDump,
    "envoy.admin.v3.SecretsConfigDump" => envoy::admin::v3::SecretsConfigDump,
    "envoy.admin.v3.EndpointsConfigDump" => envoy::admin::v3::EndpointsConfigDump,
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" => transport_sockets::tls::v3::UpstreamTlsContext,
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" => transport_sockets::tls::v3::DownstreamTlsContext,
    "envoy.extensions.transport_sockets.tls.v3.Secret" => transport_sockets::tls::v3::Secret,
    "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" => transport_sockets::raw_buffer::v3::RawBuffer,
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" => upstreams::http::v3::HttpProtocolOptions,
    "envoy.extensions.access_loggers.file.v3.FileAccessLog" => access_loggers::file::v3::FileAccessLog,
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => access_loggers::stream::v3::StdoutAccessLog,
    "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => access_loggers::stream::v3::StderrAccessLog,
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter" => access_loggers::filters::cel::v3::ExpressionFilter,
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" => filters::listener::http_inspector::v3::HttpInspector,
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" => filters::listener::tls_inspector::v3::TlsInspector,
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst" => filters::listener::original_dst::v3::OriginalDst,
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol" => filters::listener::proxy_protocol::v3::ProxyProtocol,
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" => filters::network::http_connection_manager::v3::HttpConnectionManager,
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy" => filters::network::tcp_proxy::v3::TcpProxy,
    "envoy.extensions.filters.network.rbac.v3.RBAC" => filters::network::rbac::v3::Rbac,
    "envoy.extensions.filters.network.sni_cluster.v3.SniCluster" => filters::network::sni_cluster::v3::SniCluster,
    "envoy.extensions.filters.http.router.v3.Router" => filters::http::router::v3::Router,
    "envoy.extensions.filters.http.fault.v3.HTTPFault" => filters::http::fault::v3::HttpFault,
    "envoy.extensions.filters.http.cors.v3.Cors" => filters::http::cors::v3::Cors,
    "envoy.extensions.filters.http.cors.v3.CorsPolicy" => filters::http::cors::v3::CorsPolicy,
    "envoy.extensions.filters.http.rbac.v3.RBAC" => filters::http::rbac::v3::Rbac,
    "envoy.extensions.filters.http.rbac.v3.RBACPerRoute" => filters::http::rbac::v3::RbacPerRoute,
    "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig" => filters::http::grpc_stats::v3::FilterConfig,
    "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication" => filters::http::jwt_authn::v3::JwtAuthentication,
    "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz" => filters::http::ext_authz::v3::ExtAuthz,
    "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit" => filters::http::local_ratelimit::v3::LocalRateLimit,
    "envoy.extensions.filters.http.ratelimit.v3.RateLimit" => filters::http::ratelimit::v3::RateLimit,
    "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation" => filters::http::header_mutation::v3::HeaderMutation,
    "envoy.extensions.filters.http.compressor.v3.Compressor" => filters::http::compressor::v3::Compressor,
    "envoy.extensions.filters.http.buffer.v3.Buffer" => filters::http::buffer::v3::Buffer,
    "envoy.extensions.filters.http.health_check.v3.HealthCheck" => filters::http::health_check::v3::HealthCheck,
    "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig" => envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig,
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" => envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate,
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig" => envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig,
    "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig" => envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig,
    "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig" => envoy::extensions::path::rewrite::uri_template::v3::UriTemplateRewriteConfig,
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig" => envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig,
    "envoy.extensions.bootstrap.internal_listener.v3.InternalListener" => envoy::extensions::bootstrap::internal_listener::v3::InternalListener,
    "envoy.tcp.metadataexchange.config.MetadataExchange" => envoy::tcp::metadataexchange::config::MetadataExchange,
    "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig" => istio::envoy::config::filter::http::alpn::v2alpha1::FilterConfig,
    "istio.networking.nds.v1.NameTable" => istio::networking::nds::v1::NameTable,
    "io.istio.http.peer_metadata.Config" => crate::io::istio::http::peer_metadata::Config,
    "stats.PluginConfig" => crate::stats::PluginConfig,
    "udpa.type.v1.TypedStruct" => udpa::r#type::v1::TypedStruct,
    "xds.type.v3.TypedStruct" => xds::r#type::v3::TypedStruct,
}

fn known(type_url: &str) -> Option<&'static Known> {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    KNOWN.iter().find(|k| k.name == name)
}

impl Serialize for Any {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serde_json::Map::new();
        object.insert("@type".into(), self.type_url.clone().into());
        match known(&self.type_url) {
            Some(k) => match (k.to_json)(&self.value).map_err(ser::Error::custom)? {
                serde_json::Value::Object(fields) => object.extend(fields),
                other => {
                    object.insert("value".into(), other);
                }
            },
            None => {
                let encoded = serde_json::to_value(crate::wkt::BytesValue { value: self.value.clone() }).map_err(ser::Error::custom)?;
                object.insert("value".into(), encoded);
            }
        }
        object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = serde_json::Map::deserialize(deserializer)?;
        let Some(serde_json::Value::String(type_url)) = object.remove("@type") else {
            return Err(de::Error::custom("an Any needs \"@type\": \"type.googleapis.com/…\""));
        };
        let Some(k) = known(&type_url) else {
            return Err(de::Error::custom(format!("@type {type_url} is not known to this build")));
        };
        let bytes = (k.from_json)(object.into()).map_err(|e| de::Error::custom(format!("{type_url}: {e}")))?;
        Ok(Any { type_url, value: bytes.into() })
    }
}
