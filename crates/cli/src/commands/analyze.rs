//! `lateen analyze`: files, or the running mesh, among all their objects.
//!
//! - Reads: files through `source`, or every object of the store.
//! - Rule: output and exit code are istioctl's: one line a message, 79 where one reaches the threshold.

use std::process::ExitCode;

use anyhow::{Result, bail};
use lateen_base::{Finding, Findings, Severity, labels, names, ports};
use lateen_source::{Load, SnapshotBuilder};
use serde_json::{Value, json};

use super::{Context, EXIT_FINDINGS, validate};
use crate::{
    args::{self, AnalyzeFormat, Threshold},
    environment,
    output::{self, findings},
    resource::RESOURCES,
};

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::Analyze) -> Result<ExitCode> {
    let namespace = super::namespace(flags.namespace.as_ref());
    let load = if flags.paths.is_empty() { Load::default() } else { validate::read(&flags.paths, namespace)? };
    let objects = if flags.paths.is_empty() || flags.use_kube { live(context).await? } else { built_in() };
    let mut found = analyze(&objects, &load);
    validate::locate(&mut found, &load);
    let suppressed = suppressions(&flags.suppress)?;
    let shown_from = severity(flags.output_threshold);
    let whole_mesh = flags.all_namespaces || (!flags.paths.is_empty() && flags.namespace.is_none());
    found.retain(|finding| finding.severity >= shown_from && !suppressed.iter().any(|rule| rule.matches(finding)) && (whole_mesh || concerns(finding, namespace)));
    print(&found, &load, flags, namespace)?;
    let fails = found.iter().any(|finding| finding.severity >= severity(flags.failure_threshold));
    Ok(if fails { ExitCode::from(EXIT_FINDINGS) } else { ExitCode::SUCCESS })
}

/// All findings about the store's objects with the files' laid over them.
fn analyze(store: &[Value], load: &Load) -> Findings {
    let mut found = load.findings.clone();
    let mut builder = SnapshotBuilder::default();
    for object in store.iter().chain(load.objects.iter().map(|loaded| &loaded.object)) {
        // What is refused here was already reported by the load, or by the store when it came.
        let _ = builder.apply(&lateen_source::Event::Upsert(object.clone()));
    }
    found.extend(lateen_kinds::analyze(&builder.build()));
    found
}

async fn live(context: &Context) -> Result<Vec<Value>> {
    let client = context.client();
    let mut objects = Vec::new();
    for resource in RESOURCES {
        objects.extend(client.objects(resource.kind, "", "", "").await?);
    }
    Ok(objects)
}

/// What every mesh has besides the files: the ingress gateway's pod, which Gateways select.
fn built_in() -> Vec<Value> {
    let gateway = names::INGRESS_GATEWAY;
    let labels = json!({labels::APP: gateway, labels::GATEWAY: labels::GATEWAY_INGRESS});
    let container = json!({"name": names::PROXY_CONTAINER, "image": "auto"});
    vec![json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": gateway, "namespace": names::ROOT_NAMESPACE, "labels": labels},
        "spec": {"containers": [container]},
        "status": {"phase": "Running", "podIP": ports::BRIDGE_ADDRESS.to_string(), "conditions": [{"type": "Ready", "status": "True"}]},
    })]
}

/// Whether a finding is about the namespace or about the whole mesh.
fn concerns(finding: &Finding, namespace: &str) -> bool {
    let name = finding.object.split_once(' ').map_or("", |(_, name)| name);
    match name.split_once('/') {
        Some((of, _)) => of == namespace,
        None => name.is_empty() || name == namespace || !finding.object.starts_with("Namespace "),
    }
}

struct Suppression {
    code: String,
    object: String,
}

impl Suppression {
    fn matches(&self, finding: &Finding) -> bool {
        let object = finding.object.as_str();
        let fits = match self.object.strip_suffix('*') {
            Some(prefix) => object.starts_with(prefix),
            None => object == self.object || object.split_once(' ').is_some_and(|(kind, name)| format!("{kind} {}", swap(name)) == self.object),
        };
        self.code == finding.code.as_str() && fits
    }
}

