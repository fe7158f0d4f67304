//! Probes and lifecycle hooks, redirected to the agent: a kubelet has no certificate, so under STRICT it could not ask the application itself.
//!
//! - Reads: readiness, liveness and startup probes and lifecycle hooks of the application's containers.
//! - Twin: `agent/src/status.rs`, which answers `/app-health/…` on port 15020 by asking the application;
//!   `local/src/supervisor/pod/probe.rs`.
//! - Rule: a redirected probe keeps its times; the original goes into `ISTIO_KUBE_APP_PROBERS`, keyed by the new path.
//! - Limits: `exec` probes stay as they are; they need no network.

use lateen_base::ports;
use lateen_kube_api::{Container, HttpGetAction, IntOrString, LifecycleHandler, Probe};
use serde_json::{Map, Value, json};

/// Redirects every probe of `containers` and returns the originals by path, as JSON.
pub fn rewrite(containers: &mut [Container]) -> Map<String, Value> {
    let mut originals = Map::new();
    for container in containers {
        let (name, ports) = (container.name.clone(), container.ports.clone());
        let port_of = |port: &IntOrString| match port {
            IntOrString::Int(_) => port.port(),
            IntOrString::String(name) => ports.iter().find(|port| port.name == *name).map(|port| port.container_port),
        };
        let probes = [("readyz", &mut container.readiness_probe), ("livez", &mut container.liveness_probe), ("startupz", &mut container.startup_probe)];
        for (suffix, probe) in probes {
            let path = format!("{HEALTH_PATH}/{name}/{suffix}");
            if let Some(original) = probe.as_mut().and_then(|probe| redirect_probe(probe, &path, &port_of)) {
                originals.insert(path, original);
            }
        }
        let Some(lifecycle) = &mut container.lifecycle else { continue };
        for (suffix, hook) in [("poststartz", &mut lifecycle.post_start), ("prestopz", &mut lifecycle.pre_stop)] {
            let path = format!("{LIFECYCLE_PATH}/{name}/{suffix}");
            if let Some(original) = hook.as_mut().and_then(|hook| redirect_hook(hook, &path, &port_of)) {
                originals.insert(path, original);
            }
        }
    }
    originals
}

fn redirect_probe(probe: &mut Probe, path: &str, port_of: &dyn Fn(&IntOrString) -> Option<u16>) -> Option<Value> {
    let timeout = probe.timeout_seconds.max(1);
    let original = match (&probe.http_get, &probe.tcp_socket, &probe.grpc) {
        (Some(get), _, _) if get.host.is_empty() || get.host == "localhost" => json!({"httpGet": http_get(get, port_of)?, "timeoutSeconds": timeout}),
        (None, Some(tcp), _) => json!({"tcpSocket": {"port": port_of(&tcp.port)?}, "timeoutSeconds": timeout}),
        (None, None, Some(grpc)) => json!({"grpc": {"port": grpc.port, "service": grpc.service}, "timeoutSeconds": timeout}),
        _ => return None,
    };
    probe.http_get = Some(agent_get(path));
    probe.tcp_socket = None;
    probe.grpc = None;
    Some(original)
}

fn redirect_hook(hook: &mut LifecycleHandler, path: &str, port_of: &dyn Fn(&IntOrString) -> Option<u16>) -> Option<Value> {
    let original = json!({"httpGet": http_get(hook.http_get.as_ref()?, port_of)?});
    hook.http_get = Some(agent_get(path));
    Some(original)
}

/// The original request, with its port as a number. `None` where the port's name is unknown: the probe then fails as it would have.
fn http_get(get: &HttpGetAction, port_of: &dyn Fn(&IntOrString) -> Option<u16>) -> Option<Value> {
    let mut value = json!({"path": if get.path.is_empty() { "/" } else { &get.path }, "port": port_of(&get.port)?});
    if !get.scheme.is_empty() {
        value["scheme"] = json!(get.scheme);
    }
    if !get.http_headers.is_empty() {
        value["httpHeaders"] = json!(get.http_headers);
    }
    Some(value)
}

fn agent_get(path: &str) -> HttpGetAction {
    HttpGetAction { path: path.to_owned(), port: IntOrString::Int(ports::STATUS.into()), ..HttpGetAction::default() }
}

/// Path of redirected probes on the agent's status port.
const HEALTH_PATH: &str = "/app-health";
/// Path of redirected lifecycle hooks on the agent's status port.
const LIFECYCLE_PATH: &str = "/app-lifecycle";

#[cfg(test)]
mod tests {
    use super::*;

    fn container(json: Value) -> Container {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_http_probe_goes_to_the_agent_and_its_named_port_becomes_a_number() {
        let mut containers = [container(json!({
            "name": "web", "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ok", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 3}
        }))];
        let originals = rewrite(&mut containers);
        let probe = containers[0].readiness_probe.as_ref().unwrap();
        assert_eq!((probe.http_get.as_ref().unwrap().path.as_str(), probe.period_seconds), ("/app-health/web/readyz", 2));
        assert_eq!(Value::Object(originals), json!({"/app-health/web/readyz": {"httpGet": {"path": "/ok", "port": 8080}, "timeoutSeconds": 3}}));
    }

    #[test]
    fn a_tcp_probe_becomes_an_http_probe_of_the_agent() {
        let mut containers = [container(json!({"name": "db", "livenessProbe": {"tcpSocket": {"port": 5432}}}))];
        assert!(rewrite(&mut containers).contains_key("/app-health/db/livez"));
        assert!(containers[0].liveness_probe.as_ref().unwrap().tcp_socket.is_none());
    }

    #[test]
    fn an_exec_probe_stays() {
        let mut containers = [container(json!({"name": "a", "livenessProbe": {"exec": {"command": ["true"]}}}))];
        assert!(rewrite(&mut containers).is_empty());
        assert!(containers[0].liveness_probe.as_ref().unwrap().exec.is_some());
    }
}
