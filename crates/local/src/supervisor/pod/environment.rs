//! A container's environment, command and arguments.
//!
//! - Reads: `env`, `envFrom`, `command`, `args`, ConfigMaps, Secrets, the downward API.
//! - Rule: pure over the objects it is given.
//! - Source: Kubernetes' «Define Dependent Environment Variables»: `$(NAME)` refers to what was defined before, `$$(` is a literal `$(`.
//! - Limits: `resourceFieldRef` is refused: nothing limits resources here.

use crate::options::Hooks;
use lateen_base::{Code, Finding, names};
use lateen_inject::sidecar::OWN_IMAGE;
use lateen_kube_api::{Container, EnvFromSource, EnvVarSource, Pod};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Where values come from.
pub(crate) struct Sources<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Keys and values of a ConfigMap in the pod's namespace; `None` when there is none.
    pub config_map: &'a dyn Fn(&str) -> Option<BTreeMap<String, Vec<u8>>>,
    /// Keys and values of a Secret, likewise.
    pub secret: &'a dyn Fn(&str) -> Option<BTreeMap<String, Vec<u8>>>,
}

/// The variables a container declares, in order; a later one replaces an earlier one of its name.
///
/// # Errors
/// What is missing, in words.
pub(crate) fn variables(container: &Container, sources: &Sources<'_>) -> Result<Vec<(String, String)>, String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for source in &container.env_from {
        for (name, value) in whole(source, sources)? {
            set(&mut variables, format!("{}{name}", source.prefix), text(value));
        }
    }
    for variable in &container.env {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &variables)),
            (None, Some(from)) => referred(from, sources)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut variables, variable.name.clone(), value);
        }
    }
    Ok(variables)
}

fn set(variables: &mut Vec<(String, String)>, name: String, value: String) {
    variables.retain(|(known, _)| *known != name);
    variables.push((name, value));
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn whole(source: &EnvFromSource, sources: &Sources<'_>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let (kind, reference, find) = match (&source.config_map_ref, &source.secret_ref) {
        (Some(reference), _) => ("ConfigMap", reference, sources.config_map),
        (None, Some(reference)) => ("Secret", reference, sources.secret),
        (None, None) => return Ok(BTreeMap::new()),
    };
    match find(&reference.name) {
        Some(values) => Ok(values),
        None if reference.optional == Some(true) => Ok(BTreeMap::new()),
        None => Err(format!("{kind} {} not found", reference.name)),
    }
}

fn referred(from: &EnvVarSource, sources: &Sources<'_>) -> Result<Option<String>, String> {
    if let Some(field) = &from.field_ref {
        return field_value(&field.field_path, sources.pod, sources.ip).map(Some);
    }
    let (kind, selector, find) = match (&from.config_map_key_ref, &from.secret_key_ref) {
        (Some(selector), _) => ("ConfigMap", selector, sources.config_map),
        (None, Some(selector)) => ("Secret", selector, sources.secret),
        (None, None) => return Err("valueFrom names a source that cannot be read here; use fieldRef, configMapKeyRef or secretKeyRef".into()),
    };
    match find(&selector.name).map(|mut values| values.remove(&selector.key)) {
        Some(Some(value)) => Ok(Some(text(value))),
        _ if selector.optional == Some(true) => Ok(None),
        Some(None) => Err(format!("{kind} {} has no key {}", selector.name, selector.key)),
        None => Err(format!("{kind} {} not found", selector.name)),
    }
}

/// A field of the pod by its path.
///
/// # Errors
/// When the path is not one of the downward API.
pub(crate) fn field_value(path: &str, pod: &Pod, ip: Ipv4Addr) -> Result<String, String> {
    let metadata = &pod.metadata;
    let keyed = |prefix: &str, map: &BTreeMap<String, String>| {
        let key = path.strip_prefix(prefix)?.strip_suffix("']")?;
        Some(map.get(key).cloned().unwrap_or_default())
    };
    Ok(match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => lines(&metadata.labels),
        "metadata.annotations" => lines(&metadata.annotations),
        "spec.nodeName" => NODE_NAME.into(),
        "spec.serviceAccountName" => service_account(pod).to_owned(),
        "status.podIP" | "status.podIPs" => ip.to_string(),
        "status.hostIP" | "status.hostIPs" => lateen_base::ports::BRIDGE_ADDRESS.to_string(),
        _ => keyed("metadata.labels['", &metadata.labels)
            .or_else(|| keyed("metadata.annotations['", &metadata.annotations))
            .ok_or_else(|| format!("fieldPath {path} is not a field of the downward API"))?,
    })
}

fn lines(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}

/// The pod's service account.
pub(crate) fn service_account(pod: &Pod) -> &str {
    let named = [&pod.spec.service_account_name, &pod.spec.service_account];
    named.into_iter().find(|name| !name.is_empty()).map_or(names::DEFAULT_SERVICE_ACCOUNT, String::as_str)
}

/// Name of the only node.
pub(crate) const NODE_NAME: &str = "lateen";

