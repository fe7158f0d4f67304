//! A whole mesh in real namespaces, with small programs in the place of the control plane, the sidecar and the applications.
//!
//! - Rule: this binary is also the one that is started in the sandbox and in pods, so it has a `main` of its own.
//! - Rule: no test waits for time to pass: each waits for what it is about, and the runner limits the whole.
//! - Limits: needs user namespaces, as the product does; says so and passes where the machine forbids them.

mod facts;
mod harness;
mod programs;

use lateen_local::Hooks;
use std::process::ExitCode;

/// `test/NAME` is a program of this binary; other images are unknown.
fn stand_in(image: &str, command: &[String], args: &[String]) -> Option<Vec<String>> {
    let name = image.strip_prefix("test/")?;
    (command.is_empty()).then(|| std::iter::once(name.to_owned()).chain(args.iter().cloned()).collect())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let hooks = Hooks { image: stand_in, programs: &["lateen-test"] };
    if let Some(code) = lateen_local::dispatch(&args, &hooks) {
        return code;
    }
    match args.get(1).map(String::as_str) {
        Some("up") => harness::up_here(&args),
        Some("app" | "discovery" | "sidecar") => programs::run(args.get(1..).unwrap_or_default()),
        filter => harness::run_all(filter.filter(|word| !word.starts_with('-')), facts::ALL),
    }
}
