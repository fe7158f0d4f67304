//! Values of policies as Envoy's matchers: exact, `prefix*`, `*suffix` and `*`.
//!
//! - Reads: strings of `from`, `to` and `when`.
//! - Twin: `plan/src/rbac/`, which tries them.
//! - Rule: `*` asks for a non-empty value, never for an absent one. What becomes part of a regular expression is escaped first.

use lateen_envoy_api::envoy::config::core::v3::CidrRange;
use lateen_envoy_api::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use lateen_envoy_api::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, StringMatcher, ValueMatcher, list_matcher, metadata_matcher::{PathSegment, path_segment::Segment}, string_matcher::MatchPattern,
    value_matcher,
};

use crate::virtual_service::http_match::regex_matcher;
use crate::wire;

/// A value with optional `*` at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern<'a> {
    /// `*`.
    Any,
    /// `text*`.
    Prefix(&'a str),
    /// `*text`.
    Suffix(&'a str),
    /// `text`.
    Exact(&'a str),
}

impl<'a> Pattern<'a> {
    /// Reads a value.
    #[must_use]
    pub fn of(value: &'a str) -> Self {
        match (value.strip_prefix('*'), value.strip_suffix('*')) {
            (Some(""), _) => Self::Any,
            (Some(suffix), _) => Self::Suffix(suffix),
            (None, Some(prefix)) => Self::Prefix(prefix),
            (None, None) => Self::Exact(value),
        }
    }
}

/// A regular expression as a string matcher.
#[must_use]
pub fn regex(expression: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(regex_matcher(expression))), ignore_case: false }
}

/// A value as a string matcher.
#[must_use]
pub fn string(value: &str) -> StringMatcher {
    let pattern = match Pattern::of(value) {
        Pattern::Any => return regex(".+"),
        Pattern::Prefix(prefix) => MatchPattern::Prefix(prefix.to_owned()),
        Pattern::Suffix(suffix) => MatchPattern::Suffix(suffix.to_owned()),
        Pattern::Exact(text) => MatchPattern::Exact(text.to_owned()),
    };
    StringMatcher { match_pattern: Some(pattern), ignore_case: false }
}

/// A value after a fixed `start`, such as `spiffe://`.
#[must_use]
pub fn string_after(start: &str, value: &str) -> StringMatcher {
    match Pattern::of(value) {
        Pattern::Suffix(suffix) => regex(&format!("{start}.*{}", escape(suffix))),
        Pattern::Any => string(value),
        Pattern::Prefix(_) | Pattern::Exact(_) => string(&format!("{start}{value}")),
    }
}

/// A value as a header matcher; `*` asks for presence. Hosts ignore case.
#[must_use]
pub fn header(name: &str, value: &str, ignore_case: bool) -> HeaderMatcher {
    let specifier = match Pattern::of(value) {
        Pattern::Any => HeaderMatchSpecifier::PresentMatch(true),
        Pattern::Prefix(_) | Pattern::Suffix(_) | Pattern::Exact(_) => HeaderMatchSpecifier::StringMatch(StringMatcher { ignore_case, ..string(value) }),
    };
    HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..Default::default() }
}

/// An address or block as a range; `None` for anything else.
#[must_use]
pub fn cidr(value: &str) -> Option<CidrRange> {
    let block: ipnet::IpNet = value.parse().ok().or_else(|| value.parse::<std::net::IpAddr>().ok().map(Into::into))?;
    Some(CidrRange { address_prefix: block.addr().to_string(), prefix_len: Some(wire::uint32(u32::from(block.prefix_len()))) })
}

/// One of several values of dynamic metadata at `path`; a claim may also be a list that holds one of them.
#[must_use]
pub fn metadata(filter: &str, path: &[&str], value: ValueMatcher) -> MetadataMatcher {
    let path = path.iter().map(|key| PathSegment { segment: Some(Segment::Key((*key).to_owned())) }).collect();
    MetadataMatcher { filter: filter.to_owned(), path, value: Some(value), invert: false }
}

/// One string as a metadata value.
#[must_use]
pub fn value(matcher: StringMatcher) -> ValueMatcher {
    ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::StringMatch(matcher)) }
}

/// Any of several metadata values.
#[must_use]
pub fn any_of(mut values: Vec<ValueMatcher>) -> ValueMatcher {
    if values.len() == 1 {
        return values.remove(0);
    }
    ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::OrMatch(OrMatcher { value_matchers: values })) }
}

/// A list that holds one such value.
#[must_use]
pub fn list_of(value: ValueMatcher) -> ValueMatcher {
    let list = ListMatcher { match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(value))) };
    ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(list))) }
}

/// `text` with every character that means something in RE2 escaped.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_asks_for_something() {
        assert_eq!(string("*"), regex(".+"));
        assert_eq!(header("x", "*", false).header_match_specifier, Some(HeaderMatchSpecifier::PresentMatch(true)));
    }

    #[test]
    fn dots_of_a_suffix_are_no_wildcards() {
        assert_eq!(string_after("spiffe://", "*/sa/a.b"), regex(r"spiffe://.*/sa/a\.b"));
    }

    #[test]
    fn one_address_is_a_block_of_one() {
        assert_eq!(cidr("1.2.3.4").unwrap().prefix_len.unwrap().value, 32);
        assert_eq!(cidr("5.6.0.0/16").unwrap().address_prefix, "5.6.0.0");
        assert_eq!(cidr("nowhere"), None);
    }
}
