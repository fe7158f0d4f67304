//! String matching: exact, prefix, suffix, contains, regular expression; and headers matched by it.
//!
//! - Reads: `type.matcher.v3.StringMatcher`, `config.route.v3.HeaderMatcher` (Envoy).
//! - Rule: regular expressions match the whole value, as Envoy's do, and are compiled once.
//! - Limits: a compiled expression may take [`REGEX_BYTES_MAX`]; a larger one is refused.
//! - Not here: where headers come from (`request`).

use crate::rejected::Invalid;
use crate::request::RequestView;
use lateen_envoy_api::envoy::config::route::v3 as xroute;
use lateen_envoy_api::envoy::r#type::matcher::v3 as xmatcher;
use regex::bytes::{Regex, RegexBuilder};
use std::sync::Arc;

/// Memory one compiled expression may take.
pub const REGEX_BYTES_MAX: usize = 1 << 20;

/// One way to match a string.
#[derive(Clone, Debug)]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<[u8]>, Case),
    /// Starts with.
    Prefix(Arc<[u8]>, Case),
    /// Ends with.
    Suffix(Arc<[u8]>, Case),
    /// Contains.
    Contains(Arc<[u8]>, Case),
    /// The whole value matches the expression.
    Regex(FullRegex),
}

/// Whether letters are compared with their case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `A` is not `a`.
    Sensitive,
    /// ASCII letters are equal whatever their case.
    Insensitive,
}

/// An expression that must match the whole value.
#[derive(Clone, Debug)]
pub struct FullRegex {
    source: Arc<str>,
    compiled: Regex,
}

impl FullRegex {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// When the pattern is not valid or too large.
    pub fn new(pattern: &str) -> Result<Self, Invalid> {
        // The pattern alone first, so that `a)(b` is not made whole by the group around it.
        regex_builder(pattern)?;
        let compiled = regex_builder(&format!("^(?:{pattern})$"))?;
        Ok(Self { source: pattern.into(), compiled })
    }

    /// Whether all of `value` matches.
    #[must_use]
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.compiled.is_match(value)
    }

    /// The pattern as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl PartialEq for FullRegex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// Compiles an expression that may match anywhere.
///
/// # Errors
/// When the pattern is not valid or too large.
pub(crate) fn regex_builder(pattern: &str) -> Result<Regex, Invalid> {
    // RE2, which Envoy uses, lets `.` pass over everything but a newline and knows no multi-line mode by default: the same here.
    RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|e| Invalid::new("regex", format!("`{pattern}` is not a valid expression: {}", one_line(&e.to_string()))))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl PartialEq for StringMatch {
    fn eq(&self, other: &Self) -> bool {
        use StringMatch::{Contains, Exact, Prefix, Regex, Suffix};
        match (self, other) {
            (Exact(a, c), Exact(b, d)) | (Prefix(a, c), Prefix(b, d)) | (Suffix(a, c), Suffix(b, d)) | (Contains(a, c), Contains(b, d)) => {
                a == b && c == d
            }
            (Regex(a), Regex(b)) => a == b,
            (Exact(..) | Prefix(..) | Suffix(..) | Contains(..) | Regex(_), _) => false,
        }
    }
}

impl StringMatch {
    /// Matches exactly `value`, with case.
    #[must_use]
    pub fn exact(value: &str) -> Self {
        Self::Exact(value.as_bytes().into(), Case::Sensitive)
    }

    /// Reads a matcher.
    ///
    /// # Errors
    /// An empty matcher, an invalid expression, an extension.
    pub fn from_xds(matcher: &xmatcher::StringMatcher) -> Result<Self, Invalid> {
        use xmatcher::string_matcher::MatchPattern as P;
        let case = if matcher.ignore_case { Case::Insensitive } else { Case::Sensitive };
        match &matcher.match_pattern {
            Some(P::Exact(v)) => Ok(Self::Exact(v.as_bytes().into(), case)),
            Some(P::Prefix(v)) => Ok(Self::Prefix(v.as_bytes().into(), case)),
            Some(P::Suffix(v)) => Ok(Self::Suffix(v.as_bytes().into(), case)),
            Some(P::Contains(v)) => Ok(Self::Contains(v.as_bytes().into(), case)),
            Some(P::SafeRegex(r)) => Ok(Self::Regex(FullRegex::new(&r.regex).map_err(|e| e.within("safe_regex"))?)),
            Some(P::Custom(c)) => Err(Invalid::unsupported("custom", &c.name)),
            None => Err(Invalid::new("match_pattern", "is empty; set exact, prefix, suffix, contains or safe_regex")),
        }
    }