/// istioctl writes `NAME.NAMESPACE` where findings say `NAMESPACE/NAME`.
fn swap(name: &str) -> String {
    name.split_once('/').map_or_else(|| name.to_owned(), |(namespace, name)| format!("{name}.{namespace}"))
}

fn suppressions(words: &[String]) -> Result<Vec<Suppression>> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((code, object)) => Ok(Suppression { code: code.to_owned(), object: object.to_owned() }),
            None => bail!("--suppress `{word}`: write CODE=OBJECT, such as IST0102=Namespace default or IST0118=*"),
        })
        .collect()
}

fn severity(threshold: Threshold) -> Severity {
    match threshold {
        Threshold::Info => Severity::Info,
        Threshold::Warning => Severity::Warning,
        Threshold::Error => Severity::Error,
    }
}

fn print(found: &[Finding], load: &Load, flags: &args::Analyze, namespace: &str) -> Result<()> {
    match flags.output {
        AnalyzeFormat::Log if found.is_empty() => {
            let place = match flags.paths.as_slice() {
                [] if flags.all_namespaces => "all namespaces".to_owned(),
                [] => format!("namespace: {namespace}"),
                paths => paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
            };
            eprintln!("\u{2714} No validation issues found when analyzing {place}.");
        }
        AnalyzeFormat::Log => crate::output::text(format_args!("{}", findings::render(found, &load.texts, environment::colour()))),
        AnalyzeFormat::Json => crate::output::line(format_args!("{}", serde_json::to_string_pretty(&list(found))?)),
        AnalyzeFormat::Yaml => crate::output::text(format_args!("{}", output::yaml(&list(found))?)),
    }
    Ok(())
}

fn list(found: &[Finding]) -> Value {
    let one = |finding: &Finding| {
        let mut value = json!({
            "code": finding.code.as_str(),
            "level": finding.severity.to_string(),
            "message": if finding.remedy.is_empty() { finding.message.clone() } else { format!("{}; {}", finding.message, finding.remedy) },
            "origin": finding.object.split_once(' ').map_or_else(|| finding.object.clone(), |(kind, name)| format!("{kind} {}", swap(name))),
        });
        if let (Some(location), Value::Object(map)) = (&finding.location, &mut value) {
            map.insert("reference".to_owned(), json!(location.to_string()));
        }
        if let (true, Value::Object(map)) = (finding.code.as_str().starts_with("IST"), &mut value) {
            let url = format!("https://istio.io/latest/docs/reference/config/analysis/{}/", finding.code.as_str().to_lowercase());
            map.insert("documentationUrl".to_owned(), json!(url));
        }
        value
    };
    Value::Array(found.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_base::Code;

    #[test]
    fn suppression_takes_both_names_and_stars() {
        let finding = Finding::new(Code::NamespaceNotInjected, "x").with_object("VirtualService default/a");
        for (word, expected) in [("IST0102=VirtualService a.default", true), ("IST0102=*", true), ("IST0101=*", false), ("IST0102=VirtualService b.default", false)] {
            let rules = suppressions(&[word.to_owned()]).expect("valid");
            assert_eq!(rules[0].matches(&finding), expected, "{word}");
        }
    }

    #[test]
    fn a_missing_host_is_found_at_its_line() {
        let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: a\nspec:\n  hosts: [a]\n  http:\n  - route:\n    - destination:\n        host: a\n";
        let load = lateen_source::load_text(text, "a.yaml");
        let mut found = analyze(&[], &load);
        validate::locate(&mut found, &load);
        let missing = found.iter().find(|finding| finding.code == Code::ReferencedResourceNotFound);
        let place = missing.and_then(|finding| finding.location.as_ref()).map(|location| (location.line, location.column));
        assert_eq!(place, Some((10, 15)), "{found:?}");
    }
}
