//! What injection adds to a pod: the containers `istio-proxy` and `istio-init`, labels, annotations, volumes.
//!
//! - Reads: `v1` Pod after [`crate::decide`]; annotations `sidecar.istio.io/…`, `traffic.sidecar.istio.io/…`, `proxy.istio.io/config`.
//! - Twin: `agent/src/options.rs` (environment in `cli/src/commands/sidecar.rs`), which reads the environment written here.
//! - Source: Istio's injection template `sidecar`; names of variables, labels, volumes and arguments are Istio's.
//! - Rule: the environment carries all that the agent needs; the address of the pod comes by the downward API.

use crate::probes;
use lateen_base::{annotations, labels, names, ports};
use lateen_kube_api::{
    Container, ContainerPort, EnvVar, EnvVarSource, HttpGetAction, IntOrString, ObjectFieldSelector, ObjectMeta, Pod, Probe, Volume, VolumeMount,
};
use lateen_mesh::MeshConfig;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What injection needs to know besides the pod.
#[derive(Clone, Debug)]
pub struct InjectOptions<'a> {
    /// Mesh-wide options.
    pub mesh: &'a MeshConfig,
    /// `host:port` of the certificate service.
    pub ca_address: &'a str,
    /// `host:port` of the xDS server.
    pub discovery_address: &'a str,
    /// Cluster id that goes into the node's metadata.
    pub cluster_id: &'a str,
    /// Worker threads of the proxy; 0 lets the proxy choose.
    pub concurrency: u32,
    /// More variables for every proxy, such as `SECRET_TTL`.
    pub environment: &'a [(String, String)],
}

/// The image whose entry point is the `lateen` program itself.
pub const OWN_IMAGE: &str = "lateen/lateen";

/// Adds the sidecar. The caller has asked [`crate::decide`].
#[must_use]
pub fn inject(pod: &Pod, options: &InjectOptions<'_>) -> Pod {
    let mut pod = pod.clone();
    let workload = workload_of(&pod.metadata);
    let rewrite = pod.metadata.annotations.get(annotations::REWRITE_PROBERS).is_none_or(|value| value != "false");
    let probers = if rewrite { probes::rewrite(&mut pod.spec.containers) } else { serde_json::Map::new() };
    add_labels(&mut pod.metadata, &workload);
    let proxy = proxy_container(&pod, &workload, Value::Object(probers), options);
    let init = init_container(&pod.metadata);
    pod.metadata.annotations.insert(annotations::STATUS.into(), status());
    if let Some(first) = pod.spec.containers.first().map(|container| container.name.clone()) {
        pod.metadata.annotations.entry(annotations::DEFAULT_CONTAINER.into()).or_insert(first);
    }
    add_scrape_annotations(&mut pod.metadata);
    pod.spec.init_containers.insert(0, init);
    pod.spec.containers.push(proxy);
    pod.spec.volumes.extend(volumes());
    pod
}

/// The container of a gateway pod: the same program without an application beside it.
#[must_use]
pub fn gateway_container(metadata: &ObjectMeta, workload: &str, options: &InjectOptions<'_>) -> (Container, Vec<Volume>) {
    let pod = Pod { metadata: metadata.clone(), ..Pod::default() };
    let mut container = proxy_container(&pod, workload, json!({}), options);
    container.args = vec!["sidecar".into(), "--router".into()];
    container.ports.extend([port("status-port", ports::HEALTH), port("http2", ports::GATEWAY_HTTP), port("https", ports::GATEWAY_HTTPS)]);
    (container, volumes())
}

/// Name of the workload: the owning Deployment without the ReplicaSet's hash, else the owner, else the pod.
#[must_use]
pub fn workload_of(metadata: &ObjectMeta) -> String {
    let owner = metadata.owner_references.iter().find(|owner| owner.controller == Some(true)).or(metadata.owner_references.first());
    match owner {
        Some(owner) if owner.kind == "ReplicaSet" => owner.name.rsplit_once('-').map_or(owner.name.as_str(), |(deployment, _)| deployment).to_owned(),
        Some(owner) => owner.name.clone(),
        None => metadata.name.clone(),
    }
}

