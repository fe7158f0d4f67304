//! The debug port: metrics, who is connected and how far, what each proxy is meant to have.
//!
//! - Reads: [`Hub`], [`Metrics`].
//! - Rule: paths and field names are istiod's where istiod has them; private keys are never shown.
//! - Limits: read-only; bodies are ignored.

use crate::hub::{Entry, Hub};
use crate::metrics::Metrics;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use lateen_mesh::Service;
use lateen_xds::server_session::TypeStatus;
use lateen_xds::types;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

/// What the pages read.
#[derive(Clone)]
pub struct Debug {
    /// Proxies and state.
    pub hub: Arc<Hub>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// When the process started.
    pub started: Instant,
}

/// The pages of the debug port.
pub fn pages(debug: Debug) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/debug/syncz", get(syncz))
        .route("/debug/connections", get(syncz))
        .route("/debug/config_dump", get(config_dump))
        .route("/debug/registryz", get(registryz))
        .route("/debug/endpointz", get(endpointz))
        .route("/version", get(version))
        .route("/ready", get(ready))
        .with_state(debug)
}

/// The one page of the readiness port.
pub fn readiness(debug: Debug) -> Router {
    Router::new().route("/ready", get(ready)).with_state(debug)
}

async fn ready(State(debug): State<Debug>) -> Response {
    if debug.hub.state().is_some() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the first complete read of the store has not finished\n").into_response()
    }
}

async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION"), "component": "lateen discovery"}))
}

async fn metrics(State(debug): State<Debug>) -> Response {
    debug.metrics.set("istiod_uptime_seconds", "", debug.started.elapsed().as_secs_f64());
    debug.metrics.set("pilot_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1.0);
    if let Some(state) = debug.hub.state() {
        #[expect(clippy::cast_precision_loss, reason = "counts of objects")]
        let set = |name, n: usize| debug.metrics.set(name, "", n as f64);
        set("pilot_services", state.snapshot.services().len());
        set("pilot_virt_services", state.snapshot.virtual_services.len());
    }
    let entries = debug.hub.entries();
    for (url, name) in [
        (types::CLUSTER, "pilot_xds_cds_reject"),
        (types::ENDPOINT, "pilot_xds_eds_reject"),
        (types::LISTENER, "pilot_xds_lds_reject"),
        (types::ROUTE, "pilot_xds_rds_reject"),
    ] {
        let refused = entries.iter().filter(|e| e.status().get(url).is_some_and(|s| s.error.is_some())).count();
        #[expect(clippy::cast_precision_loss, reason = "counts of proxies")]
        debug.metrics.set(name, "", refused as f64);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], debug.metrics.text()).into_response()
}

async fn syncz(State(debug): State<Debug>) -> Json<Value> {
    let version = debug.hub.state().map(|s| s.version);
    Json(debug.hub.entries().iter().map(|e| sync_status(e, version.as_deref())).collect())
}

/// One proxy's row of `proxy-status`.
fn sync_status(entry: &Entry, version: Option<&str>) -> Value {
    let proxy = &entry.proxy;
    let status = entry.status();
    let mut row = json!({
        "proxy": format!("{}.{}", proxy.name, proxy.namespace),
        "node_id": proxy.id,
        "proxy_type": if proxy.is_router() { "router" } else { "sidecar" },
        "cluster_id": proxy.cluster_id,
        "istio_version": entry.version,
        "user_agent_name": proxy.user_agent_name,
        "identity": entry.identity.as_ref().map(ToString::to_string),
        "address": entry.address.map(|a| a.to_string()),
        "protocol": format!("{:?}", entry.protocol).to_lowercase(),
        "connected_at_unix": entry.since.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        "version": version,
        "types": status.iter().map(|(url, s)| (types::short(url).to_owned(), type_status(s))).collect::<BTreeMap<_, _>>(),
    });
    // The flat fields istiod's own page has.
    for (url, word) in FLAT {
        if let (Some(s), Some(row)) = (status.get(url), row.as_object_mut()) {
            row.insert(format!("{word}_sent"), Value::from(s.nonce_sent.clone()));
            row.insert(format!("{word}_acked"), Value::from(s.nonce_acked.clone()));
            row.insert(format!("{word}_status"), Value::from(word_of(s)));
        }
    }
    row
}

/// Types that have fields of their own in a row, and what these start with.
const FLAT: [(&str, &str); 5] = [
    (types::CLUSTER, "cluster"),
    (types::ENDPOINT, "endpoint"),
    (types::LISTENER, "listener"),
    (types::ROUTE, "route"),
    (types::EXTENSION_CONFIG, "extensionconfig"),
];

/// The word for how a type stands. A proxy that came back with everything it needs was sent nothing and is in step.
fn word_of(status: &TypeStatus) -> &'static str {
    if status.error.is_some() {
        "NACKED"
    } else if status.nonce_sent == status.nonce_acked {
        if status.nonce_sent.is_empty() && status.resources == 0 { "NOT SENT" } else { "SYNCED" }
    } else {
        "STALE"
    }
}

