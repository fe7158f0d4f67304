//! `lateen`: one binary for the mesh, its control plane, its proxy and the programs of tutorials.
//!
//! - Reads: the command line and the environment. Nothing below this crate does.
//! - Rule: `argv[0]` decides first, so that a link named `curl` or `fortio` is that program.
//! - Rule: a failed command prints one error with its remedy on standard error and exits with a code other than 0.
//! - Not here: what the commands do (one file each in `commands/`).
#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod environment;
mod output;
mod resource;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything allocates much. Failing costs memory, nothing else.
    let _ = lateen_sys::process::use_small_pages();
    let argv: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if let Some(code) = commands::stage(&argv) {
        return code;
    }
    if let Some(code) = commands::by_program_name(&argv) {
        return code;
    }
    commands::main(&argv)
}
