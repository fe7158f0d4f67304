//! `lateen delete`: objects by file, or by kind and name.

use std::process::ExitCode;

use anyhow::{Result, bail};
use http::Method;
use serde_json::{Value, json};

use super::{Context, apply, namespace};
use crate::{args, client::text, resource};

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::Delete) -> Result<ExitCode> {
    let namespace = namespace(flags.namespace.as_ref());
    let mut references = named(&flags.objects, namespace)?;
    if !flags.files.is_empty() {
        let Some(objects) = apply::objects(&flags.files, namespace)? else { return Ok(ExitCode::FAILURE) };
        references.extend(objects.iter().map(|object| {
            json!({
                "apiVersion": text(object, "/apiVersion"), "kind": text(object, "/kind"),
                "namespace": text(object, "/metadata/namespace"), "name": text(object, "/metadata/name"),
            })
        }));
    }
    let answer = context.client().ask(Method::POST, "/delete", Some(&Value::Array(references))).await?;
    if !answer.status.is_success() {
        bail!("{}", answer.text());
    }
    let mut missing = false;
    for result in answer.value.get("results").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let api_version = result.get("apiVersion").and_then(Value::as_str);
        let (kind, name) = (text(result, "/kind"), text(result, "/name"));
        if text(result, "/outcome") == "deleted" {
            let shown = resource::display(kind, api_version, name);
            let (kind, name) = shown.split_once('/').unwrap_or((&shown, ""));
            crate::output::line(format_args!("{kind} \"{name}\" deleted"));
        } else if !flags.ignore_not_found {
            eprintln!("Error from server (NotFound): {} not found", resource::display(kind, api_version, name));
            missing = true;
        }
    }
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `KIND NAME NAME` or `KIND/NAME KIND/NAME`.
fn named(words: &[String], namespace: &str) -> Result<Vec<Value>> {
    let reference = |kind: &str, name: &str| {
        let Some(resource) = resource::find(kind) else { bail!("unknown kind `{kind}`; try one such as pod, service, deployment, virtualservice") };
        let namespace = if resource.namespaced { namespace } else { "" };
        Ok(json!({"apiVersion": resource.api_version(), "kind": resource.kind, "namespace": namespace, "name": name}))
    };
    match words {
        [] => Ok(Vec::new()),
        words if words.iter().all(|word| word.contains('/')) => {
            words.iter().filter_map(|word| word.split_once('/')).map(|(kind, name)| reference(kind, name)).collect()
        }
        [kind] => bail!("`{kind}` alone names nothing; give a name too: lateen delete {kind} NAME"),
        [kind, names @ ..] => names.iter().map(|name| reference(kind, name)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_name_objects() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(named(&words("vs a b"), "x").expect("valid").len(), 2);
        assert_eq!(named(&words("pod/a svc/b"), "x").expect("valid")[1]["kind"], "Service");
        assert!(named(&words("vs"), "x").is_err());
        assert!(named(&words("frob a"), "x").is_err());
    }
}