fn type_status(status: &TypeStatus) -> Value {
    json!({
        "status": word_of(status),
        "nonce_sent": status.nonce_sent, "nonce_acked": status.nonce_acked,
        "version_sent": status.version_sent, "version_acked": status.version_acked,
        "error": status.error, "resources": status.resources, "names": status.names, "wildcard": status.wildcard,
    })
}

async fn config_dump(State(debug): State<Debug>, Query(query): Query<HashMap<String, String>>) -> Response {
    let wanted = query.get("proxyID").map(String::as_str).unwrap_or_default();
    let entries = debug.hub.entries();
    let found = entries.iter().find(|e| {
        let name = format!("{}.{}", e.proxy.name, e.proxy.namespace);
        e.proxy.id == wanted || name == wanted || e.proxy.name == wanted
    });
    match found {
        Some(entry) => Json(dump(entry)).into_response(),
        None => {
            let known: Vec<String> = entries.iter().map(|e| format!("{}.{}", e.proxy.name, e.proxy.namespace)).collect();
            let text = format!("no connected proxy {wanted:?}; give ?proxyID=POD.NAMESPACE, one of: {}\n", known.join(", "));
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}

/// Envoy's config dump form of what the proxy is meant to have.
fn dump(entry: &Entry) -> Value {
    let Some(push) = entry.push() else { return json!({"configs": []}) };
    let resources = |url: &str| push.sets.get(url).into_iter().flatten();
    let list = |url: &str, field: &str| -> Vec<Value> {
        resources(url)
            .map(|(_, r)| json!({"version_info": push.version, field: serde_json::to_value(&r.body).unwrap_or_else(|e| json!({"unreadable": e.to_string()}))}))
            .collect()
    };
    let listeners: Vec<Value> = resources(types::LISTENER)
        .zip(list(types::LISTENER, "listener"))
        .map(|((name, _), active)| json!({"name": name, "active_state": active}))
        .collect();
    let secrets: Vec<Value> = resources(types::SECRET).map(|(name, _)| json!({"name": name, "secret": "[redacted]"})).collect();
    let admin = "type.googleapis.com/envoy.admin.v3";
    json!({"configs": [
        {"@type": format!("{admin}.ClustersConfigDump"), "version_info": push.version, "dynamic_active_clusters": list(types::CLUSTER, "cluster")},
        {"@type": format!("{admin}.EndpointsConfigDump"), "dynamic_endpoint_configs": list(types::ENDPOINT, "endpoint_config")},
        {"@type": format!("{admin}.ListenersConfigDump"), "version_info": push.version, "dynamic_listeners": listeners},
        {"@type": format!("{admin}.RoutesConfigDump"), "dynamic_route_configs": list(types::ROUTE, "route_config")},
        {"@type": format!("{admin}.SecretsConfigDump"), "dynamic_active_secrets": secrets},
    ]})
}

async fn registryz(State(debug): State<Debug>) -> Json<Value> {
    let state = debug.hub.state();
    Json(state.iter().flat_map(|s| s.snapshot.services()).map(service).collect())
}

fn service(service: &Service) -> Value {
    json!({
        "hostname": service.hostname.to_string(),
        "name": service.name(),
        "namespace": service.namespace(),
        "addresses": service.addresses,
        "ports": service.ports.iter().map(|p| json!({"name": p.name, "port": p.number, "protocol": format!("{:?}", p.protocol)})).collect::<Vec<_>>(),
        "registry": service.registry.as_str(),
        "resolution": format!("{:?}", service.resolution),
        "identities": service.identities(),
    })
}

async fn endpointz(State(debug): State<Debug>) -> Json<Value> {
    let state = debug.hub.state();
    let rows = state.iter().flat_map(|s| s.snapshot.services()).map(|s| {
        let endpoints: Vec<String> = s.endpoints.iter().map(|e| format!("{e:?}")).collect();
        json!({"hostname": s.hostname.to_string(), "endpoints": endpoints})
    });
    Json(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(sent: &str, acked: &str, resources: usize, error: Option<&str>) -> TypeStatus {
        TypeStatus { nonce_sent: sent.into(), nonce_acked: acked.into(), resources, error: error.map(str::to_owned), ..Default::default() }
    }

    #[test]
    fn each_state_has_its_word() {
        assert_eq!(word_of(&status("", "", 0, None)), "NOT SENT");
        assert_eq!(word_of(&status("2", "1", 1, None)), "STALE");
        assert_eq!(word_of(&status("2", "2", 1, None)), "SYNCED");
        assert_eq!(word_of(&status("2", "1", 1, Some("bad"))), "NACKED");
    }

    #[test]
    fn a_proxy_that_reconnected_with_everything_is_in_step() {
        assert_eq!(word_of(&status("", "", 3, None)), "SYNCED");
    }
}
