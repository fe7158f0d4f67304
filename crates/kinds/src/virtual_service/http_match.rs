//! HTTP matches: which requests a rule takes, by path, headers, method, authority, scheme and query.
//!
//! - Reads: `VirtualService.http[].match[]`.
//! - Writes: `config.route.v3.RouteMatch`.
//! - Twin: `plan/src/route/matcher.rs`, which tries them.
//! - Rule: list entries are alternatives, parts of one entry must all hold; `{}` asks only for presence; `/foo` as a prefix also takes `/foobar`.
//! - Not here: which sources and gateways an entry is for: [`applies_to`] says it, `compile` leaves the entry out.

use std::collections::BTreeMap;

use lateen_base::names;
use lateen_envoy_api::envoy::config::route::v3::{self as route, header_matcher::HeaderMatchSpecifier, route_match::PathSpecifier};
use lateen_envoy_api::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use lateen_istio_api::{HTTPMatchRequest, StringMatch};

use crate::check::{Check, is_header_name};
use crate::wire;

/// Checks one entry at `path`.
pub fn validate(entry: &HTTPMatchRequest, path: &str, check: &mut Check<'_>) {
    for (field, value) in
        [("uri", &entry.uri), ("scheme", &entry.scheme), ("method", &entry.method), ("authority", &entry.authority)]
    {
        if let Some(value) = value {
            let path = format!("{path}.{field}");
            check.string_match(&path, value);
            if *value == StringMatch::Present {
                check.error(path, format!("the {field} match is empty"), "add exact, prefix or regex, or remove it");
            }
        }
    }
    for (field, headers) in [("headers", &entry.headers), ("withoutHeaders", &entry.without_headers)] {
        validate_headers(headers, &format!("{path}.{field}"), check);
    }
    for (name, value) in &entry.query_params {
        check.string_match(&format!("{path}.queryParams.{name}"), value);
    }
    if entry.port > 65_535 {
        check.port(&format!("{path}.port"), entry.port);
    }
    check.labels(&format!("{path}.sourceLabels"), &entry.source_labels);
    check.not_enforced_if(path, &[("statPrefix", !entry.stat_prefix.is_empty())]);
}

fn validate_headers(headers: &BTreeMap<String, StringMatch>, path: &str, check: &mut Check<'_>) {
    for (name, value) in headers {
        let path = format!("{path}.{name}");
        check.string_match(&path, value);
        let pseudo = matches!(name.as_str(), ":method" | ":path" | ":authority" | ":scheme");
        if name.starts_with('@') {
            check.not_enforced(&path);
        } else if !pseudo && !is_header_name(name) {
            check.error(path, format!("\"{name}\" is not a header name"), "use the name alone, such as end-user");
        }
    }
}

/// Whether an entry is for a proxy with these labels, in this namespace, bound to `gateway` (`mesh` for sidecars).
///
/// `rule_gateways` are the VirtualService's own gateways, which an entry without gateways takes over.
#[must_use]
pub fn applies_to(entry: &HTTPMatchRequest, labels: &BTreeMap<String, String>, namespace: &str, gateway: &str, port: u32) -> bool {
    let gateway_matches = entry.gateways.is_empty() || entry.gateways.iter().any(|name| name == gateway);
    let source_matches = gateway != names::MESH_GATEWAY
        || lateen_mesh::selects(&entry.source_labels, labels) && (entry.source_namespace.is_empty() || entry.source_namespace == namespace);
    gateway_matches && source_matches && (entry.port == 0 || entry.port == port)
}

/// Envoy's form of an entry; `None` (a rule without matches) takes everything.
#[must_use]
pub fn lower(entry: Option<&HTTPMatchRequest>) -> route::RouteMatch {
    let mut lowered = route::RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..Default::default() };
    let Some(entry) = entry else { return lowered };
    lowered.case_sensitive = Some(wire::boolean(!entry.ignore_uri_case));
    match &entry.uri {
        Some(StringMatch::Exact(path)) => lowered.path_specifier = Some(PathSpecifier::Path(path.clone())),
        Some(StringMatch::Prefix(path)) => lowered.path_specifier = Some(PathSpecifier::Prefix(path.clone())),
        Some(StringMatch::Regex(regex)) => lowered.path_specifier = Some(PathSpecifier::SafeRegex(regex_matcher(regex))),
        Some(StringMatch::Present) | None => {}
    }
    lowered.headers = entry.headers.iter().map(|(name, value)| header(name, value)).collect();
    lowered.headers.extend(entry.without_headers.iter().map(|(name, value)| without_header(name, value)));
    lowered.headers.sort_by(|a, b| a.name.cmp(&b.name));
    for (name, value) in [(":method", &entry.method), (":authority", &entry.authority), (":scheme", &entry.scheme)] {
        lowered.headers.extend(value.as_ref().map(|value| header(name, value)));
    }
    lowered.query_parameters = entry.query_params.iter().map(|(name, value)| query_parameter(name, value)).collect();
    lowered
}

