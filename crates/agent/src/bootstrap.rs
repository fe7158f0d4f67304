//! The bootstrap file: all a proxy needs to find its agent; everything else comes over xDS.
//!
//! - Reads: [`AgentOptions`].
//! - Twin: `proxy/src/bootstrap.rs`, which reads it; a stock Envoy reads the same file.
//! - Rule: pure. The node says what istiod's sidecars say; features beyond stock Envoy are named only for our own proxy.
//! - Not here: what the control plane makes of the node (`mesh::Proxy`).

use crate::options::{AgentOptions, ProxyProgram, Role};
use lateen_base::{names, ports};
use serde_json::{Value, json};

/// Version the node reports as Istio's; a control plane decides by it which fields a proxy understands.
const ISTIO_VERSION: &str = "1.32.0";
/// `SOL_SOCKET` of socket(7).
const SOL_SOCKET: i64 = 1;
/// `SO_MARK` of socket(7).
const SO_MARK: i64 = 36;

/// The whole file as JSON.
#[must_use]
pub fn bootstrap(options: &AgentOptions) -> Value {
    let mut file = json!({
        "node": node(options),
        "layered_runtime": {"layers": [
            {"name": "global config", "static_layer": {
                "envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst": true,
                "envoy.reloadable_features.http_reject_path_with_fragment": false,
                "re2.max_program_size.error_level": "32768"
            }},
            {"name": "admin", "admin_layer": {}}
        ]},
        "stats_config": stats_config(),
        "admin": {"address": socket("127.0.0.1", options.admin_port)},
        "dynamic_resources": {
            "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "ads_config": {
                "api_type": "DELTA_GRPC", "set_node_on_first_message_only": true, "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": names::XDS_CLUSTER}}]
            }
        },
        "static_resources": {
            "clusters": [
                static_cluster(names::PROMETHEUS_CLUSTER, socket("127.0.0.1", options.admin_port)),
                static_cluster(names::AGENT_CLUSTER, socket("127.0.0.1", options.status_port)),
                grpc_cluster(names::SDS_CLUSTER, &options.proxy_dir.join(names::SDS_SOCKET).to_string_lossy()),
                grpc_cluster(names::XDS_CLUSTER, &options.proxy_dir.join(names::XDS_SOCKET).to_string_lossy()),
            ],
            "listeners": [
                static_listener(ports::PROMETHEUS, "stats", "/stats/prometheus", names::PROMETHEUS_CLUSTER),
                static_listener(ports::HEALTH, "agent", "/healthz/ready", names::AGENT_CLUSTER),
            ]
        }
    });
    if options.mark
        && let Some(file) = file.as_object_mut()
    {
        let mark = json!({"description": "proxy mark", "level": SOL_SOCKET, "name": SO_MARK, "int_value": ports::PROXY_MARK, "state": "STATE_PREBIND"});
        file.insert("cluster_manager".to_owned(), json!({"upstream_bind_config": {"socket_options": [mark]}}));
    }
    file
}

fn node(options: &AgentOptions) -> Value {
    let role = match options.role {
        Role::Sidecar => "sidecar",
        Role::Router => "router",
    };
    let ips: Vec<String> = options.pod_ips.iter().map(ToString::to_string).collect();
    let first = ips.first().map_or("", String::as_str);
    let AgentOptions { pod_name, namespace, workload_name, .. } = options;
    let domain = names::CLUSTER_DOMAIN;
    let app = options.labels.get("app").unwrap_or(workload_name);
    let mut metadata = json!({
        "NAME": pod_name, "NAMESPACE": namespace, "SERVICE_ACCOUNT": options.service_account, "WORKLOAD_NAME": workload_name,
        "OWNER": format!("kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{workload_name}"),
        "LABELS": options.labels, "CLUSTER_ID": options.cluster_id, "MESH_ID": options.mesh_id, "INSTANCE_IPS": ips.join(","),
        "INTERCEPTION_MODE": "REDIRECT", "ISTIO_VERSION": ISTIO_VERSION,
        "ENVOY_STATUS_PORT": ports::HEALTH, "ENVOY_PROMETHEUS_PORT": ports::PROMETHEUS,
        "PROXY_CONFIG": {
            "discoveryAddress": format!("{}:{}", options.discovery_host, options.discovery_port),
            "concurrency": options.concurrency, "statusPort": options.status_port, "proxyAdminPort": options.admin_port,
            "terminationDrainDuration": format!("{}s", options.drain.as_secs()),
        },
    });
    let mut node = json!({"id": format!("{role}~{first}~{pod_name}.{namespace}~{namespace}.svc.{domain}"), "cluster": format!("{app}.{namespace}"), "locality": {}});
    if options.program == ProxyProgram::Embedded {
        // Stock Envoy writes its own user agent, and is sent nothing it does not know.
        metadata[names::NODE_FEATURES] = json!([names::FEATURE_PEER_METADATA]);
        node["user_agent_name"] = json!(names::USER_AGENT);
    }
    node["metadata"] = metadata;
    node
}

