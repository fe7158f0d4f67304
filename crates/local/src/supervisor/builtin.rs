//! Objects that every mesh has: the control plane, the ingress gateway, and their namespace.
//!
//! - Rule: ordinary objects, run by the ordinary controllers; a user may apply over them.
//! - Source: names, labels and ports are those of Istio's `istiod` and `istio-ingress` charts.

use crate::UpOptions;
use crate::state_dir;
use crate::supervisor::pod::state_in_pod;
use lateen_base::{labels, names, ports};
use lateen_inject::sidecar::{InjectOptions, OWN_IMAGE, gateway_container};
use lateen_kube_api::ObjectMeta;
use lateen_mesh::MeshConfig;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The objects, in the order in which they are created.
pub(crate) fn objects(options: &UpOptions) -> Vec<Value> {
    let root = names::ROOT_NAMESPACE;
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {labels::NAMESPACE_NAME: name}}});
    let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": root}});
    vec![
        namespace(names::DEFAULT_NAMESPACE),
        namespace(root),
        node(),
        account(names::ISTIOD),
        account(INGRESS_ACCOUNT),
        control_service(),
        gateway_service(),
        control_deployment(options),
        gateway_deployment(options),
    ]
}

/// Service account of the ingress gateway, as Istio names it.
const INGRESS_ACCOUNT: &str = "istio-ingressgateway-service-account";

/// What every proxy is told besides its pod; see [`with_inject_options`].
pub(crate) fn proxy_environment(options: &UpOptions) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    if !options.cert_ttl.is_empty() {
        environment.push(("SECRET_TTL".to_owned(), options.cert_ttl.clone()));
    }
    if let Some(envoy) = &options.envoy {
        environment.push(("LATEEN_ENVOY".to_owned(), envoy.display().to_string()));
    }
    environment
}

/// Calls `work` with the options that injection takes.
pub(crate) fn with_inject_options<T>(options: &UpOptions, work: impl FnOnce(&InjectOptions<'_>) -> T) -> T {
    let mesh = MeshConfig::default();
    let address = format!("{}:{}", names::ISTIOD_HOST, ports::XDS_TLS);
    let environment = proxy_environment(options);
    work(&InjectOptions {
        mesh: &mesh,
        ca_address: &address,
        discovery_address: &address,
        cluster_id: CLUSTER_ID,
        concurrency: options.concurrency,
        environment: &environment,
    })
}

/// Istio's id of the only cluster.
const CLUSTER_ID: &str = "Kubernetes";

fn node() -> Value {
    let name = super::pod::environment::NODE_NAME;
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn service(name: &str, selector: Value, service_ports: &[(&str, u16, u16)]) -> Value {
    let listed: Vec<Value> = service_ports.iter().map(|(name, port, target)| json!({"name": name, "port": port, "targetPort": target})).collect();
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": names::ROOT_NAMESPACE, "labels": selector},
        "spec": {"selector": selector, "ports": listed}})
}

fn control_service() -> Value {
    let listed = [
        ("grpc-xds", ports::XDS_PLAINTEXT, ports::XDS_PLAINTEXT),
        ("https-dns", ports::XDS_TLS, ports::XDS_TLS),
        ("http-monitoring", ports::CONTROL_DEBUG, ports::CONTROL_DEBUG),
    ];
    service(names::ISTIOD, json!({labels::APP: names::ISTIOD, labels::GATEWAY: "pilot"}), &listed)
}

fn gateway_service() -> Value {
    let listed = [("status-port", ports::HEALTH, ports::HEALTH), ("http2", 80, ports::GATEWAY_HTTP), ("https", 443, ports::GATEWAY_HTTPS)];
    service(names::INGRESS_GATEWAY, gateway_labels(), &listed)
}

fn gateway_labels() -> Value {
    json!({labels::APP: names::INGRESS_GATEWAY, labels::GATEWAY: labels::GATEWAY_INGRESS})
}

fn deployment(name: &str, selector: &Value, template: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": names::ROOT_NAMESPACE, "labels": selector},
        "spec": {"replicas": 1, "selector": {"matchLabels": selector}, "template": template}})
}

fn control_deployment(options: &UpOptions) -> Value {
    let state = state_in_pod();
    let path = |path: std::path::PathBuf| path.display().to_string();
    let mut args = vec![
        "discovery".to_owned(),
        "--store".into(),
        path(state_dir::api_socket(&state)),
        "--state".into(),
        path(state_dir::ca_dir(&state)),
        "--token-key".into(),
        path(state_dir::token_public_key(&state)),
    ];
    if !options.cert_ttl.is_empty() {
        args.extend(["--cert-ttl".to_owned(), options.cert_ttl.clone()]);
    }
    let selector = json!({labels::APP: names::ISTIOD, labels::GATEWAY: "pilot"});
    let mut template_labels = selector.clone();
    template_labels[labels::INJECT] = json!("false");
    let listed: Vec<Value> = [ports::XDS_PLAINTEXT, ports::XDS_TLS, ports::CONTROL_DEBUG].iter().map(|port| json!({"containerPort": port})).collect();
    let probe = json!({"httpGet": {"path": "/ready", "port": ports::CONTROL_READY}, "periodSeconds": 3, "timeoutSeconds": 5});
    let template = json!({
        "metadata": {"labels": template_labels},
        "spec": {"serviceAccountName": names::ISTIOD, "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "discovery", "image": OWN_IMAGE, "args": args, "ports": listed, "readinessProbe": probe}]},
    });
    deployment(names::ISTIOD, &selector, template)
}

fn gateway_deployment(options: &UpOptions) -> Value {
    let selector = gateway_labels();
    let mut all: BTreeMap<String, String> = serde_json::from_value(selector.clone()).unwrap_or_default();
    all.insert(labels::INJECT.into(), "false".into());
    all.insert(labels::CANONICAL_NAME.into(), names::INGRESS_GATEWAY.into());
    all.insert(labels::CANONICAL_REVISION.into(), "latest".into());
    let metadata = ObjectMeta { name: names::INGRESS_GATEWAY.into(), namespace: names::ROOT_NAMESPACE.into(), labels: all.clone(), ..ObjectMeta::default() };
    let (container, volumes) = with_inject_options(options, |inject| gateway_container(&metadata, names::INGRESS_GATEWAY, inject));
    let template = json!({
        "metadata": {"labels": all},
        "spec": {"serviceAccountName": INGRESS_ACCOUNT, "containers": [container], "volumes": volumes},
    });
    deployment(names::INGRESS_GATEWAY, &selector, template)
}
