//! `lateen up`: starts a mesh.

use std::process::ExitCode;

use anyhow::Result;
use lateen_base::names;
use lateen_local::UpOptions;

use super::Context;
use crate::{args, environment};

/// Entry point. Runs on the process's first thread, outside of any runtime: the sandbox hangs on it.
pub(crate) fn run(context: &Context, flags: args::Up) -> Result<ExitCode> {
    let cert_ttl = flags.cert_ttl.unwrap_or_default();
    if !cert_ttl.is_empty() {
        super::duration("--cert-ttl", &cert_ttl)?;
    }
    let options = UpOptions {
        mesh: context.mesh.clone(),
        state_dir: context.state_dir.clone(),
        paths: flags.paths,
        namespace: flags.namespace.unwrap_or_else(|| names::DEFAULT_NAMESPACE.to_owned()),
        ingress: flags.ingress,
        ingress_tls: flags.ingress_tls,
        dashboard: flags.dashboard,
        detach: flags.detach,
        watch: !flags.no_watch,
        concurrency: flags.concurrency,
        envoy: flags.envoy.map(std::path::absolute).transpose()?,
        cert_ttl,
        environment: environment::all(),
    };
    Ok(lateen_local::up(&options)?)
}
