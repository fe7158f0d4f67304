//! `lateen version`.

use std::process::ExitCode;

use anyhow::Result;

use super::Context;
use crate::args;

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::Version) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    if flags.short {
        println!("{version}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("client version: {version}");
    let client = context.client();
    if flags.remote || client.is_running().await {
        let pods = client.objects("Pod", "", "", "").await?;
        let proxies = pods.iter().filter(|pod| super::proxy_status::is_meshed(pod)).count();
        println!("control plane version: {version}");
        println!("data plane version: {version} ({proxies} proxies)");
    }
    Ok(ExitCode::SUCCESS)
}
