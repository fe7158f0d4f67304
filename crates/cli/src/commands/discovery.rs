//! `lateen discovery`: the control plane.

use std::process::ExitCode;

use anyhow::Result;
use lateen_control::ControlOptions;

use crate::{args, environment};

/// Entry point.
pub(crate) fn run(flags: args::Discovery) -> Result<ExitCode> {
    environment::start_log("info");
    let mut options = ControlOptions::new(flags.store, flags.state, flags.token_key);
    if let Some(ttl) = flags.cert_ttl {
        options.cert_ttl = super::duration("--cert-ttl", &ttl)?;
    }
    lateen_control::run(options)?;
    Ok(ExitCode::SUCCESS)
}
