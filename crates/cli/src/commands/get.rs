//! `lateen get`: objects, as `kubectl get` shows them.

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Context, namespace, ps};
use crate::{
    args::{self, Format},
    client::text,
    output::{self, age, table},
    resource::{self, Resource},
};

/// Entry point. Several kinds may be given with commas between; each gets its own table.
pub(crate) async fn run(context: &Context, flags: &args::Get) -> Result<ExitCode> {
    for (index, kind) in flags.kind.split(',').enumerate() {
        if index > 0 {
            crate::output::line(format_args!(""));
        }
        one_kind(context, kind, flags).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn one_kind(context: &Context, kind: &str, flags: &args::Get) -> Result<()> {
    let (kind, first_name) = kind.split_once('/').map_or((kind, None), |(kind, name)| (kind, Some(name.to_owned())));
    let Some(resource) = resource::find(kind) else { bail!("the mesh has no kind `{kind}`; try one such as pods, svc, deploy, vs, dr, gw, se, pa, ap") };
    let names: Vec<String> = first_name.into_iter().chain(flags.names.iter().cloned()).collect();
    let namespace = if flags.all_namespaces || !resource.namespaced { "" } else { namespace(flags.namespace.as_ref()) };
    let mut objects = context.client().objects(resource.kind, namespace, "", flags.selector.as_deref().unwrap_or_default()).await?;
    if let Some(missing) = names.iter().find(|name| !objects.iter().any(|object| text(object, "/metadata/name") == *name)) {
        let plural = if resource.group.is_empty() { resource.plural.to_owned() } else { format!("{}.{}", resource.plural, resource.group) };
        bail!("Error from server (NotFound): {plural} \"{missing}\" not found");
    }
    if !names.is_empty() {
        objects.retain(|object| names.iter().any(|name| text(object, "/metadata/name") == name));
    }
    objects.sort_by_key(|object| (text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned()));
    match flags.output {
        Some(format @ (Format::Json | Format::Yaml)) => {
            let single = names.len() == 1;
            let document = if single { objects.into_iter().next().unwrap_or_default() } else { json!({"apiVersion": "v1", "kind": "List", "items": objects}) };
            output::document(&document, format)?;
        }
        Some(Format::Name) => {
            for object in &objects {
                crate::output::line(format_args!("{}", resource::display(resource.kind, object.get("apiVersion").and_then(Value::as_str), text(object, "/metadata/name"))));
            }
        }
        Some(Format::Wide | Format::Short) | None => show(resource, &objects, flags, namespace),
    }
    Ok(())
}

fn show(resource: &Resource, objects: &[Value], flags: &args::Get, namespace: &str) {
    if objects.is_empty() {
        let place = if namespace.is_empty() { String::new() } else { format!(" in {namespace} namespace") };
        eprintln!("No resources found{place}.");
        return;
    }
    let mut heads = columns(resource.kind).to_vec();
    if resource.namespaced && flags.all_namespaces {
        heads.insert(0, "NAMESPACE");
    }
    if flags.show_labels {
        heads.push("LABELS");
    }
    let rows: Vec<Vec<String>> = objects
        .iter()
        .map(|object| {
            let mut row = row(resource.kind, object);
            if resource.namespaced && flags.all_namespaces {
                row.insert(0, text(object, "/metadata/namespace").to_owned());
            }
            if flags.show_labels {
                row.push(labels(object));
            }
            row
        })
        .collect();
    table::print(&heads, &rows);
}

fn columns(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"],
        "Service" => &["NAME", "TYPE", "CLUSTER-IP", "PORT(S)", "AGE"],
        "Deployment" => &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"],
        "ReplicaSet" => &["NAME", "DESIRED", "CURRENT", "READY", "AGE"],
        "Namespace" | "Node" => &["NAME", "STATUS", "AGE"],
        "VirtualService" => &["NAME", "GATEWAYS", "HOSTS", "AGE"],
        "DestinationRule" => &["NAME", "HOST", "AGE"],
        "ServiceEntry" => &["NAME", "HOSTS", "LOCATION", "RESOLUTION", "AGE"],
        "PeerAuthentication" => &["NAME", "MODE", "AGE"],
        "AuthorizationPolicy" => &["NAME", "ACTION", "AGE"],
        _ => &["NAME", "AGE"],
    }
}

fn row(kind: &str, object: &Value) -> Vec<String> {
    let at = |pointer: &str| text(object, pointer).to_owned();
    let or = |pointer: &str, default: &str| Some(at(pointer)).filter(|found| !found.is_empty()).unwrap_or_else(|| default.to_owned());
    let list = |pointer: &str| object.pointer(pointer).filter(|list| !list.is_null()).map(ToString::to_string).unwrap_or_default();
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0).to_string();
    let middle = match kind {
        "Pod" => return ps::row_of(object),
        "Service" => vec![or("/spec/type", "ClusterIP"), or("/spec/clusterIP", "None"), ports(object)],
        "Deployment" => vec![
            format!("{}/{}", number("/status/readyReplicas"), object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)),
            number("/status/updatedReplicas"),
            number("/status/availableReplicas"),
        ],
        "ReplicaSet" => vec![number("/spec/replicas"), number("/status/replicas"), number("/status/readyReplicas")],
        "Namespace" => vec![or("/status/phase", "Active")],
        "Node" => vec!["Ready".to_owned()],
        "VirtualService" => vec![list("/spec/gateways"), list("/spec/hosts")],
        "DestinationRule" => vec![at("/spec/host")],
        "ServiceEntry" => vec![list("/spec/hosts"), or("/spec/location", "MESH_EXTERNAL"), or("/spec/resolution", "NONE")],
        "PeerAuthentication" => vec![or("/spec/mtls/mode", "UNSET")],
        "AuthorizationPolicy" => vec![or("/spec/action", "ALLOW")],
        _ => Vec::new(),
    };
    let mut row = vec![at("/metadata/name")];
    row.extend(middle);
    row.push(age::of(object));
    row
}

fn ports(service: &Value) -> String {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let shown: Vec<String> = ports
        .iter()
        .map(|port| {
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
            format!("{}/{protocol}", port.get("port").and_then(Value::as_u64).unwrap_or(0))
        })
        .collect();
    if shown.is_empty() { "<none>".to_owned() } else { shown.join(",") }
}

fn labels(object: &Value) -> String {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let shown: Vec<String> = labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if shown.is_empty() { "<none>".to_owned() } else { shown.join(",") }
}
