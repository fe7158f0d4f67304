//! Small constructors for protobuf messages, so that assembly reads like the configuration it makes.
//!
//! - Rule: no decision is taken here; every function only wraps its argument.
//! - Not here: anything an Istio field could change.

use lateen_base::names;
use lateen_envoy_api::envoy::config::core::v3 as core;
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3::SdsSecretConfig;
use lateen_envoy_api::{Any, pack, wkt};
use std::collections::HashMap;
use std::time::Duration;

/// `google.protobuf.Duration`; saturates at the message's range.
pub(crate) fn duration(d: Duration) -> Option<wkt::Duration> {
    Some(wkt::Duration { seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), nanos: i32::try_from(d.subsec_nanos()).unwrap_or_default() })
}

/// Whole seconds.
pub(crate) fn seconds(s: u64) -> Option<wkt::Duration> {
    duration(Duration::from_secs(s))
}

/// `google.protobuf.UInt32Value`.
pub(crate) fn uint(value: u32) -> Option<wkt::UInt32Value> {
    Some(wkt::UInt32Value { value })
}

/// `google.protobuf.BoolValue`.
pub(crate) fn boolean(value: bool) -> Option<wkt::BoolValue> {
    Some(wkt::BoolValue { value })
}

/// A TCP socket address.
pub(crate) fn socket_address(address: &str, port: u16) -> core::SocketAddress {
    core::SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(port))),
        ..Default::default()
    }
}

/// An address: `unix://` path or TCP.
pub(crate) fn address(address: &str, port: u16) -> core::Address {
    let address = match address.strip_prefix("unix://") {
        Some(path) => core::address::Address::Pipe(core::Pipe { path: path.to_owned(), mode: 0 }),
        None => core::address::Address::SocketAddress(socket_address(address, port)),
    };
    core::Address { address: Some(address) }
}

/// "Ask over this same ADS stream", without a time limit.
pub(crate) fn ads() -> Option<core::ConfigSource> {
    Some(core::ConfigSource { initial_fetch_timeout: seconds(0), ..ads_with_timeout()? })
}

/// "Ask over this same ADS stream", with Envoy's default limit.
pub(crate) fn ads_with_timeout() -> Option<core::ConfigSource> {
    Some(core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})),
        ..Default::default()
    })
}

/// A secret the agent serves over its own socket.
pub(crate) fn agent_secret(name: &str) -> SdsSecretConfig {
    let service = core::GrpcService {
        target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(core::grpc_service::EnvoyGrpc {
            cluster_name: names::SDS_CLUSTER.to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let api = core::ApiConfigSource {
        api_type: core::api_config_source::ApiType::Grpc as i32,
        transport_api_version: core::ApiVersion::V3 as i32,
        grpc_services: vec![service],
        set_node_on_first_message_only: true,
        ..Default::default()
    };
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(core::ConfigSource {
            initial_fetch_timeout: seconds(0),
            resource_api_version: core::ApiVersion::V3 as i32,
            config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::ApiConfigSource(api)),
            ..Default::default()
        }),
    }
}

/// A secret that the agent reads from files, with Envoy's default limit of waiting.
pub(crate) fn agent_file(name: &str) -> SdsSecretConfig {
    let mut secret = agent_secret(name);
    if let Some(source) = &mut secret.sds_config {
        source.initial_fetch_timeout = None;
    }
    secret
}

/// A secret the control plane serves over ADS.
pub(crate) fn ads_secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: ads_with_timeout() }
}

/// A transport socket of a known type.
pub(crate) fn transport_socket<T: prost::Message + prost::Name>(name: &str, config: &T) -> core::TransportSocket {
    core::TransportSocket { name: name.to_owned(), config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack(config))) }
}

/// `google.protobuf.Value` out of text.
pub(crate) fn text(value: impl Into<String>) -> wkt::Value {
    wkt::Value { kind: Some(wkt::value::Kind::StringValue(value.into())) }
}

/// `google.protobuf.Value` out of a truth value.
pub(crate) fn truth(value: bool) -> wkt::Value {
    wkt::Value { kind: Some(wkt::value::Kind::BoolValue(value)) }
}

/// `google.protobuf.Value` out of a list.
pub(crate) fn list(values: Vec<wkt::Value>) -> wkt::Value {
    wkt::Value { kind: Some(wkt::value::Kind::ListValue(wkt::ListValue { values })) }
}

/// `google.protobuf.Struct` out of fields.
pub(crate) fn structure<const N: usize>(fields: [(&str, wkt::Value); N]) -> wkt::Struct {
    wkt::Struct { fields: fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect() }
}

/// `google.protobuf.Value` out of a struct.
pub(crate) fn object(fields: wkt::Struct) -> wkt::Value {
    wkt::Value { kind: Some(wkt::value::Kind::StructValue(fields)) }
}

/// Metadata for filters, by filter name.
pub(crate) fn metadata<const N: usize>(filters: [(&str, wkt::Struct); N]) -> Option<core::Metadata> {
    Some(core::Metadata { filter_metadata: filters.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(), ..Default::default() })
}

/// A map with one entry.
pub(crate) fn one(key: &str, value: Any) -> HashMap<String, Any> {
    HashMap::from([(key.to_owned(), value)])
}

/// Metadata key that Istio's own facts stand under.
pub(crate) const ISTIO_METADATA: &str = "istio";

/// Metadata that names the object a resource was made from, by its path in the Kubernetes API.
pub(crate) fn config_metadata(kind: &str, meta: &lateen_mesh::Meta) -> Option<core::Metadata> {
    metadata([(ISTIO_METADATA, structure([("config", text(config_path(kind, meta)))]))])
}

/// Path of a `networking.istio.io` object in the Kubernetes API.
pub(crate) fn config_path(kind: &str, meta: &lateen_mesh::Meta) -> String {
    format!("/apis/networking.istio.io/v1/namespaces/{}/{kind}/{}", meta.namespace, meta.name)
}
