//! `lateen apply -f`: objects from files into the running mesh.
//!
//! - Rule: all or nothing: with one bad object none is applied.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use http::Method;
use lateen_base::Finding;
use serde_json::Value;

use super::{Context, namespace, validate};
use crate::{
    args,
    client::text,
    environment,
    output::findings,
    resource,
};

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::Apply) -> Result<ExitCode> {
    let Some(objects) = objects(&flags.files, namespace(flags.namespace.as_ref()))? else { return Ok(ExitCode::FAILURE) };
    let answer = context.client().ask(Method::POST, "/apply", Some(&Value::Array(objects))).await?;
    let found: Vec<Finding> = answer.value.get("findings").cloned().map(serde_json::from_value).transpose()?.unwrap_or_default();
    findings::eprint(&found, &findings::Texts::new(), environment::colour());
    if !answer.status.is_success() {
        if found.is_empty() {
            bail!("{}", answer.text());
        }
        return Ok(ExitCode::FAILURE);
    }
    for result in answer.value.get("results").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let api_version = result.get("apiVersion").and_then(Value::as_str);
        crate::output::line(format_args!("{} {}", resource::display(text(result, "/kind"), api_version, text(result, "/name")), text(result, "/outcome")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads files into objects; errors are printed and give `None`.
pub(crate) fn objects(files: &[PathBuf], namespace: &str) -> Result<Option<Vec<Value>>> {
    let read = validate::read(files, namespace)?;
    findings::eprint(&read.findings, &read.texts, environment::colour());
    if read.has_errors() { Ok(None) } else { Ok(Some(read.objects.into_iter().map(|loaded| loaded.object).collect())) }
}
