//! Bootstrap: the file a proxy starts from, in Envoy's format.
//!
//! - Reads: `config.bootstrap.v3.Bootstrap` as YAML or JSON (protobuf-JSON names, either spelling).
//! - Twin: `agent/src/bootstrap.rs`, which writes it for sidecars and gateways.
//! - Rule: strict as Envoy is; an unknown field fails the start with its name. An extension of a type this build does not know becomes a
//!   `TypedStruct`, so that the plan can refuse it by name, or skip it where skipping is right.
//! - Limits: [`BOOTSTRAP_BYTES_MAX`].
//! - Not here: what listeners and clusters mean (`plan`), the xDS conversation (`xds`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use lateen_envoy_api::envoy::config::bootstrap::v3 as pb;
use lateen_envoy_api::envoy::config::cluster::v3::Cluster;
use lateen_envoy_api::envoy::config::core::v3 as core;
use lateen_envoy_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use lateen_envoy_api::envoy::config::listener::v3::Listener;
use lateen_plan::cluster::BindConfig;
use serde_json::Value;

/// Largest bootstrap that is read; generated test set-ups with thousands of services stay below it.
pub const BOOTSTRAP_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a bootstrap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file cannot be read.
    #[error("bootstrap {path}: {source}; check the path and its permissions")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Larger than [`BOOTSTRAP_BYTES_MAX`].
    #[error("bootstrap {path}: {bytes} bytes is more than {BOOTSTRAP_BYTES_MAX}; move resources to a control plane")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Neither YAML nor JSON.
    #[error("bootstrap: not YAML or JSON: {0}")]
    Syntax(String),
    /// Not Envoy's `Bootstrap`.
    #[error("bootstrap: {0}; see Envoy's config.bootstrap.v3.Bootstrap")]
    Shape(String),
    /// A reference inside the file leads nowhere.
    #[error("bootstrap: {field} names cluster {cluster:?}, which is not in static_resources.clusters with one pipe or socket address")]
    NoSuchCluster {
        /// Field that names it.
        field: &'static str,
        /// The name.
        cluster: String,
    },
}

/// Where a gRPC service of the bootstrap listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A unix socket.
    Pipe(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// How the control plane is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ads {
    /// Delta (true) or state of the world (false).
    pub delta: bool,
    /// Name of the static cluster.
    pub cluster: String,
    /// Its one endpoint.
    pub target: Target,
    /// Clusters come over it.
    pub cds: bool,
    /// Listeners come over it.
    pub lds: bool,
    /// Longest wait for the first clusters and listeners. `None`: for ever (`initial_fetch_timeout: 0s`, as Istio writes).
    pub initial_fetch_timeout: Option<Duration>,
}

/// A bootstrap, read and resolved.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The message itself, for `/config_dump` and the plan.
    pub message: pb::Bootstrap,
    /// The control plane, if one is named.
    pub ads: Option<Ads>,
    /// Address of the admin interface; `None` turns it off.
    pub admin: Option<std::net::SocketAddr>,
}

