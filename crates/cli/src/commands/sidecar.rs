//! `lateen sidecar`: the agent of one pod with its proxy.
//!
//! - Reads: the environment that injection writes into the container `istio-proxy`; flags for role, image and threads.
//! - Twin: `inject/src/sidecar.rs`, which writes them.
//! - Rule: a variable that cannot be understood stops the start with its name; none is guessed.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use lateen_agent::{AgentOptions, AppMetrics, ProxyProgram, Role};
use serde_json::Value;

use crate::{args, environment};

/// Entry point.
pub(crate) fn run(flags: &args::Sidecar) -> Result<ExitCode> {
    environment::start_log(level(flags.log_level.as_deref().unwrap_or("info")));
    lateen_agent::run(options(flags, &environment::all())?)?;
    Ok(ExitCode::SUCCESS)
}

/// Istio's names of levels; `off` and `none` are silence.
fn level(level: &str) -> &str {
    match level {
        "warning" => "warn",
        "critical" | "fatal" => "error",
        "none" => "off",
        other => other,
    }
}

fn options(flags: &args::Sidecar, variables: &BTreeMap<String, String>) -> Result<AgentOptions> {
    let get = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let need = |name: &str| get(name).cloned().with_context(|| format!("{name} is not set; `lateen sidecar` runs inside an injected pod"));
    let ip: IpAddr = need("INSTANCE_IP")?.parse().context("INSTANCE_IP is no address")?;
    let mut options = AgentOptions::new(need("POD_NAME")?, need("POD_NAMESPACE")?, need("SERVICE_ACCOUNT")?, ip);
    if flags.router {
        options.role = Role::Router;
    }
    if let Some(workload) = get("ISTIO_META_WORKLOAD_NAME") {
        options.workload_name.clone_from(workload);
    }
    if let Some(labels) = get("ISTIO_METAJSON_LABELS") {
        options.labels = serde_json::from_str(labels).context("ISTIO_METAJSON_LABELS is no JSON map of text")?;
    }
    for (name, field) in [("TRUST_DOMAIN", &mut options.trust_domain), ("ISTIO_META_CLUSTER_ID", &mut options.cluster_id), ("ISTIO_META_MESH_ID", &mut options.mesh_id)] {
        if let Some(value) = get(name) {
            field.clone_from(value);
        }
    }
    if let Some(address) = get("CA_ADDR") {
        let (host, port) = address.rsplit_once(':').with_context(|| format!("CA_ADDR `{address}` has no port"))?;
        options.discovery_host = host.to_owned();
        options.discovery_port = port.parse().with_context(|| format!("CA_ADDR `{address}` has no port"))?;
    }
    options.app_probers = get("ISTIO_KUBE_APP_PROBERS").cloned();
    options.app_metrics = get("ISTIO_PROMETHEUS_ANNOTATIONS").map(|text| app_metrics(text)).transpose()?.flatten();
    proxy_config(get("PROXY_CONFIG"), &mut options)?;
    proxy_config(get("PROXY_CONFIG_OVERRIDES"), &mut options)?;
    if let Some(concurrency) = flags.concurrency {
        options.concurrency = concurrency;
    }
    if let Some(ttl) = get("SECRET_TTL") {
        options.certificate_ttl = super::duration("SECRET_TTL", ttl)?;
    }
    options.program = program(flags.proxy_image.as_deref(), get("LATEEN_ENVOY"))?;
    Ok(options)
}

/// A pod whose proxy image is called `envoy…` or `proxyv2` gets the real Envoy of this machine.
fn program(image: Option<&str>, envoy: Option<&String>) -> Result<ProxyProgram> {
    let Some(image) = image else { return Ok(ProxyProgram::Embedded) };
    let last = image.rsplit('/').next().unwrap_or(image);
    if !last.starts_with("envoy") && !last.starts_with("proxyv2") {
        return Ok(ProxyProgram::Embedded);
    }
    match envoy {
        Some(path) => Ok(ProxyProgram::Envoy(PathBuf::from(path))),
        None => bail!("the pod asks for proxy image `{image}`, but no Envoy was named; start the mesh with `lateen up --envoy PATH`"),
    }
}

fn app_metrics(text: &str) -> Result<Option<AppMetrics>> {
    let value: Value = serde_json::from_str(text).context("ISTIO_PROMETHEUS_ANNOTATIONS is no JSON")?;
    let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    if field("scrape") == "false" || field("port").is_empty() {
        return Ok(None);
    }
    let port = field("port").parse().with_context(|| format!("annotation prometheus.io/port `{}` is no port", field("port")))?;
    let path = if field("path").is_empty() { "/metrics" } else { field("path") };
    Ok(Some(AppMetrics { port, path: path.to_owned() }))
}

/// The fields of `ProxyConfig` that the agent acts on; YAML or JSON.
fn proxy_config(text: Option<&String>, options: &mut AgentOptions) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    let value: Value = serde_saphyr::from_str(text).context("PROXY_CONFIG is no YAML")?;
    if let Some(concurrency) = value.get("concurrency").and_then(Value::as_u64) {
        options.concurrency = usize::try_from(concurrency).unwrap_or(0);
    }
    if let Some(drain) = value.get("terminationDrainDuration").and_then(Value::as_str) {
        options.drain = super::duration("proxy.istio.io/config terminationDrainDuration", drain)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> args::Sidecar {
        args::Sidecar { router: false, proxy_image: None, log_level: None, concurrency: None }
    }

    fn variables(more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let base = [("POD_NAME", "web-1"), ("POD_NAMESPACE", "shop"), ("SERVICE_ACCOUNT", "web"), ("INSTANCE_IP", "10.244.0.7"), ("CA_ADDR", "istiod.istio-system.svc:15012")];
        base.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_injected_environment_becomes_options() {
        let options = options(&flags(), &variables(&[("SECRET_TTL", "10s"), ("ISTIO_METAJSON_LABELS", "{\"app\":\"web\"}"), ("PROXY_CONFIG", "{\"concurrency\":3}")])).expect("valid");
        assert_eq!((options.namespace.as_str(), options.concurrency, options.certificate_ttl.as_secs()), ("shop", 3, 10));
        assert_eq!(options.labels.get("app").map(String::as_str), Some("web"));
        assert_eq!((options.discovery_host.as_str(), options.discovery_port), ("istiod.istio-system.svc", 15012));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = options(&flags(), &BTreeMap::new()).expect_err("refused").to_string();
        assert!(error.contains("INSTANCE_IP"), "{error}");
    }

    #[test]
    fn an_envoy_image_needs_an_envoy() {
        assert!(program(Some("docker.io/envoyproxy/envoy:v1.40"), None).is_err());
        assert_eq!(program(Some("istio/proxyv2:1.30"), Some(&"/usr/bin/envoy".to_owned())).expect("valid"), ProxyProgram::Envoy("/usr/bin/envoy".into()));
        assert_eq!(program(Some("lateen/lateen"), None).expect("valid"), ProxyProgram::Embedded);
    }
}
