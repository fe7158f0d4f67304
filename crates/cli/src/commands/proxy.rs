//! `lateen proxy`: the proxy alone, from an Envoy bootstrap file.
//!
//! - Reads: the file of `-c`, with the text of `--config-yaml` laid over it; Envoy's flags.
//! - Rule: `--mode validate` reads the bootstrap, prints one line and ends; nothing listens.
//! - Rule: with neither `--concurrency` nor 0 given there is one worker per core, as with Envoy.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use lateen_proxy::{ProxyOptions, bootstrap::Bootstrap};
use serde_json::Value;

use crate::{args, environment};

/// Entry point.
pub(crate) fn run(flags: args::Proxy) -> Result<ExitCode> {
    environment::start_log(level(flags.log_level.as_deref().unwrap_or("info")));
    let mut bootstrap = bootstrap(&flags)?;
    if flags.service_node.is_some() || flags.service_cluster.is_some() {
        let node = bootstrap.message.node.get_or_insert_default();
        if let Some(id) = flags.service_node {
            node.id = id;
        }
        if let Some(cluster) = flags.service_cluster {
            node.cluster = cluster;
        }
    }
    match flags.mode.as_str() {
        "serve" => {}
        "validate" => {
            let file = flags.config_path.map_or_else(|| "--config-yaml".to_owned(), |path| path.display().to_string());
            crate::output::line(format_args!("configuration '{file}' OK"));
            return Ok(ExitCode::SUCCESS);
        }
        other => bail!("--mode {other}: there are `serve` and `validate`"),
    }
    let mut options = ProxyOptions::new(bootstrap);
    options.concurrency = match flags.concurrency {
        Some(given) if given > 0 => usize::try_from(given)?,
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    };
    if let Some(seconds) = flags.drain_time_s {
        options.drain_time = Duration::from_secs(seconds);
    }
    let running = lateen_proxy::run(options)?;
    for (name, address) in running.listening() {
        tracing::info!(%name, %address, "listening");
    }
    running.wait();
    Ok(ExitCode::SUCCESS)
}

/// Envoy's names of levels.
fn level(level: &str) -> &str {
    match level {
        "warning" => "warn",
        "critical" => "error",
        other => other,
    }
}

fn bootstrap(flags: &args::Proxy) -> Result<Bootstrap> {
    match (&flags.config_path, &flags.config_yaml) {
        (Some(path), None) => Ok(Bootstrap::from_file(path)?),
        (None, Some(text)) => Ok(Bootstrap::from_text(text)?),
        (Some(path), Some(over)) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut value: Value = serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", path.display()))?;
            lay_over(&mut value, serde_saphyr::from_str(over).context("--config-yaml is no YAML")?);
            Ok(Bootstrap::from_text(&value.to_string())?)
        }
        (None, None) => bail!("a bootstrap is needed: -c FILE or --config-yaml TEXT"),
    }
}

/// Protobuf's merge: messages field by field, lists appended, other values replaced.
fn lay_over(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(old) => lay_over(old, value),
                    None => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(base), Value::Array(over)) => base.extend(over),
        (base, over) => *base = over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn later_yaml_is_merged_as_protobuf_merges() {
        let mut base = json!({"admin": {"port": 1, "path": "x"}, "list": [1]});
        lay_over(&mut base, json!({"admin": {"port": 2}, "list": [2], "new": true}));
        assert_eq!(base, json!({"admin": {"port": 2, "path": "x"}, "list": [1, 2], "new": true}));
    }
}
