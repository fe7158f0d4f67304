//! `lateen dashboard`: the live page's address.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use super::Context;
use crate::{args, client::text, environment};

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::Dashboard) -> Result<ExitCode> {
    let info = context.client().get("/info").await?;
    let url = text(&info, "/dashboard");
    crate::output::line(format_args!("{url}"));
    if flags.browser {
        let opener = environment::variable("BROWSER").unwrap_or_else(|| "xdg-open".to_owned());
        Command::new(&opener)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start `{opener}`; open {url} yourself, or set BROWSER"))?;
    }
    Ok(ExitCode::SUCCESS)
}
