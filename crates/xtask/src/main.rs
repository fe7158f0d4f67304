//! `cargo xtask`: the project's one tool.
//!
//! - `test` is what CI runs: it installs what the tests need, checks the layering, and runs every test.
//! - Not here: benchmarks' harness (`bench/`), the mesh itself.

#![forbid(unsafe_code)]

mod check;
mod compat;
#[cfg(feature = "gen")]
mod r#gen;
mod golden;
mod setup;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Works on the Lateen source tree.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what tests need, checks the tree, builds, and runs every test.
    Test {
        /// Leaves out the end-to-end tests.
        #[arg(long)]
        fast: bool,
        /// Passed on to the end-to-end tests: run only those whose name contains this.
        filter: Option<String>,
    },
    /// Layers, purity, tidiness: everything that needs no build.
    Check,
    /// The dependency law alone.
    Layers,
    /// Files, names and documentation paths alone.
    Tidy,
    /// Installs the programs that tests and benchmarks run beside ours.
    Setup {
        /// Also the peers that only benchmarks need.
        #[arg(long)]
        bench: bool,
    },
    /// Rewrites the expected side of the golden cases; read the diff.
    Golden,
    /// Rewrites docs/compat, the support matrix; read the diff.
    Compat,
    /// Regenerates Envoy's messages (build with `--features gen`).
    Gen {
        /// Folder with Envoy's `.proto` files.
        proto_root: std::path::PathBuf,
    },
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::set_current_dir(root)?;
    match Arguments::parse().command {
        Command::Test { fast, filter } => test::run(fast, filter.as_deref()),
        Command::Check => {
            check::layers()?;
            check::tidy()
        }
        Command::Layers => check::layers(),
        Command::Tidy => check::tidy(),
        Command::Setup { bench } => setup::run(bench),
        Command::Golden => golden::update(),
        Command::Compat => compat::update(),
        #[cfg(feature = "gen")]
        Command::Gen { proto_root } => r#gen::run(&proto_root),
        #[cfg(not(feature = "gen"))]
        Command::Gen { .. } => anyhow::bail!("run it as: cargo run -p xtask --features gen -- gen PROTO_ROOT"),
    }
}
