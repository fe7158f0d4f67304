//! Hidden subcommands by which the binary starts itself again.
//!
//! - Rule: called first in `main`, before any thread exists: the sandbox needs a single-threaded process.

use crate::host;
use crate::options::Hooks;
use crate::supervisor;
use lateen_sys::sandbox;
use std::process::ExitCode;

/// The launcher and the supervisor.
pub(crate) const SANDBOX: &str = "__sandbox";
/// The host stage of `up --detach`.
pub(crate) const HOST: &str = "__host";

/// Runs a hidden stage when `args` (the whole command line, program first) names one; `None` for every other command line.
#[must_use]
pub fn dispatch(args: &[String], hooks: &Hooks) -> Option<ExitCode> {
    match args.get(1)?.as_str() {
        SANDBOX => Some(launch(*hooks)),
        HOST => Some(host::detached()),
        _ => None,
    }
}

fn launch(hooks: Hooks) -> ExitCode {
    match sandbox::launch(move || supervisor::run(hooks)) {
        Ok(code) => code,
        Err(error) => {
            // The host stage reads this from the log of the supervisor and shows it.
            eprintln!("{error}");
            ExitCode::from(host::CANNOT_SANDBOX)
        }
    }
}
