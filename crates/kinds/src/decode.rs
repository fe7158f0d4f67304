//! From a JSON object to a typed one, strictly, with the path of whatever is wrong.
//!
//! - Reads: Kubernetes-style JSON objects, from files (`source`) or from the store.
//! - Rule: null means absent, as in the Kubernetes API. Unknown fields, wrong types and unknown words are findings that name the path.
//! - Not here: whether the values make sense (`Kind::validate`).

use lateen_base::{Code, Finding, Location, annotations};
use lateen_kube_api::ObjectMeta;
use lateen_mesh::{Meta, Object};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::kind::{Body, Kind};

/// Reads `value` as an object of kind `K`.
///
/// # Errors
/// One finding, with the path of the first field that does not fit.
pub fn decode<K: Kind>(value: &Value) -> Result<Object<K::Spec>, Box<Finding>> {
    let name = object_name(value);
    let source = value.pointer("/metadata/annotations").and_then(|all| all.get(annotations::SOURCE)).and_then(Value::as_str).and_then(location);
    let fail = |finding: Box<Finding>| {
        let finding = finding.with_object(&name);
        Box::new(match &source {
            Some(location) => finding.with_location(location.clone()),
            None => finding,
        })
    };
    let Value::Object(fields) = value else {
        let finding = Finding::new(Code::InvalidValue, "an object must be a mapping");
        return Err(fail(Box::new(finding.with_remedy("start the document with apiVersion and kind"))));
    };
    let meta = meta(K::GVK.api_version(), K::GVK.kind, fields).map_err(fail)?;
    let spec = match K::BODY {
        Body::Whole => typed(value, "").map_err(fail)?,
        Body::Spec => {
            only_known(fields).map_err(fail)?;
            let empty = Value::Object(Map::new());
            typed(fields.get("spec").filter(|spec| !spec.is_null()).unwrap_or(&empty), "spec").map_err(fail)?
        }
    };
    Ok(Object::new(meta, spec))
}

/// `Kind namespace/name` of a JSON object, as far as it says.
#[must_use]
pub fn object_name(value: &Value) -> String {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, namespace, name) = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

/// Reads `value`, which stands at `path`, as a `T`.
///
/// # Errors
/// One finding, with the path of the first field that does not fit, and the nearest known name for an unknown field.
pub fn typed<T: DeserializeOwned>(value: &Value, path: &str) -> Result<T, Box<Finding>> {
    serde_path_to_error::deserialize(without_nulls(value)).map_err(|error| {
        let inner = error.path().to_string();
        let message = error.inner().to_string();
        Box::new(explain(&join(path, &inner), &message))
    })
}

fn join(path: &str, inner: &str) -> String {
    match (path, inner) {
        (_, "." | "") => path.to_owned(),
        ("", _) => inner.to_owned(),
        (_, _) if inner.starts_with('[') => format!("{path}{inner}"),
        (_, _) => format!("{path}.{inner}"),
    }
}

/// Serde's `message` about the field at `path`, as a finding with a remedy.
#[must_use]
pub fn explain(path: &str, message: &str) -> Finding {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (field, rest) = rest.split_once('`').unwrap_or((rest, ""));
        return unknown_field(path, field, &names_in_backticks(rest));
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let (word, rest) = rest.split_once('`').unwrap_or((rest, ""));
        let known = names_in_backticks(rest);
        return Finding::new(Code::InvalidValue, format!("unknown value \"{word}\"")).with_path(path).with_remedy(one_of(word, &known));
    }
    Finding::new(Code::InvalidValue, message.to_owned()).with_path(path).with_remedy("write a value of the type that the field takes")
}

/// A finding about a field that does not exist; `known` are those that do.
fn unknown_field(path: &str, field: &str, known: &[&str]) -> Finding {
    let path = if path.rsplit('.').next() == Some(field) { path.to_owned() } else { join(path, field) };
    let remedy = if known.is_empty() { "remove it".to_owned() } else { one_of(field, known) };
    Finding::new(Code::UnknownField, format!("unknown field \"{field}\"")).with_path(path).with_remedy(remedy)
}

