//! `cargo xtask test`: set-up, checks, unit tests, end-to-end tests.

use crate::{check, setup};
use anyhow::{Result, ensure};
use std::process::Command;
use std::time::Instant;

/// Runs everything; stops at the first step that fails.
pub fn run(fast: bool, filter: Option<&str>) -> Result<()> {
    let begin = Instant::now();
    check::layers()?;
    check::tidy()?;
    if !fast {
        setup::run(false)?;
    }
    step(&["build", "--workspace", "--all-targets"])?;
    let took = begin.elapsed().as_secs();
    println!("xtask: built after {took} s");
    step(&["test", "--workspace", "--exclude", "lateen-e2e"])?;
    if !fast {
        let mut line = vec!["test", "-p", "lateen-e2e", "--"];
        line.extend(filter);
        step(&line)?;
    }
    println!("xtask: all passed after {} s", begin.elapsed().as_secs());
    Ok(())
}

fn step(arguments: &[&str]) -> Result<()> {
    println!("xtask: cargo {}", arguments.join(" "));
    let status = Command::new("cargo").args(arguments).status()?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}
