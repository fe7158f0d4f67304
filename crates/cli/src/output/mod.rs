//! How the commands print: tables, ages, findings, YAML.

pub(crate) mod age;
pub(crate) mod findings;
pub(crate) mod table;

use anyhow::Result;
use serde_json::Value;

use crate::args::Format;

/// Prints a value as JSON or YAML; other formats are the caller's.
pub(crate) fn document(value: &Value, format: Format) -> Result<()> {
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(value)?),
        Format::Yaml => print!("{}", yaml(value)?),
        Format::Name | Format::Wide | Format::Short => anyhow::bail!("only json and yaml are documents"),
    }
    Ok(())
}

/// A value as YAML.
pub(crate) fn yaml(value: &Value) -> Result<String> {
    let mut text = serde_saphyr::to_string(value)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
