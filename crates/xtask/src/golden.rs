//! Rewrites the expected side of golden cases: `tests/golden/<feature>/<case>/expected.yaml`.

use anyhow::{Result, ensure};
use std::process::Command;

/// Runs the golden tests with `UPDATE_GOLDEN=1`; a human reads the diff.
pub fn update() -> Result<()> {
    let status = Command::new("cargo").args(["test", "-p", "lateen-compile"]).env("UPDATE_GOLDEN", "1").status()?;
    ensure!(status.success(), "the golden tests failed");
    Command::new("git").args(["diff", "--stat", "--", "tests/golden", "crates/compile/tests"]).status()?;
    Ok(())
}
