//! `fortio`: load on a URL with counts per code and percentiles, one request (`curl`), or an echo server (`server`).
//!
//! - Reads: fortio's flags, listed in [`FLAGS`]; `-bodies` is ours and counts the distinct bodies of answers.
//! - Rule: one connection per thread, kept; `-qps 0` or below is as fast as possible; a call that got no answer counts as code -1.
//! - Limits: percentiles come from all single times (up to [`SAMPLES_MAX`]), not from a histogram; `http` only.
//! - Not here: fortio's web page and gRPC.

mod echo;
mod load;

use std::process::ExitCode;

use crate::{
    Environment,
    cli_args::{Takes, parse},
    server::block_on,
};

/// Single times kept for the percentiles; later ones are counted but not kept.
const SAMPLES_MAX: usize = 4_000_000;

/// Flags understood; those without effect here are accepted so that tutorials' commands run.
const FLAGS: &[(&str, Takes)] = &[
    ("c", Takes::Value), ("qps", Takes::Value), ("n", Takes::Value), ("t", Takes::Value), ("H", Takes::Value), ("p", Takes::Value),
    ("timeout", Takes::Value), ("X", Takes::Value), ("payload", Takes::Value), ("content-type", Takes::Value), ("loglevel", Takes::Value),
    ("keepalive", Takes::Value), ("json", Takes::Value), ("http-port", Takes::Value), ("user", Takes::Value), ("labels", Takes::Value),
    ("quiet", Takes::Nothing), ("bodies", Takes::Nothing), ("allow-initial-errors", Takes::Nothing), ("uniform", Takes::Nothing),
    ("jitter", Takes::Nothing), ("nocatchup", Takes::Nothing), ("stdclient", Takes::Nothing), ("a", Takes::Nothing), ("k", Takes::Nothing),
    ("L", Takes::Nothing), ("h2", Takes::Nothing), ("curl-stdout-headers", Takes::Nothing),
];

/// Entry point of `lateen app fortio`.
pub(crate) fn run(args: &[String], _env: &Environment) -> ExitCode {
    let Some((command, rest)) = args.split_first() else {
        eprintln!("usage: fortio load|curl|server|version [FLAGS] [URL]");
        return ExitCode::from(2);
    };
    let parsed = match parse(rest, FLAGS) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("fortio: {error}");
            return ExitCode::from(2);
        }
    };
    match command.as_str() {
        "server" => echo::run(&parsed),
        "version" => {
            println!("1.66.0 (lateen stand-in)");
            ExitCode::SUCCESS
        }
        "load" | "curl" => match load::Plan::from_flags(&parsed, command == "curl") {
            Ok(plan) => block_on(load::run(plan)),
            Err(error) => {
                eprintln!("fortio: {error}");
                ExitCode::from(2)
            }
        },
        other => {
            eprintln!("fortio: unknown command `{other}`; there are load, curl, server and version");
            ExitCode::from(2)
        }
    }
}