impl Bootstrap {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BootstrapError`], which names the file or the field.
    pub fn from_file(path: &Path) -> Result<Self, BootstrapError> {
        let unreadable = |source| BootstrapError::Unreadable { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if bytes > BOOTSTRAP_BYTES_MAX {
            return Err(BootstrapError::TooLarge { path: path.to_owned(), bytes });
        }
        Self::from_text(&std::fs::read_to_string(path).map_err(unreadable)?)
    }

    /// Reads YAML or JSON text.
    ///
    /// # Errors
    /// [`BootstrapError`], which names the field.
    pub fn from_text(text: &str) -> Result<Self, BootstrapError> {
        let mut value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(_) => serde_saphyr::from_str(text).map_err(|e| BootstrapError::Syntax(e.to_string()))?,
        };
        wrap_unknown(&mut value);
        let message: pb::Bootstrap = serde_json::from_value(value).map_err(|e| BootstrapError::Shape(e.to_string()))?;
        Self::from_message(message)
    }

    /// Resolves a message.
    ///
    /// # Errors
    /// [`BootstrapError`], which names the field.
    pub fn from_message(message: pb::Bootstrap) -> Result<Self, BootstrapError> {
        let ads = ads(&message)?;
        let admin = match message.admin.as_ref().and_then(|a| a.address.as_ref()) {
            None => None,
            Some(address) => Some(socket_address(address).ok_or_else(|| BootstrapError::Shape("admin.address must be an IP address and a port".into()))?),
        };
        Ok(Bootstrap { message, ads, admin })
    }

    /// The node that asks for configuration; empty when the file names none.
    pub fn node(&self) -> core::Node {
        self.message.node.clone().unwrap_or_default()
    }

    /// Source address and socket options of upstream connections whose cluster names none. Source: `cluster_manager.upstream_bind_config`.
    pub fn upstream_bind(&self) -> Option<BindConfig> {
        use lateen_plan::cluster::{SocketOption, SocketOptionValue, SocketState};
        let bind = self.message.cluster_manager.as_ref()?.upstream_bind_config.as_ref()?;
        let source = bind.source_address.as_ref().and_then(|s| Some(std::net::SocketAddr::new(s.address.parse().ok()?, 0)));
        let option = |o: &core::SocketOption| {
            let value = match o.value.as_ref()? {
                core::socket_option::Value::IntValue(value) => SocketOptionValue::Int(i32::try_from(*value).ok()?),
                core::socket_option::Value::BufValue(bytes) => SocketOptionValue::Bytes(bytes.to_vec().into()),
            };
            Some(SocketOption { level: i32::try_from(o.level).ok()?, name: i32::try_from(o.name).ok()?, value, when: SocketState::PreBind })
        };
        Some(BindConfig { source, socket_options: bind.socket_options.iter().filter_map(option).collect() })
    }

    /// The one endpoint of a static cluster.
    pub fn target(&self, cluster: &str) -> Option<Target> {
        target(&self.message, cluster)
    }
}

fn ads(message: &pb::Bootstrap) -> Result<Option<Ads>, BootstrapError> {
    let Some(dynamic) = &message.dynamic_resources else { return Ok(None) };
    let Some(config) = &dynamic.ads_config else { return Ok(None) };
    let cluster = config.grpc_services.iter().find_map(grpc_cluster).or_else(|| config.cluster_names.first().cloned()).unwrap_or_default();
    let target = target(message, &cluster).ok_or_else(|| BootstrapError::NoSuchCluster { field: "dynamic_resources.ads_config", cluster: cluster.clone() })?;
    use core::api_config_source::ApiType;
    let delta = match config.api_type() {
        ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => true,
        ApiType::Grpc | ApiType::AggregatedGrpc => false,
        _ => {
            return Err(BootstrapError::Shape("dynamic_resources.ads_config.api_type must be GRPC or DELTA_GRPC".into()));
        }
    };
    let over_ads = |source: &Option<core::ConfigSource>| matches!(source.as_ref().and_then(|s| s.config_source_specifier.as_ref()), Some(core::config_source::ConfigSourceSpecifier::Ads(_)));
    let (cds, lds) = (over_ads(&dynamic.cds_config), over_ads(&dynamic.lds_config));
    let initial_fetch_timeout = [&dynamic.cds_config, &dynamic.lds_config].into_iter().flatten().map(fetch_timeout).reduce(|a, b| Some(a?.max(b?))).flatten();
    Ok(Some(Ads { delta, cluster, target, cds, lds, initial_fetch_timeout }))
}

/// `None`: no limit.
fn fetch_timeout(source: &core::ConfigSource) -> Option<Duration> {
    let given = source.initial_fetch_timeout.as_ref().map(|d| Duration::new(u64::try_from(d.seconds).unwrap_or(0), u32::try_from(d.nanos).unwrap_or(0)));
    Some(given.unwrap_or(INITIAL_FETCH_TIMEOUT)).filter(|limit| !limit.is_zero())
}

/// Envoy's default of `initial_fetch_timeout`.
const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Name of the cluster behind an `envoy_grpc` service.
pub fn grpc_cluster(service: &core::GrpcService) -> Option<String> {
    match service.target_specifier.as_ref()? {
        core::grpc_service::TargetSpecifier::EnvoyGrpc(grpc) => Some(grpc.cluster_name.clone()),
        core::grpc_service::TargetSpecifier::GoogleGrpc(_) => None,
    }
}

fn target(message: &pb::Bootstrap, name: &str) -> Option<Target> {
    let clusters = &message.static_resources.as_ref()?.clusters;
    first_address(clusters.iter().find(|c| c.name == name)?)
}

fn first_address(cluster: &Cluster) -> Option<Target> {
    let endpoint = cluster.load_assignment.as_ref()?.endpoints.first()?.lb_endpoints.first()?;
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else { return None };
    match endpoint.address.as_ref()?.address.as_ref()? {
        core::address::Address::Pipe(pipe) => Some(Target::Pipe(pipe.path.clone().into())),
        core::address::Address::SocketAddress(socket) => match socket.port_specifier.as_ref()? {
            core::socket_address::PortSpecifier::PortValue(port) => Some(Target::Tcp(format!("{}:{port}", socket.address))),
            core::socket_address::PortSpecifier::NamedPort(_) => None,
        },
        core::address::Address::EnvoyInternalAddress(_) => None,
    }
}

/// A listener's name, or one made of its place where the file gives none.
pub fn listener_name(listener: &Listener, index: usize) -> String {
    if listener.name.is_empty() { format!("static-listener-{index}") } else { listener.name.clone() }
}

/// An address as an IP and a port; `None` for names, pipes and internal addresses.
pub fn socket_address(address: &core::Address) -> Option<std::net::SocketAddr> {
    let core::address::Address::SocketAddress(socket) = address.address.as_ref()? else { return None };
    let core::socket_address::PortSpecifier::PortValue(port) = socket.port_specifier.as_ref()? else { return None };
    Some(std::net::SocketAddr::new(socket.address.parse().ok()?, u16::try_from(*port).ok()?))
}

/// Turns `{"@type": unknown, …}` into a `TypedStruct` that carries the same fields, innermost first.
fn wrap_unknown(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(wrap_unknown),
        Value::Object(fields) => {
            fields.values_mut().for_each(wrap_unknown);
            let Some(Value::String(type_url)) = fields.get("@type") else { return };
            let type_url = type_url.clone();
            let probe = serde_json::json!({ "@type": type_url });
            let unknown = matches!(serde_json::from_value::<lateen_envoy_api::Any>(probe), Err(e) if e.to_string().contains(UNKNOWN_TYPE));
            if unknown {
                let mut inner = std::mem::take(fields);
                inner.remove("@type");
                fields.insert("@type".into(), TYPED_STRUCT.into());
                fields.insert("type_url".into(), type_url.into());
                fields.insert("value".into(), Value::Object(inner));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What `envoy-api` says of a type that is not in its list.
const UNKNOWN_TYPE: &str = "is not known to this build";
const TYPED_STRUCT: &str = "type.googleapis.com/xds.type.v3.TypedStruct";

#[cfg(test)]
mod tests {
    use super::*;

    const SIDECAR: &str = r#"
node: {id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local", cluster: a.b}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}
dynamic_resources:
  lds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}}]}
static_resources:
  clusters:
  - {name: xds-grpc, type: STATIC, load_assignment: {cluster_name: xds-grpc, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: ./XDS}}}}]}]}}
"#;

    #[test]
    fn a_sidecar_bootstrap_resolves_its_control_plane_and_admin() {
        let bootstrap = Bootstrap::from_text(SIDECAR).unwrap();
        let ads = bootstrap.ads.unwrap();
        assert!(ads.delta && ads.cds && ads.lds);
        assert_eq!(ads.initial_fetch_timeout, None, "the listeners' 0s means no limit");
        assert_eq!(ads.target, Target::Pipe("./XDS".into()));
        assert_eq!(bootstrap.admin.unwrap().port(), 15000);
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = Bootstrap::from_text("static_resource: {}").unwrap_err();
        assert!(error.to_string().contains("static_resource"), "{error}");
    }

    #[test]
    fn a_missing_control_plane_cluster_is_named() {
        let error = Bootstrap::from_text(&SIDECAR.replace("name: xds-grpc, type", "name: other, type")).unwrap_err();
        assert!(error.to_string().contains("\"xds-grpc\""), "{error}");
    }

    #[test]
    fn an_unknown_extension_is_kept_as_a_typed_struct() {
        let mut value = serde_json::json!({"typed_config": {"@type": "type.googleapis.com/x.Unknown", "level": 3}});
        wrap_unknown(&mut value);
        assert_eq!(value["typed_config"]["type_url"], "type.googleapis.com/x.Unknown");
        assert_eq!(value["typed_config"]["value"]["level"], 3);
    }
}