fn without_header(name: &str, value: &StringMatch) -> route::HeaderMatcher {
    // Without the flag Envoy would leave out requests that lack the header, which are just those meant.
    let treat_missing_header_as_empty = !is_presence(value);
    route::HeaderMatcher { invert_match: true, treat_missing_header_as_empty, ..header(name, value) }
}

fn header(name: &str, value: &StringMatch) -> route::HeaderMatcher {
    let specifier = match string_matcher(value) {
        Some(matcher) if !is_presence(value) => HeaderMatchSpecifier::StringMatch(matcher),
        _ => HeaderMatchSpecifier::PresentMatch(true),
    };
    route::HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..Default::default() }
}

fn query_parameter(name: &str, value: &StringMatch) -> route::QueryParameterMatcher {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
    let specifier = match string_matcher(value) {
        Some(matcher) if !is_presence(value) => Specifier::StringMatch(matcher),
        _ => Specifier::PresentMatch(true),
    };
    route::QueryParameterMatcher { name: name.to_owned(), query_parameter_match_specifier: Some(specifier) }
}

/// Whether any value will do.
fn is_presence(value: &StringMatch) -> bool {
    match value {
        StringMatch::Present => true,
        StringMatch::Regex(regex) => regex == "*",
        StringMatch::Prefix(prefix) => prefix.is_empty(),
        StringMatch::Exact(_) => false,
    }
}

/// Envoy's form of a string match; `None` for mere presence.
#[must_use]
pub fn string_matcher(value: &StringMatch) -> Option<StringMatcher> {
    let pattern = match value {
        StringMatch::Present => return None,
        StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        StringMatch::Regex(text) => MatchPattern::SafeRegex(regex_matcher(text)),
    };
    Some(StringMatcher { match_pattern: Some(pattern), ignore_case: false })
}

/// Envoy's form of a regular expression, which has to match the whole string.
#[must_use]
pub fn regex_matcher(regex: &str) -> RegexMatcher {
    RegexMatcher { regex: regex.to_owned(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: serde_json::Value) -> HTTPMatchRequest {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn no_match_takes_every_path() {
        assert_eq!(lower(None).path_specifier, Some(PathSpecifier::Prefix("/".into())));
        assert_eq!(lower(None).case_sensitive, None);
    }

    #[test]
    fn an_empty_header_match_asks_for_presence() {
        let lowered = lower(Some(&entry(serde_json::json!({"headers": {"x-user": {}}}))));
        assert_eq!(lowered.headers[0].header_match_specifier, Some(HeaderMatchSpecifier::PresentMatch(true)));
    }

    #[test]
    fn without_headers_takes_requests_that_lack_the_header() {
        let lowered = lower(Some(&entry(serde_json::json!({"withoutHeaders": {"x-a": {"exact": "1"}, "x-b": {}}}))));
        assert!(lowered.headers[0].invert_match && lowered.headers[0].treat_missing_header_as_empty);
        assert!(lowered.headers[1].invert_match && !lowered.headers[1].treat_missing_header_as_empty);
    }

    #[test]
    fn method_follows_the_sorted_headers() {
        let lowered = lower(Some(&entry(serde_json::json!({"method": {"exact": "GET"}, "headers": {"x": {"exact": "1"}, "a": {"exact": "2"}}}))));
        let names: Vec<_> = lowered.headers.iter().map(|header| header.name.as_str()).collect();
        assert_eq!(names, ["a", "x", ":method"]);
    }

    #[test]
    fn source_labels_pick_the_clients() {
        let entry = entry(serde_json::json!({"sourceLabels": {"app": "web"}}));
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        assert!(applies_to(&entry, &labels, "default", "mesh", 80));
        assert!(!applies_to(&entry, &BTreeMap::new(), "default", "mesh", 80));
    }
}