fn one_of(word: &str, known: &[&str]) -> String {
    let near = known.iter().map(|name| (strsim::damerau_levenshtein(&word.to_lowercase(), &name.to_lowercase()), name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + word.len() / 3 => format!("did you mean \"{name}\"?"),
        _ => format!("use one of: {}", known.join(", ")),
    }
}

fn names_in_backticks(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Istio objects have four fields at the top.
fn only_known(fields: &Map<String, Value>) -> Result<(), Box<Finding>> {
    const KNOWN: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    match fields.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        Some(key) => Err(Box::new(unknown_field("", key, &KNOWN))),
        None => Ok(()),
    }
}

fn meta(api_version: String, kind: &str, fields: &Map<String, Value>) -> Result<Meta, Box<Finding>> {
    let metadata: ObjectMeta = match fields.get("metadata") {
        Some(value) => typed(value, "metadata")?,
        None => ObjectMeta::default(),
    };
    if metadata.name.is_empty() {
        let finding = Finding::new(Code::InvalidValue, "the object has no name");
        return Err(Box::new(finding.with_path("metadata.name").with_remedy("add metadata.name")));
    }
    let owner = metadata.owner_references.iter().find(|owner| owner.controller == Some(true)).or(metadata.owner_references.first());
    Ok(Meta {
        api_version,
        kind: kind.to_owned(),
        owner: owner.map(|owner| (owner.kind.clone(), owner.name.clone())),
        location: metadata.annotations.get(annotations::SOURCE).and_then(|text| location(text)),
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        generation: metadata.generation.unwrap_or_default(),
        creation_timestamp: metadata.creation_timestamp.unwrap_or_default(),
        deletion_timestamp: metadata.deletion_timestamp,
        labels: metadata.labels,
        annotations: metadata.annotations,
    })
}

/// Reads `file:line`, as the source annotation has it.
fn location(text: &str) -> Option<Location> {
    let (file, line) = text.rsplit_once(':')?;
    Some(Location { file: file.to_owned(), line: line.parse().ok()?, column: 0 })
}

/// A copy without null fields; nulls inside lists stay.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_istio_api as istio;
    use serde_json::json;

    fn error(spec: Value) -> Finding {
        *typed::<istio::VirtualService>(&spec, "spec").unwrap_err()
    }

    #[test]
    fn an_unknown_field_gets_the_nearest_name() {
        let finding = error(json!({"http": [{"route": [{"destination": {"host": "a", "subsett": "v1"}}]}]}));
        assert_eq!(finding.code, Code::UnknownField);
        assert_eq!(finding.path, "spec.http[0].route[0].destination.subsett");
        assert_eq!(finding.remedy, "did you mean \"subset\"?");
    }

    #[test]
    fn a_wrong_type_names_the_path() {
        let finding = error(json!({"http": [{"route": [{"destination": {"host": "a"}, "weight": "many"}]}]}));
        assert_eq!(finding.path, "spec.http[0].route[0].weight");
        assert!(finding.message.contains("expected a 32-bit whole number"), "{finding}");
    }

    #[test]
    fn a_bad_duration_names_the_path_and_the_form() {
        let finding = error(json!({"http": [{"timeout": "5"}]}));
        assert_eq!(finding.path, "spec.http[0].timeout");
        assert!(finding.message.contains("such as 500ms"), "{finding}");
    }

    #[test]
    fn an_unknown_word_gets_the_nearest_one() {
        let finding = typed::<istio::PeerAuthentication>(&json!({"mtls": {"mode": "STRIKT"}}), "spec").unwrap_err();
        assert_eq!((finding.path.as_str(), finding.remedy.as_str()), ("spec.mtls.mode", "did you mean \"STRICT\"?"));
    }

    #[test]
    fn null_means_absent() {
        assert!(typed::<istio::VirtualService>(&json!({"http": null, "hosts": ["a"]}), "spec").is_ok());
    }
}