    /// Whether `value` matches.
    #[must_use]
    pub fn is_match(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(want, case) => equal(value, want, *case),
            Self::Prefix(want, case) => value.get(..want.len()).is_some_and(|head| equal(head, want, *case)),
            Self::Suffix(want, case) => {
                value.len().checked_sub(want.len()).and_then(|at| value.get(at..)).is_some_and(|tail| equal(tail, want, *case))
            }
            Self::Contains(want, case) => want.is_empty() || value.windows(want.len()).any(|part| equal(part, want, *case)),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

fn equal(a: &[u8], b: &[u8], case: Case) -> bool {
    match case {
        Case::Sensitive => a == b,
        Case::Insensitive => a.eq_ignore_ascii_case(b),
    }
}

/// One condition on a header. Source: `HeaderMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderMatch {
    /// Lower case; `:path`, `:method`, `:authority` and `:scheme` name the request line.
    pub name: Arc<str>,
    /// What the value must be.
    pub want: HeaderWant,
    /// The condition holds when the value does *not* match.
    pub invert: bool,
    /// A missing header counts as an empty one.
    pub missing_is_empty: bool,
}

/// What a header's value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderWant {
    /// There (`true`) or absent (`false`).
    Present(bool),
    /// Matches.
    String(StringMatch),
    /// A decimal number in `start..end`.
    Range(std::ops::Range<i64>),
}

impl HeaderMatch {
    /// Reads a matcher.
    ///
    /// # Errors
    /// As [`StringMatch::from_xds`]; an empty name.
    pub fn from_xds(matcher: &xroute::HeaderMatcher) -> Result<Self, Invalid> {
        use xroute::header_matcher::HeaderMatchSpecifier as S;
        if matcher.name.is_empty() {
            return Err(Invalid::new("name", "is empty"));
        }
        let bytes = |v: &String| -> Arc<[u8]> { v.as_bytes().into() };
        let string = |m| Ok::<_, Invalid>(HeaderWant::String(m));
        let want = match &matcher.header_match_specifier {
            None => HeaderWant::Present(true),
            Some(S::PresentMatch(there)) => HeaderWant::Present(*there),
            Some(S::ExactMatch(v)) => string(StringMatch::Exact(bytes(v), Case::Sensitive))?,
            Some(S::PrefixMatch(v)) => string(StringMatch::Prefix(bytes(v), Case::Sensitive))?,
            Some(S::SuffixMatch(v)) => string(StringMatch::Suffix(bytes(v), Case::Sensitive))?,
            Some(S::ContainsMatch(v)) => string(StringMatch::Contains(bytes(v), Case::Sensitive))?,
            Some(S::SafeRegexMatch(r)) => string(StringMatch::Regex(FullRegex::new(&r.regex).map_err(|e| e.within("safe_regex_match"))?))?,
            Some(S::StringMatch(m)) => string(StringMatch::from_xds(m).map_err(|e| e.within("string_match"))?)?,
            Some(S::RangeMatch(r)) => HeaderWant::Range(r.start..r.end),
        };
        let name: Arc<str> = matcher.name.to_ascii_lowercase().into();
        // The HTTP/1 and HTTP/2 spellings of the same thing.
        let name = if &*name == "host" { ":authority".into() } else { name };
        Ok(Self { name, want, invert: matcher.invert_match, missing_is_empty: matcher.treat_missing_header_as_empty })
    }

    /// Whether the condition holds for `request`.
    #[must_use]
    pub fn is_match(&self, request: &impl RequestView) -> bool {
        request.with_header(&self.name, |value| self.holds(value))
    }