fn socket(address: &str, port: u16) -> Value {
    json!({"socket_address": {"protocol": "TCP", "address": address, "port_value": port}})
}

fn static_cluster(name: &str, address: Value) -> Value {
    json!({
        "name": name, "alt_stat_name": format!("{name};"), "type": "STATIC", "connect_timeout": "0.250s", "lb_policy": "ROUND_ROBIN",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
    })
}

/// A unix socket that speaks HTTP/2.
fn grpc_cluster(name: &str, path: &str) -> Value {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let mut cluster = static_cluster(name, json!({"pipe": {"path": path}}));
    cluster["connect_timeout"] = json!("1s");
    cluster["typed_extension_protocol_options"] = json!({
        options: {"@type": format!("type.googleapis.com/{options}"), "explicit_http_config": {"http2_protocol_options": {}}}
    });
    cluster
}

/// A listener that serves one path from one cluster.
fn static_listener(port: u16, stat_prefix: &str, path: &str, cluster: &str) -> Value {
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
    json!({
        "name": format!("0.0.0.0_{port}"),
        "address": socket("0.0.0.0", port),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "codec_type": "AUTO", "stat_prefix": stat_prefix,
                "route_config": {"virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": [{"match": {"prefix": path}, "route": {"cluster": cluster}}]}]},
                "http_filters": [router]
            }
        }]}]
    })
}

/// Istio's default selection of Envoy's own statistics, and the tags that take names apart.
fn stats_config() -> Value {
    let prefixes = ["reporter=", "cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "component", "istio"];
    let suffixes = ["rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied", "upstream_cx_overflow", "upstream_rq_retry", "upstream_rq_pending_overflow"];
    let patterns: Vec<Value> =
        prefixes.iter().map(|p| json!({"prefix": p})).chain(suffixes.iter().map(|s| json!({"suffix": s}))).collect();
    json!({
        "use_all_default_tags": false,
        "stats_tags": [
            {"tag_name": "cluster_name", "regex": r"^cluster(\.(.+);)"},
            {"tag_name": "response_code", "regex": r"_rq(_(\d{3}))$"},
            {"tag_name": "response_code_class", "regex": r"_rq(_(\dxx))$"}
        ],
        "stats_matcher": {"inclusion_list": {"patterns": patterns}}
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_envoy_api::envoy::config::bootstrap::v3::Bootstrap;

    fn options() -> AgentOptions {
        AgentOptions::new("frontend-1".into(), "default".into(), "frontend".into(), "10.244.0.7".parse().unwrap())
    }

    #[test]
    fn the_file_is_an_envoy_bootstrap_without_unknown_fields() {
        let message: Bootstrap = serde_json::from_value(bootstrap(&options())).unwrap();
        assert_eq!(message.node.unwrap().id, "sidecar~10.244.0.7~frontend-1.default~default.svc.cluster.local");
    }

    #[test]
    fn a_stock_envoy_names_no_features() {
        let envoy = AgentOptions { program: ProxyProgram::Envoy("envoy".into()), ..options() };
        assert!(bootstrap(&envoy)["node"]["metadata"].get(names::NODE_FEATURES).is_none());
        assert_eq!(bootstrap(&options())["node"]["user_agent_name"], names::USER_AGENT);
    }
}