/// Replaces `$(NAME)` by the value of a known variable; unknown names stay as they are.
fn expand(template: &str, variables: &[(String, String)]) -> String {
    let mut output = String::new();
    let mut rest = template;
    while let Some(start) = rest.find('$') {
        let (before, tail) = rest.split_at(start);
        output.push_str(before);
        let reference = tail.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        if let Some(escaped) = tail.strip_prefix("$$") {
            output.push('$');
            rest = escaped;
        } else if let Some((name, after)) = reference {
            match variables.iter().find(|(known, _)| known == name) {
                Some((_, value)) => output.push_str(value),
                None => output.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            output.push('$');
            rest = tail.get(1..).unwrap_or_default();
        }
    }
    output.push_str(rest);
    output
}

/// What is executed for a container: program and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// This binary with these arguments.
    Own(Vec<String>),
    /// A program of the machine.
    Machine(Vec<String>),
}

/// Chooses the program of a container.
///
/// # Errors
/// A finding for an image without a command and without a stand-in.
pub(crate) fn program(container: &Container, variables: &[(String, String)], hooks: &Hooks) -> Result<Program, Finding> {
    let expanded = |words: &[String]| words.iter().map(|word| expand(word, variables)).collect::<Vec<_>>();
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    if container.image == OWN_IMAGE || container.name == names::PROXY_CONTAINER {
        return Ok(Program::Own(args));
    }
    if let Some(stand_in) = (hooks.image)(&container.image, &command, &args) {
        return Ok(Program::Own(std::iter::once("app".to_owned()).chain(stand_in).collect()));
    }
    if command.is_empty() {
        return Err(unknown_image(container));
    }
    Ok(Program::Machine([command, args].concat()))
}

fn unknown_image(container: &Container) -> Finding {
    let image = if container.image.is_empty() { "no image" } else { &container.image };
    Finding::new(Code::UnknownImage, format!("container {}: {image} has no built-in stand-in, and there is no command", container.name))
        .with_path(format!("spec.containers[{}].image", container.name))
        .with_remedy("add `command:` with a program of this machine, or use an image of the list in docs/images.md, such as hashicorp/http-echo")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(container: serde_json::Value) -> Result<Vec<(String, String)>, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}}})).unwrap();
        let config = |name: &str| (name == "settings").then(|| BTreeMap::from([("LEVEL".to_owned(), b"info".to_vec())]));
        let sources = Sources { pod: &pod, ip: Ipv4Addr::new(10, 244, 0, 9), config_map: &config, secret: &|_| None };
        variables(&serde_json::from_value(container).unwrap(), &sources)
    }

    fn value(container: serde_json::Value, name: &str) -> String {
        run(container).unwrap().into_iter().find(|(known, _)| known == name).unwrap().1
    }

    #[test]
    fn a_variable_refers_to_earlier_ones_only() {
        let container = json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(C)-$$(A)-$x"}, {"name": "C", "value": "3"}]});
        assert_eq!(value(container, "B"), "1-$(C)-$(A)-$x");
    }

    #[test]
    fn the_downward_api_knows_the_pod() {
        let field = |path: &str| json!({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}]});
        assert_eq!(value(field("status.podIP"), "X"), "10.244.0.9");
        assert_eq!(value(field("metadata.labels['app']"), "X"), "web");
        assert_eq!(value(field("spec.serviceAccountName"), "X"), "default");
        assert!(run(field("spec.colour")).unwrap_err().contains("spec.colour"));
    }

    #[test]
    fn a_missing_config_map_is_named_unless_it_is_optional() {
        assert_eq!(run(json!({"envFrom": [{"configMapRef": {"name": "nope"}}]})).unwrap_err(), "ConfigMap nope not found");
        assert!(run(json!({"envFrom": [{"configMapRef": {"name": "nope", "optional": true}}]})).unwrap().is_empty());
        assert_eq!(value(json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}]}), "P_LEVEL"), "info");
    }

    fn chosen(container: serde_json::Value) -> Result<Program, Finding> {
        let hooks = Hooks { image: |image, _, args| (image == "hashicorp/http-echo").then(|| [&["http-echo".to_owned()], args].concat()), programs: &[] };
        program(&serde_json::from_value(container).unwrap(), &[("PORT".into(), "80".into())], &hooks)
    }

    #[test]
    fn a_known_image_is_stood_in_for() {
        let own = Program::Own(vec!["app".into(), "http-echo".into(), "-port=80".into()]);
        assert_eq!(chosen(json!({"image": "hashicorp/http-echo", "args": ["-port=$(PORT)"]})).unwrap(), own);
    }

    #[test]
    fn a_command_runs_on_the_machine() {
        assert_eq!(chosen(json!({"image": "x", "command": ["sleep"], "args": ["1"]})).unwrap(), Program::Machine(vec!["sleep".into(), "1".into()]));
    }

    #[test]
    fn an_unknown_image_without_command_is_refused_by_name() {
        let text = chosen(json!({"name": "shop", "image": "example.com/shop:1"})).unwrap_err().to_string();
        assert!(text.contains("example.com/shop:1") && text.contains("command"), "{text}");
    }
}