fn add_labels(metadata: &mut ObjectMeta, workload: &str) {
    let first = |names: &[&str]| names.iter().find_map(|name| metadata.labels.get(*name)).cloned();
    let name = first(&[labels::CANONICAL_NAME, labels::APP_KUBERNETES_NAME, labels::APP]).unwrap_or_else(|| workload.to_owned());
    let revision = first(&[labels::CANONICAL_REVISION, labels::APP_KUBERNETES_VERSION, labels::VERSION]).unwrap_or_else(|| "latest".into());
    metadata.labels.entry(labels::TLS_MODE.into()).or_insert_with(|| labels::TLS_MODE_ISTIO.into());
    metadata.labels.insert(labels::CANONICAL_NAME.into(), name);
    metadata.labels.insert(labels::CANONICAL_REVISION.into(), revision);
}

fn add_scrape_annotations(metadata: &mut ObjectMeta) {
    let notes = &mut metadata.annotations;
    notes.insert(annotations::PROMETHEUS_SCRAPE.into(), "true".into());
    notes.insert(annotations::PROMETHEUS_PORT.into(), ports::STATUS.to_string());
    notes.insert(annotations::PROMETHEUS_PATH.into(), "/stats/prometheus".into());
}

fn proxy_container(pod: &Pod, workload: &str, probers: Value, options: &InjectOptions<'_>) -> Container {
    let image = pod.metadata.annotations.get(annotations::PROXY_IMAGE);
    let mut args = vec!["sidecar".to_owned()];
    if let Some(image) = image {
        args.extend(["--proxy-image".to_owned(), image.clone()]);
    }
    if let Some(level) = pod.metadata.annotations.get(annotations::LOG_LEVEL) {
        args.extend(["--log-level".to_owned(), level.clone()]);
    }
    if options.concurrency > 0 {
        args.extend(["--concurrency".to_owned(), options.concurrency.to_string()]);
    }
    Container {
        name: names::PROXY_CONTAINER.into(),
        image: image.cloned().unwrap_or_else(|| OWN_IMAGE.into()),
        args,
        env: environment(pod, workload, probers, options),
        ports: vec![port("http-envoy-prom", ports::PROMETHEUS)],
        volume_mounts: mounts(),
        readiness_probe: Some(ready_probe(15, 4)),
        startup_probe: Some(ready_probe(1, 600)),
        ..Container::default()
    }
}

fn environment(pod: &Pod, workload: &str, probers: Value, options: &InjectOptions<'_>) -> Vec<EnvVar> {
    let metadata = &pod.metadata;
    let namespace = if metadata.namespace.is_empty() { names::DEFAULT_NAMESPACE } else { &metadata.namespace };
    let app_containers: Vec<&str> = pod.spec.containers.iter().map(|container| container.name.as_str()).collect();
    let app_ports: Vec<Value> = pod.spec.containers.iter().flat_map(|container| &container.ports).map(|port| json!(port)).collect();
    let note = |key: &str| metadata.annotations.get(key).cloned().unwrap_or_default();
    let scrape = json!({"scrape": note(annotations::PROMETHEUS_SCRAPE), "port": note(annotations::PROMETHEUS_PORT), "path": note(annotations::PROMETHEUS_PATH)});
    let config = json!({"discoveryAddress": options.discovery_address, "concurrency": options.concurrency});
    let owner = format!("kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{workload}");
    let mut env = vec![
        value("JWT_POLICY", "third-party-jwt"),
        value("PILOT_CERT_PROVIDER", "istiod"),
        value("CA_ADDR", options.ca_address),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        value("PROXY_CONFIG", &config.to_string()),
        value("ISTIO_META_POD_PORTS", &Value::Array(app_ports).to_string()),
        value("ISTIO_META_APP_CONTAINERS", &app_containers.join(",")),
        value("ISTIO_META_CLUSTER_ID", options.cluster_id),
        value("ISTIO_META_INTERCEPTION_MODE", "REDIRECT"),
        value("ISTIO_META_WORKLOAD_NAME", workload),
        value("ISTIO_META_OWNER", &owner),
        value("ISTIO_META_MESH_ID", &options.mesh.trust_domain),
        value("ISTIO_METAJSON_LABELS", &json!(metadata.labels).to_string()),
        value("TRUST_DOMAIN", &options.mesh.trust_domain),
        value("ISTIO_KUBE_APP_PROBERS", &probers.to_string()),
    ];
    if metadata.annotations.contains_key(annotations::PROMETHEUS_PORT) {
        env.push(value("ISTIO_PROMETHEUS_ANNOTATIONS", &scrape.to_string()));
    }
    if metadata.annotations.contains_key(annotations::PROXY_CONFIG) {
        env.push(value("PROXY_CONFIG_OVERRIDES", &note(annotations::PROXY_CONFIG)));
    }
    env.extend(options.environment.iter().map(|(name, text)| value(name, text)));
    env
}

