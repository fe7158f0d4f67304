//! Volumes: the files a pod's containers find.
//!
//! - Reads: `spec.volumes`, ConfigMaps, Secrets, the token issuer.
//! - Rule: pure but for the token; writing is `filesystem`.
//! - Limits: `configMap`, `secret`, `emptyDir`, `hostPath`, `downwardAPI`, `projected`; others are refused by name.

use super::environment::{Sources, field_value, service_account};
use lateen_kube_api::{KeyToPath, ObjectMeta, Volume};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Files by their path in the volume.
    Files(BTreeMap<String, Vec<u8>>),
    /// An empty folder in memory, of at most this many bytes in use by all such folders of the pod.
    Empty,
    /// A folder or file of the machine.
    Host(PathBuf),
}

/// Signs a token: pod, service account, audience.
pub(crate) type Issue<'a> = &'a dyn Fn(&ObjectMeta, &str, &str) -> Result<String, String>;

/// The content of a volume.
///
/// # Errors
/// What is missing or not supported, in words.
pub(crate) fn content(volume: &Volume, sources: &Sources<'_>, issue: Issue<'_>) -> Result<Content, String> {
    if let Some(source) = &volume.config_map {
        return keyed("ConfigMap", &source.name, (&source.items, source.optional), sources.config_map).map(Content::Files);
    }
    if let Some(source) = &volume.secret {
        return keyed("Secret", &source.secret_name, (&source.items, source.optional), sources.secret).map(Content::Files);
    }
    if let Some(source) = &volume.host_path {
        return Ok(Content::Host(source.path.clone().into()));
    }
    if let Some(source) = &volume.downward_api {
        return downward(source, sources).map(Content::Files);
    }
    if let Some(source) = &volume.projected {
        return projected(source, sources, issue).map(Content::Files);
    }
    let unsupported = [("persistentVolumeClaim", &volume.persistent_volume_claim), ("csi", &volume.csi), ("nfs", &volume.nfs), ("image", &volume.image)];
    match unsupported.iter().find(|(_, source)| source.is_some()) {
        Some((kind, _)) => Err(format!("volume {}: {kind} is not available here; use emptyDir or hostPath", volume.name)),
        // emptyDir, or nothing, which means the same; an ephemeral claim is as empty.
        None => Ok(Content::Empty),
    }
}

type Find<'a> = &'a dyn Fn(&str) -> Option<BTreeMap<String, Vec<u8>>>;

fn keyed(kind: &str, name: &str, (items, optional): (&[KeyToPath], Option<bool>), find: Find<'_>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let optional = optional == Some(true);
    let Some(values) = find(name) else {
        return if optional { Ok(BTreeMap::new()) } else { Err(format!("{kind} {name} not found")) };
    };
    if items.is_empty() {
        return Ok(values);
    }
    let mut files = BTreeMap::new();
    for item in items {
        match values.get(&item.key) {
            Some(value) => drop(files.insert(checked(&item.path)?, value.clone())),
            None if optional => {}
            None => return Err(format!("{kind} {name} has no key {}", item.key)),
        }
    }
    Ok(files)
}

/// A path inside a volume must stay inside.
fn checked(path: &str) -> Result<String, String> {
    let inside = !path.is_empty() && !path.starts_with('/') && path.split('/').all(|part| !part.is_empty() && part != "..");
    if inside { Ok(path.to_owned()) } else { Err(format!("volume path `{path}` must be relative and without `..`")) }
}

#[derive(Deserialize)]
struct Downward {
    #[serde(default)]
    items: Vec<DownwardItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DownwardItem {
    path: String,
    field_ref: Option<lateen_kube_api::ObjectFieldSelector>,
}

fn downward(source: &Value, sources: &Sources<'_>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let source: Downward = serde_json::from_value(source.clone()).map_err(|error| format!("downwardAPI: {error}"))?;
    let mut files = BTreeMap::new();
    for item in source.items {
        let field = item.field_ref.ok_or("downwardAPI: only fieldRef is available here")?;
        files.insert(checked(&item.path)?, field_value(&field.field_path, sources.pod, sources.ip)?.into_bytes());
    }
    Ok(files)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Projection {
    service_account_token: Option<TokenProjection>,
    config_map: Option<lateen_kube_api::ConfigMapVolume>,
    secret: Option<SecretProjection>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<Value>,
}

#[derive(Deserialize)]
struct SecretProjection {
    #[serde(default)]
    name: String,
    #[serde(default)]
    items: Vec<KeyToPath>,
    optional: Option<bool>,
}

#[derive(Deserialize)]
struct TokenProjection {
    #[serde(default)]
    audience: String,
    path: String,
}

fn projected(source: &Value, sources: &Sources<'_>, issue: Issue<'_>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let list = source.get("sources").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    let list: Vec<Projection> = serde_json::from_value(list).map_err(|error| format!("projected: {error}"))?;
    let mut files = BTreeMap::new();
    for part in list {
        if let Some(token) = part.service_account_token {
            let signed = issue(&sources.pod.metadata, service_account(sources.pod), &token.audience)?;
            files.insert(checked(&token.path)?, signed.into_bytes());
        }
        if let Some(map) = part.config_map {
            files.extend(keyed("ConfigMap", &map.name, (&map.items, map.optional), sources.config_map)?);
        }
        if let Some(secret) = part.secret {
            files.extend(keyed("Secret", &secret.name, (&secret.items, secret.optional), sources.secret)?);
        }
        if let Some(source) = part.downward_api {
            files.extend(downward(&source, sources)?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_kube_api::Pod;
    use serde_json::json;
    use std::net::Ipv4Addr;

    fn made(volume: Value) -> Result<Content, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-1", "namespace": "shop"}})).unwrap();
        let config = |name: &str| (name == "settings").then(|| BTreeMap::from([("a.conf".to_owned(), b"x".to_vec()), ("b.conf".to_owned(), b"y".to_vec())]));
        let sources = Sources { pod: &pod, ip: Ipv4Addr::LOCALHOST, config_map: &config, secret: &|_| None };
        content(&serde_json::from_value(volume).unwrap(), &sources, &|pod, account, audience| Ok(format!("{}/{account}/{audience}", pod.name)))
    }

    fn files(pairs: &[(&str, &str)]) -> Content {
        Content::Files(pairs.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
    }

    #[test]
    fn a_config_map_becomes_files() {
        assert_eq!(made(json!({"name": "v", "configMap": {"name": "settings"}})).unwrap(), files(&[("a.conf", "x"), ("b.conf", "y")]));
        assert_eq!(made(json!({"name": "v", "configMap": {"name": "settings", "items": [{"key": "a.conf", "path": "d/z"}]}})).unwrap(), files(&[("d/z", "x")]));
    }

    #[test]
    fn a_path_cannot_leave_its_volume() {
        assert!(made(json!({"name": "v", "configMap": {"name": "settings", "items": [{"key": "a.conf", "path": "../z"}]}})).is_err());
    }

    #[test]
    fn a_projected_token_names_pod_account_and_audience() {
        let volume = json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "istio-token", "audience": "istio-ca"}}]}});
        assert_eq!(made(volume).unwrap(), files(&[("istio-token", "web-1/default/istio-ca")]));
    }

    #[test]
    fn a_volume_that_needs_a_cluster_is_refused_by_name() {
        let error = made(json!({"name": "data", "persistentVolumeClaim": {"claimName": "x"}})).unwrap_err();
        assert!(error.contains("persistentVolumeClaim") && error.contains("emptyDir"), "{error}");
    }
}
