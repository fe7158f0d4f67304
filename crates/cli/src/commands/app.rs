//! `lateen app PROGRAM …`, and links to the binary under a program's name.

use std::process::ExitCode;

use crate::environment;

/// Runs a built-in program with the environment.
pub(crate) fn run(argv: &[String]) -> ExitCode {
    lateen_apps::run(argv, &environment::all())
}