/// Represented as Istio does, so that tools that look for it find it; whoever runs the pod sets the rules itself.
fn init_container(metadata: &ObjectMeta) -> Container {
    let note = |key: &str, default: &str| metadata.annotations.get(key).cloned().unwrap_or_else(|| default.to_owned());
    let never: Vec<String> = [ports::PROMETHEUS, ports::HEALTH, ports::STATUS].iter().map(u16::to_string).collect();
    let excluded = [note(annotations::EXCLUDE_INBOUND_PORTS, ""), never.join(",")].into_iter().filter(|list| !list.is_empty()).collect::<Vec<_>>().join(",");
    let flags = [
        ("-p", ports::OUTBOUND.to_string()),
        ("-z", ports::INBOUND.to_string()),
        ("-u", ports::PROXY_UID.to_string()),
        ("-m", "REDIRECT".to_owned()),
        ("-i", note(annotations::INCLUDE_OUTBOUND_RANGES, "*")),
        ("-x", note(annotations::EXCLUDE_OUTBOUND_RANGES, "")),
        ("-b", note(annotations::INCLUDE_INBOUND_PORTS, "*")),
        ("-d", excluded),
        ("-o", note(annotations::EXCLUDE_OUTBOUND_PORTS, "")),
        ("-q", note(annotations::INCLUDE_OUTBOUND_PORTS, "")),
    ];
    let args = std::iter::once("istio-iptables".to_owned()).chain(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value])).collect();
    Container { name: names::INIT_CONTAINER.into(), image: OWN_IMAGE.into(), args, ..Container::default() }
}

fn volumes() -> Vec<Volume> {
    let token = json!({"sources": [{"serviceAccountToken": {"path": "istio-token", "audience": names::TOKEN_AUDIENCE, "expirationSeconds": 43200}}]});
    let root = lateen_kube_api::ConfigMapVolume { name: ROOT_CERT_CONFIG_MAP.into(), ..Default::default() };
    vec![
        Volume { name: "istio-token".into(), projected: Some(token), ..Volume::default() },
        Volume { name: "istiod-ca-cert".into(), config_map: Some(root), ..Volume::default() },
    ]
}

fn mounts() -> Vec<VolumeMount> {
    let folder = |path: &str| path.rsplit_once('/').map_or("/", |(folder, _)| folder).to_owned();
    let mount = |name: &str, path: &str| VolumeMount { name: name.into(), mount_path: folder(path), read_only: Some(true), ..VolumeMount::default() };
    vec![mount("istio-token", names::TOKEN_PATH), mount("istiod-ca-cert", names::ROOT_CERT_PATH)]
}

/// ConfigMap in every namespace that holds the mesh's root certificate, key `root-cert.pem`.
pub const ROOT_CERT_CONFIG_MAP: &str = "istio-ca-root-cert";

fn status() -> String {
    json!({
        "initContainers": [names::INIT_CONTAINER], "containers": [names::PROXY_CONTAINER],
        "volumes": volumes().iter().map(|volume| volume.name.clone()).collect::<Vec<_>>(), "imagePullSecrets": null, "revision": "default",
    })
    .to_string()
}

fn ready_probe(period: i32, failures: i32) -> Probe {
    let get = HttpGetAction { path: "/healthz/ready".into(), port: IntOrString::Int(ports::HEALTH.into()), ..HttpGetAction::default() };
    Probe { http_get: Some(get), period_seconds: period, timeout_seconds: 3, failure_threshold: failures, ..Probe::default() }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort { name: name.into(), container_port: number, protocol: "TCP".into(), ..ContainerPort::default() }
}

