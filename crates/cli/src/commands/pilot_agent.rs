//! `pilot-agent request METHOD PATH`: what scripts run in a sidecar's container to ask the proxy.
//!
//! - Reads: the admin interface on 127.0.0.1:15000.
//! - Limits: `request`, `wait` and `version`; the agent itself runs inside `lateen sidecar`.

use std::process::ExitCode;

use lateen_base::ports;

use crate::environment;

/// Entry point of the link `pilot-agent`.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let curl = |rest: &[&str]| {
        let argv: Vec<String> = std::iter::once("curl").chain(rest.iter().copied()).map(str::to_owned).collect();
        lateen_apps::run(&argv, &environment::all())
    };
    match words.as_slice() {
        ["request", method, path] => curl(&["-sS", "-X", method, &format!("http://127.0.0.1:{}/{}", ports::ADMIN, path.trim_start_matches('/'))]),
        ["wait", ..] => curl(&["-sS", "-o", "/dev/null", "--retry", "60", "--retry-all-errors", "--retry-delay", "1", "-f", &format!("http://127.0.0.1:{}/healthz/ready", ports::HEALTH)]),
        ["version", ..] => {
            crate::output::line(format_args!("lateen {}", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: pilot-agent request GET PATH | wait | version");
            ExitCode::from(2)
        }
    }
}
