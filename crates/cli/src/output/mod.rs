//! How the commands print: tables, ages, findings, YAML.

pub(crate) mod age;
pub(crate) mod findings;
pub(crate) mod table;

use std::io::Write as _;

use anyhow::Result;
use serde_json::Value;

use crate::args::Format;

/// Prints a value as JSON or YAML; other formats are the caller's.
pub(crate) fn document(value: &Value, format: Format) -> Result<()> {
    match format {
        Format::Json => line(format_args!("{}", serde_json::to_string_pretty(value)?)),
        Format::Yaml => text(format_args!("{}", yaml(value)?)),
        Format::Name | Format::Wide | Format::Short => anyhow::bail!("only json and yaml are documents"),
    }
    Ok(())
}

/// A line on standard output. A reader that has gone (`| head`) ends the program quietly.
pub(crate) fn line(text: std::fmt::Arguments<'_>) {
    self::text(format_args!("{text}\n"));
}

/// Text on standard output, as [`line`].
pub(crate) fn text(text: std::fmt::Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_fmt(text).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A value as YAML.
pub(crate) fn yaml(value: &Value) -> Result<String> {
    let mut text = serde_saphyr::to_string(value)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