fn value(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}

fn field(name: &str, path: &str) -> EnvVar {
    let field_ref = Some(ObjectFieldSelector { api_version: "v1".into(), field_path: path.into() });
    EnvVar { name: name.into(), value: None, value_from: Some(EnvVarSource { field_ref, ..EnvVarSource::default() }) }
}

/// The environment of a container by name, as far as it is literal. For tests and `describe`.
#[must_use]
pub fn literal_environment(container: &Container) -> BTreeMap<&str, &str> {
    container.env.iter().filter_map(|variable| Some((variable.name.as_str(), variable.value.as_deref()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mesh: &MeshConfig) -> InjectOptions<'_> {
        InjectOptions { mesh, ca_address: "istiod.istio-system.svc:15012", discovery_address: "istiod.istio-system.svc:15012", cluster_id: "Kubernetes", concurrency: 0, environment: &[] }
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-5d4-abcde", "namespace": "default", "labels": {"app": "web", "version": "v2"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-5d4", "controller": true}]},
            "spec": {"containers": [{"name": "web", "image": "x", "command": ["/web"], "readinessProbe": {"httpGet": {"path": "/", "port": 80}}}]}
        }))
        .unwrap()
    }

    fn injected() -> Pod {
        inject(&pod(), &options(&MeshConfig::default()))
    }

    #[test]
    fn the_sidecar_and_the_init_container_have_istios_names() {
        let pod = injected();
        assert_eq!(pod.spec.containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["web", "istio-proxy"]);
        assert_eq!(pod.spec.init_containers[0].name, "istio-init");
    }

    #[test]
    fn labels_name_the_canonical_service_and_revision() {
        let labels = injected().metadata.labels;
        assert_eq!(labels[labels::CANONICAL_NAME], "web");
        assert_eq!(labels[labels::CANONICAL_REVISION], "v2");
        assert_eq!(labels[labels::TLS_MODE], "istio");
    }

    #[test]
    fn a_pod_without_version_is_latest() {
        let mut plain = pod();
        plain.metadata.labels.remove("version");
        assert_eq!(inject(&plain, &options(&MeshConfig::default())).metadata.labels[labels::CANONICAL_REVISION], "latest");
    }

    #[test]
    fn the_application_itself_is_untouched() {
        let (before, after) = (pod().spec.containers.remove(0), injected().spec.containers.remove(0));
        assert_eq!((before.image, before.command, before.env), (after.image, after.command, after.env));
    }

    #[test]
    fn the_agent_learns_the_workload_and_the_original_probes() {
        let pod = injected();
        let env = literal_environment(&pod.spec.containers[1]);
        assert_eq!(env["ISTIO_META_WORKLOAD_NAME"], "web");
        assert!(env["ISTIO_KUBE_APP_PROBERS"].contains("/app-health/web/readyz"));
        assert!(env["ISTIO_METAJSON_LABELS"].contains("canonical-name"));
    }

    #[test]
    fn probes_stay_where_the_pod_says_so() {
        let mut plain = pod();
        plain.metadata.annotations.insert(annotations::REWRITE_PROBERS.into(), "false".into());
        let pod = inject(&plain, &options(&MeshConfig::default()));
        assert_eq!(pod.spec.containers[0].readiness_probe, plain.spec.containers[0].readiness_probe);
    }

    #[test]
    fn the_proxys_image_can_be_chosen() {
        let mut plain = pod();
        plain.metadata.annotations.insert(annotations::PROXY_IMAGE.into(), "envoyproxy/envoy:v1.40".into());
        let proxy = inject(&plain, &options(&MeshConfig::default())).spec.containers.remove(1);
        assert_eq!(proxy.args, ["sidecar", "--proxy-image", "envoyproxy/envoy:v1.40"]);
    }

    #[test]
    fn the_status_annotation_lists_what_was_added() {
        let status: Value = serde_json::from_str(&injected().metadata.annotations[annotations::STATUS]).unwrap();
        assert_eq!(status["containers"], json!(["istio-proxy"]));
    }
}
