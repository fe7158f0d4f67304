//! Rewrites docs/compat: what is supported, field by field.
//!
//! - Rule: the tests that write the pages also check them, so that a page is never behind the code.
//! - Not here: how the pages are made (`crates/kinds/tests/compat.rs`, `crates/plan/tests/compat.rs`).

use anyhow::{Result, ensure};
use std::process::Command;

/// Runs the tests that write the pages, with `UPDATE_COMPAT=1`; a human reads the diff.
pub fn update() -> Result<()> {
    for package in ["lateen-kinds", "lateen-plan"] {
        let status = Command::new("cargo").args(["test", "-p", package, "--test", "compat"]).env("UPDATE_COMPAT", "1").status()?;
        ensure!(status.success(), "writing the page of {package} failed");
    }
    Command::new("git").args(["diff", "--stat", "--", "docs/compat"]).status()?;
    Ok(())
}
