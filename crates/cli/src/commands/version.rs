//! `lateen version`.

use std::process::ExitCode;

use anyhow::Result;

use super::Context;
use crate::args;

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::Version) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    if flags.short {
        crate::output::line(format_args!("{version}"));
        return Ok(ExitCode::SUCCESS);
    }
    crate::output::line(format_args!("client version: {version}"));
    let client = context.client();
    if flags.remote || client.is_running().await {
        let pods = client.objects("Pod", "", "", "").await?;
        let proxies = pods.iter().filter(|pod| super::proxy_status::is_meshed(pod)).count();
        crate::output::line(format_args!("control plane version: {version}"));
        crate::output::line(format_args!("data plane version: {version} ({proxies} proxies)"));
    }
    Ok(ExitCode::SUCCESS)
}
