//! `lateen down`: stops the mesh and waits until nothing of it is left.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use lateen_local::Down;

use super::Context;
use crate::args;

/// Entry point.
pub(crate) fn run(context: &Context, _flags: &args::Down) -> Result<ExitCode> {
    let mesh = &context.mesh;
    match lateen_local::down(&context.state_dir).with_context(|| format!("cannot stop mesh `{mesh}`"))? {
        Down::Stopped => crate::output::line(format_args!("mesh `{mesh}` stopped")),
        Down::Killed => crate::output::line(format_args!("mesh `{mesh}` did not stop in time and was killed")),
        Down::NotRunning => eprintln!("no mesh called `{mesh}` is running"),
    }
    Ok(ExitCode::SUCCESS)
}
