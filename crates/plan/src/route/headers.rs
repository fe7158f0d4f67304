//! Header changes asked for by routes.
//!
//! - Reads: `config.core.v3.HeaderValueOption` (Envoy), written from `VirtualService.http[].headers`.
//! - Twin: `kinds/src/virtual_service/headers.rs`.
//! - Rule: removals come after additions at one level, as in Envoy; values with `%…%` are compiled once.
//! - Not here: applying them (`proxy/src/http`).

use crate::names::Name;
use crate::rejected::{Invalid, Within};
use lateen_envoy_api::envoy::config::core::v3 as xcore;
use lateen_telemetry::access_log::Format;
use std::sync::Arc;

/// Header changes of one level and one direction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderOps {
    /// Headers written.
    pub set: Vec<HeaderSet>,
    /// Headers removed, lower case; after `set`.
    pub remove: Vec<Name>,
}

impl HeaderOps {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

/// One header written.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderSet {
    /// Lower case. `:authority` and `:path` change the request line; `host` is read as `:authority`.
    pub name: Name,
    /// What is written.
    pub value: HeaderValue,
    /// How it goes with a header already there.
    pub action: HeaderAction,
    /// Written although the value turns out empty.
    pub keep_empty: bool,
}

/// A header's value.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderValue {
    /// These bytes.
    Literal(Arc<[u8]>),
    /// Formatted for each request, such as `%DOWNSTREAM_REMOTE_ADDRESS%`.
    Format(Arc<Format>),
}

/// How a written header goes with one already there. Source: `HeaderAppendAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderAction {
    /// Both stay.
    Append,
    /// The old one stays.
    AddIfAbsent,
    /// The new one stays.
    Overwrite,
    /// The new one stays, but only if there was an old one.
    OverwriteIfExists,
}

/// Reads the changes of one level and direction.
///
/// # Errors
/// An empty or malformed name, a value that does not compile, an attempt to change `:method` or `:scheme` or to remove `host` or a pseudo-header.
pub fn header_ops(add: &[xcore::HeaderValueOption], remove: &[String]) -> Result<HeaderOps, Invalid> {
    let set = add.iter().enumerate().map(|(i, one)| header_set(one).within(format!("headers_to_add[{i}]"))).collect::<Result<_, _>>()?;
    let removed = |(i, name): (usize, &String)| {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with(':') || lower == "host" || !is_header_name(&lower) {
            return Err(Invalid::new(format!("headers_to_remove[{i}]"), format!("`{name}` cannot be removed")));
        }
        Ok(Name::from(lower))
    };
    Ok(HeaderOps { set, remove: remove.iter().enumerate().map(removed).collect::<Result<_, _>>()? })
}

fn header_set(option: &xcore::HeaderValueOption) -> Result<HeaderSet, Invalid> {
    use xcore::header_value_option::HeaderAppendAction as A;
    let header = option.header.as_ref().ok_or_else(|| Invalid::new("header", "is required"))?;
    let lower = header.key.to_ascii_lowercase();
    let name = match lower.as_str() {
        "host" | ":authority" => ":authority",
        ":path" => ":path",
        other if is_header_name(other) => other,
        other => return Err(Invalid::new("header.key", format!("`{other}` cannot be written"))),
    };
    let action = match (&option.append, A::try_from(option.append_action)) {
        // The old way to say it.
        (Some(append), _) => if append.value { HeaderAction::Append } else { HeaderAction::Overwrite },
        (None, Ok(A::AppendIfExistsOrAdd)) => HeaderAction::Append,
        (None, Ok(A::AddIfAbsent)) => HeaderAction::AddIfAbsent,
        (None, Ok(A::OverwriteIfExistsOrAdd)) => HeaderAction::Overwrite,
        (None, Ok(A::OverwriteIfExists)) => HeaderAction::OverwriteIfExists,
        (None, Err(_)) => return Err(Invalid::new("append_action", format!("{} is not known", option.append_action))),
    };
    let value = if header.raw_value.is_empty() { header_value(&header.value)? } else { HeaderValue::Literal(header.raw_value.to_vec().into()) };
    Ok(HeaderSet { name: name.into(), value, action, keep_empty: option.keep_empty_value })
}

/// Reads a value that may hold `%…%`.
pub(crate) fn header_value(value: &str) -> Result<HeaderValue, Invalid> {
    if value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(Invalid::new("header.value", "holds a line break or a null byte"));
    }
    if !value.contains('%') {
        return Ok(HeaderValue::Literal(value.as_bytes().into()));
    }
    let format = Format::text(value).map_err(|e| Invalid::new("header.value", e.to_string()))?;
    Ok(HeaderValue::Format(Arc::new(format)))
}

/// Whether `name` is a token (RFC 9110 §5.1).
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(json: serde_json::Value, remove: &[&str]) -> Result<HeaderOps, Invalid> {
        let add: Vec<xcore::HeaderValueOption> = serde_json::from_value(json).unwrap();
        header_ops(&add, &remove.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_lower_case_and_host_is_authority() {
        let read = ops(serde_json::json!([{"header": {"key": "Host", "value": "a"}}]), &["X-Old"]).unwrap();
        assert_eq!((&*read.set[0].name, &*read.remove[0]), (":authority", "x-old"));
    }

    #[test]
    fn the_old_append_flag_wins() {
        let read = ops(serde_json::json!([{"header": {"key": "a", "value": "b"}, "append": false}]), &[]).unwrap();
        assert_eq!(read.set[0].action, HeaderAction::Overwrite);
    }

    #[test]
    fn a_line_break_in_a_value_is_refused() {
        assert!(ops(serde_json::json!([{"header": {"key": "a", "value": "b\r\nc: d"}}]), &[]).is_err());
    }

    #[test]
    fn a_malformed_name_is_refused() {
        assert!(ops(serde_json::json!([{"header": {"key": "a b", "value": "c"}}]), &[]).unwrap_err().why.contains("`a b`"));
    }

    #[test]
    fn an_unknown_operator_in_a_value_is_refused() {
        assert!(ops(serde_json::json!([{"header": {"key": "a", "value": "%MOON%"}}]), &[]).unwrap_err().why.contains("MOON"));
    }
}
