//! `lateen validate -f`: files against the schemas alone; and reading files, for every command that takes `-f`.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use lateen_base::{Finding, names};
use lateen_source::{Load, Loaded, yaml::PlaceOf};
use serde_json::Value;

use crate::{args, environment, output::findings};

/// Name of standard input in messages.
const STDIN: &str = "<stdin>";

/// Entry point.
pub(crate) fn run(flags: &args::Validate) -> Result<ExitCode> {
    let mut failed = false;
    for file in &flags.files {
        let read = read(std::slice::from_ref(file), names::DEFAULT_NAMESPACE)?;
        findings::eprint(&read.findings, &read.texts, environment::colour());
        if read.has_errors() {
            let errors = read.findings.iter().filter(|finding| finding.is_error()).count();
            eprintln!("error: {errors} error{} in \"{}\"", if errors == 1 { "" } else { "s" }, file.display());
            failed = true;
        } else {
            crate::output::line(format_args!("\"{}\" is valid", file.display()));
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads files, folders and standard input (`-`); objects that name no namespace go to `namespace`.
pub(crate) fn read(files: &[PathBuf], namespace: &str) -> Result<Load> {
    let (stdin, paths): (Vec<PathBuf>, Vec<PathBuf>) = files.iter().cloned().partition(|file| file == Path::new("-"));
    let mut load = if paths.is_empty() { Load::default() } else { lateen_source::load(&paths) };
    if !stdin.is_empty() {
        let mut text = String::new();
        // One byte more than is allowed, so that a longer input is seen to be too long.
        let limit = u64::try_from(lateen_source::files::FILE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
        std::io::stdin().take(limit).read_to_string(&mut text).context("cannot read standard input; is it text?")?;
        let more = lateen_source::load_text(&text, STDIN);
        load.objects.extend(more.objects);
        load.findings.extend(more.findings);
        load.texts.extend(more.texts);
    }
    if namespace != names::DEFAULT_NAMESPACE {
        load.objects.iter_mut().for_each(|loaded| default_namespace(loaded, namespace));
    }
    Ok(load)
}

/// Moves an object whose document names no namespace.
fn default_namespace(loaded: &mut Loaded, namespace: &str) {
    // A path that is not there is located at its parent.
    let written = loaded.locate("metadata.namespace", PlaceOf::Value) != loaded.locate("metadata", PlaceOf::Value);
    if !written
        && let Some(place) = loaded.object.pointer_mut("/metadata/namespace")
    {
        *place = Value::String(namespace.to_owned());
    }
}

/// Gives findings about objects of `load` that know at most their object's place the place of their field.
pub(crate) fn locate(found: &mut [Finding], load: &Load) {
    for finding in found.iter_mut().filter(|finding| finding.location.as_ref().is_none_or(|location| location.column == 0)) {
        if let Some(loaded) = load.objects.iter().find(|loaded| lateen_kinds::decode::object_name(&loaded.object) == finding.object) {
            finding.location = Some(if finding.path.is_empty() { loaded.location.clone() } else { loaded.locate(&finding.path, PlaceOf::Value) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_without_a_namespace_are_moved() {
        let text = |namespace: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n{namespace}");
        for (written, expected) in [("", "shop"), ("  namespace: default\n", "default")] {
            let mut load = lateen_source::load_text(&text(written), "a.yaml");
            load.objects.iter_mut().for_each(|loaded| default_namespace(loaded, "shop"));
            assert_eq!(load.objects[0].object["metadata"]["namespace"], expected);
        }
    }
}