    /// Whether the condition holds for a header with this value, `None` when it is absent.
    #[must_use]
    pub fn holds(&self, value: Option<&[u8]>) -> bool {
        let value = if value.is_none() && self.missing_is_empty { Some(&b""[..]) } else { value };
        match (&self.want, value) {
            (HeaderWant::Present(want), there) => (there.is_some() == *want) != self.invert,
            // As in Envoy: a missing header never satisfies a value matcher, unless the match is inverted.
            (HeaderWant::String(_) | HeaderWant::Range(_), None) => self.invert,
            (HeaderWant::String(matcher), Some(value)) => matcher.is_match(value) != self.invert,
            (HeaderWant::Range(range), Some(value)) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
                number.is_some_and(|n| range.contains(&n)) != self.invert
            }
        }
    }
}

impl StringMatch {
    /// The condition in words, for traces.
    #[must_use]
    pub fn describe(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Self::Exact(v, _) => format!("`{}`", text(v)),
            Self::Prefix(v, _) => format!("`{}…`", text(v)),
            Self::Suffix(v, _) => format!("`…{}`", text(v)),
            Self::Contains(v, _) => format!("`…{}…`", text(v)),
            Self::Regex(regex) => format!("like /{}/", regex.source()),
        }
    }
}

impl HeaderMatch {
    /// The condition in words, for traces.
    #[must_use]
    pub fn describe(&self) -> String {
        let want = match &self.want {
            HeaderWant::Present(true) => "present".to_owned(),
            HeaderWant::Present(false) => "absent".to_owned(),
            HeaderWant::String(matcher) => matcher.describe(),
            HeaderWant::Range(range) => format!("from {} to below {}", range.start, range.end),
        };
        if self.invert { format!("other than {want}") } else { want }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PlainRequest;

    fn matcher(pattern: xmatcher::string_matcher::MatchPattern, ignore_case: bool) -> StringMatch {
        StringMatch::from_xds(&xmatcher::StringMatcher { ignore_case, match_pattern: Some(pattern) }).unwrap()
    }

    #[test]
    fn the_cookie_expression_of_the_tutorials_matches() {
        let regex = FullRegex::new("^(.*?;)?(user=jason)(;.*)?$").unwrap();
        assert!(regex.is_match(b"a=b;user=jason;c=d") && regex.is_match(b"user=jason") && !regex.is_match(b"user=jasonx"));
    }

    #[test]
    fn an_expression_matches_the_whole_value() {
        assert!(!FullRegex::new("b").unwrap().is_match(b"abc"));
    }

    #[test]
    fn an_invalid_expression_is_refused_with_its_text() {
        let error = FullRegex::new("(").unwrap_err();
        assert!(error.why.contains("`(`"), "{error:?}");
    }

    #[test]
    fn case_can_be_ignored() {
        use xmatcher::string_matcher::MatchPattern::{Contains, Prefix};
        assert!(matcher(Prefix("Ab".into()), true).is_match(b"aBc"));
        assert!(!matcher(Prefix("Ab".into()), false).is_match(b"aBc"));
        assert!(matcher(Contains("B".into()), true).is_match(b"abc"));
    }

    #[test]
    fn a_missing_header_fits_only_an_inverted_match() {
        let header = |invert| HeaderMatch { name: "x".into(), want: HeaderWant::String(StringMatch::exact("v")), invert, missing_is_empty: false };
        let request = PlainRequest::get("h", "/");
        assert!(!header(false).is_match(&request) && header(true).is_match(&request));
    }

    #[test]
    fn several_values_are_joined_by_commas() {
        let header = HeaderMatch { name: "x".into(), want: HeaderWant::String(StringMatch::exact("1,2")), invert: false, missing_is_empty: false };
        assert!(header.is_match(&PlainRequest::get("h", "/").with("x", "1").with("x", "2")));
    }

    #[test]
    fn a_range_is_half_open() {
        let header = HeaderMatch { name: "x".into(), want: HeaderWant::Range(1..3), invert: false, missing_is_empty: false };
        let holds = |v: &str| header.is_match(&PlainRequest::get("h", "/").with("x", v));
        assert!(holds("2") && !holds("3") && !holds("two"));
    }
}
