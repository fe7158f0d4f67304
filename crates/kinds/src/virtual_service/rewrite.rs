//! Rewrites: the path and authority that the backend sees.
//!
//! - Reads: `VirtualService.http[].rewrite`.
//! - Writes: `prefix_rewrite`, `regex_rewrite` and the host rewrite of `RouteAction`.
//! - Twin: `plan/src/route/rewrite.rs`, which performs them; `proxy/src/http/answer.rs`.
//! - Rule: `uri` replaces what the match took: only the prefix where a prefix matched, the whole path otherwise.

use lateen_envoy_api::envoy::config::route::v3::{RouteAction, route_action::HostRewriteSpecifier};
use lateen_envoy_api::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use lateen_istio_api::HTTPRewrite;

use super::http_match::regex_matcher;
use crate::check::Check;

/// Checks a rewrite at `path`.
pub fn validate(rewrite: &HTTPRewrite, path: &str, check: &mut Check<'_>) {
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none() {
        check.error(path, "the rewrite changes nothing", "add uri, authority or uriRegexRewrite, or remove it");
    }
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        check.regex(&format!("{path}.uriRegexRewrite.match"), &regex.r#match);
        if !rewrite.uri.is_empty() {
            check.error(path, "uri and uriRegexRewrite are both set", "keep one of them");
        }
        if regex.rewrite.is_empty() {
            check.error(format!("{path}.uriRegexRewrite.rewrite"), "the rewritten path is empty", "write the new path; \\1 stands for the first group");
        }
    }
    if rewrite.authority.contains(char::is_whitespace) {
        check.error(format!("{path}.authority"), format!("\"{}\" is not an authority", rewrite.authority), "use a host name, with a port if needed");
    }
}

/// Writes the rewrite into `action`.
pub fn lower(rewrite: &HTTPRewrite, action: &mut RouteAction) {
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        action.regex_rewrite = Some(RegexMatchAndSubstitute { pattern: Some(regex_matcher(&regex.r#match)), substitution: regex.rewrite.clone() });
    } else if !rewrite.uri.is_empty() {
        action.prefix_rewrite.clone_from(&rewrite.uri);
    }
    if !rewrite.authority.is_empty() {
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(rewrite.authority.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_becomes_a_prefix_rewrite() {
        let mut action = RouteAction::default();
        lower(&HTTPRewrite { uri: "/v2".into(), authority: "b".into(), ..Default::default() }, &mut action);
        assert_eq!(action.prefix_rewrite, "/v2");
        assert_eq!(action.host_rewrite_specifier, Some(HostRewriteSpecifier::HostRewriteLiteral("b".into())));
    }
}
