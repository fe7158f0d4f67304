//! Header changes on requests and responses.
//!
//! - Reads: `VirtualService.http[].headers` and `http[].route[].headers`.
//! - Writes: the four header lists of a route, virtual host or weighted cluster, and the authority.
//! - Twin: `plan/src/route/headers.rs`, which performs them; `proxy/src/http/answer.rs`.
//! - Rule: `set` overwrites, `add` appends, in that order, each sorted by name. Setting `host` or `:authority` rewrites the authority instead.

use std::collections::BTreeMap;

use lateen_envoy_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction};
use lateen_istio_api::{HeaderOperations, Headers};

use crate::check::{Check, is_header_name};

/// The lists, as Envoy takes them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeaderLists {
    /// `request_headers_to_add`.
    pub request_add: Vec<HeaderValueOption>,
    /// `request_headers_to_remove`.
    pub request_remove: Vec<String>,
    /// `response_headers_to_add`.
    pub response_add: Vec<HeaderValueOption>,
    /// `response_headers_to_remove`.
    pub response_remove: Vec<String>,
    /// New authority, where a request header `host` or `:authority` is set.
    pub authority: Option<String>,
}

/// Checks header changes at `path`.
pub fn validate(headers: &Headers, path: &str, check: &mut Check<'_>) {
    for (side, operations) in [("request", &headers.request), ("response", &headers.response)] {
        let Some(operations) = operations else { continue };
        let path = format!("{path}.{side}");
        for (field, map) in [("set", &operations.set), ("add", &operations.add)] {
            for (name, value) in map {
                validate_name(name, &format!("{path}.{field}.{name}"), check);
                if value.bytes().any(|byte| byte < 0x20 && byte != b'\t' || byte == 0x7f) {
                    check.error(format!("{path}.{field}.{name}"), "the value holds control characters", "remove them");
                }
                if !are_variables_closed(value) {
                    let message = format!("\"{value}\" has a variable that does not end");
                    check.error(format!("{path}.{field}.{name}"), message, "end it with %, or write %% for a percent sign");
                }
            }
        }
        for (i, name) in operations.remove.iter().enumerate() {
            validate_name(name, &format!("{path}.remove[{i}]"), check);
        }
    }
}

/// Whether every `%` of a value is doubled or opens a variable that another one closes.
fn are_variables_closed(value: &str) -> bool {
    value.replace("%%", "").matches('%').count().is_multiple_of(2)
}

fn validate_name(name: &str, path: &str, check: &mut Check<'_>) {
    let pseudo = matches!(name, ":authority" | ":path" | ":method" | ":scheme");
    if !pseudo && !is_header_name(name) {
        check.error(path, format!("\"{name}\" is not a header name"), "use letters, digits and \"-\"");
    }
}

/// Envoy's form; empty lists where nothing changes.
#[must_use]
pub fn lower(headers: Option<&Headers>) -> HeaderLists {
    let mut lists = HeaderLists::default();
    let Some(headers) = headers else { return lists };
    if let Some(request) = &headers.request {
        lists.authority = request.set.iter().find(|(name, _)| is_authority(name)).map(|(_, value)| value.clone());
        lists.request_add = additions(request);
        lists.request_remove.clone_from(&request.remove);
    }
    if let Some(response) = &headers.response {
        lists.response_add = additions(response);
        lists.response_remove.clone_from(&response.remove);
    }
    lists
}

fn is_authority(name: &str) -> bool {
    name == ":authority" || name.eq_ignore_ascii_case("host")
}

fn additions(operations: &HeaderOperations) -> Vec<HeaderValueOption> {
    let option = |action: HeaderAppendAction| {
        move |(name, value): (&String, &String)| HeaderValueOption {
            header: Some(HeaderValue { key: name.clone(), value: value.clone(), ..Default::default() }),
            append_action: action.into(),
            ..Default::default()
        }
    };
    let ordinary = |map: &BTreeMap<String, String>, action| -> Vec<HeaderValueOption> {
        map.iter().filter(|(name, _)| !is_authority(name)).map(option(action)).collect()
    };
    let mut all = ordinary(&operations.set, HeaderAppendAction::OverwriteIfExistsOrAdd);
    all.extend(ordinary(&operations.add, HeaderAppendAction::AppendIfExistsOrAdd));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_overwrites_and_comes_before_add() {
        let headers: Headers = serde_json::from_value(serde_json::json!({"request": {"add": {"a": "1"}, "set": {"b": "2"}, "remove": ["c"]}})).unwrap();
        let lists = lower(Some(&headers));
        let actions: Vec<i32> = lists.request_add.iter().map(|option| option.append_action).collect();
        assert_eq!(actions, [i32::from(HeaderAppendAction::OverwriteIfExistsOrAdd), i32::from(HeaderAppendAction::AppendIfExistsOrAdd)]);
        assert_eq!(lists.request_remove, ["c"]);
    }

    #[test]
    fn setting_host_rewrites_the_authority() {
        let headers: Headers = serde_json::from_value(serde_json::json!({"request": {"set": {"Host": "a.com"}}})).unwrap();
        let lists = lower(Some(&headers));
        assert_eq!(lists.authority.as_deref(), Some("a.com"));
        assert!(lists.request_add.is_empty());
    }
}
