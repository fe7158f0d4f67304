//! Conditions of a route: path, headers, query, chance.
//!
//! - Reads: `config.route.v3.RouteMatch` (Envoy), written from `VirtualService.http[].match`.
//! - Twin: `kinds/src/virtual_service/http_match.rs`.
//! - Rule: cheap conditions come first; regular expressions were compiled when the table was read.
//! - Not here: the order of routes (`decide`).

use crate::fraction::Fraction;
use crate::names::Name;
use crate::rejected::{Invalid, Within};
use crate::request::{RequestView, path_only, query_only};
use crate::string_match::{FullRegex, HeaderMatch, StringMatch};
use lateen_envoy_api::envoy::config::route::v3 as xroute;
use lateen_envoy_api::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use std::sync::Arc;

/// Which requests a route takes: all conditions hold.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    /// Headers.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters.
    pub query: Vec<QueryMatch>,
    /// Chance. `None`: always.
    pub fraction: Option<Fraction>,
    /// Only gRPC requests.
    pub grpc: bool,
}

/// A condition on the path without query.
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    /// Starts with; the flag says whether case matters.
    Prefix(Arc<[u8]>, bool),
    /// Equal.
    Exact(Arc<[u8]>, bool),
    /// Equal, or starts with it followed by `/`.
    SeparatedPrefix(Arc<[u8]>, bool),
    /// The whole path matches.
    Regex(FullRegex),
    /// A template such as `/a/{name}/{**}`.
    Template(UriTemplate),
    /// A CONNECT request.
    Connect,
}

/// A condition on one query parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryMatch {
    /// Its name.
    pub name: Name,
    /// What it must be. `None`: there at all.
    pub want: Option<StringMatch>,
    /// Without [`Self::want`]: there (`true`) or absent.
    pub present: bool,
}

/// Why a route did not take a request; for traces.
#[derive(Clone, Debug, PartialEq)]
pub enum Miss<'a> {
    /// The path.
    Path(&'a PathMatch),
    /// This header.
    Header(&'a HeaderMatch),
    /// This query parameter.
    Query(&'a QueryMatch),
    /// It is not gRPC.
    Grpc,
    /// The draw.
    Fraction(Fraction),
}

impl RouteMatch {
    /// The first condition that does not hold, or `None` when the route takes `request`. Pure.
    pub fn miss(&self, request: &impl RequestView, draw: u64) -> Option<Miss<'_>> {
        if !self.path.is_match(request) {
            return Some(Miss::Path(&self.path));
        }
        if let Some(fraction) = self.fraction.filter(|f| !f.hit(draw)) {
            return Some(Miss::Fraction(fraction));
        }
        if let Some(header) = self.headers.iter().find(|h| !h.is_match(request)) {
            return Some(Miss::Header(header));
        }
        if let Some(query) = self.query.iter().find(|q| !q.is_match(query_only(request.path()))) {
            return Some(Miss::Query(query));
        }
        (self.grpc && !is_grpc(request)).then_some(Miss::Grpc)
    }

    /// Reads the conditions.
    ///
    /// # Errors
    /// An unsupported condition, an invalid expression, a missing path.
    pub fn from_xds(given: &xroute::RouteMatch) -> Result<Self, Invalid> {
        let unsupported = |field: &str| Err(Invalid::unsupported(field, "this condition"));
        if given.tls_context.is_some() {
            return unsupported("tls_context");
        }
        if !given.dynamic_metadata.is_empty() {
            return unsupported("dynamic_metadata");
        }
        if !given.filter_state.is_empty() {
            return unsupported("filter_state");
        }
        if !given.cookies.is_empty() {
            return unsupported("cookies");
        }
        let list = given.headers.iter().enumerate();
        let headers = list.map(|(i, h)| HeaderMatch::from_xds(h).within(format!("headers[{i}]"))).collect::<Result<_, _>>()?;
        let list = given.query_parameters.iter().enumerate();
        let query = list.map(|(i, q)| QueryMatch::from_xds(q).within(format!("query_parameters[{i}]"))).collect::<Result<_, _>>()?;
        let fraction = given.runtime_fraction.as_ref().map(|f| Fraction::from_runtime(Some(f))).transpose().within("runtime_fraction")?;
        Ok(Self { path: PathMatch::from_xds(given)?, headers, query, fraction, grpc: given.grpc.is_some() })
    }
}

fn is_grpc(request: &impl RequestView) -> bool {
    request.with_header("content-type", |value| {
        let rest = value.and_then(|v| v.strip_prefix(b"application/grpc"));
        rest.is_some_and(|r| r.is_empty() || r.starts_with(b"+") || r.starts_with(b";"))
    })
}

impl PathMatch {
    /// Whether the path of `request` fits.
    #[must_use]
    pub fn is_match(&self, request: &impl RequestView) -> bool {
        let path = path_only(request.path());
        match self {
            Self::Prefix(want, case) => path.get(..want.len()).is_some_and(|head| same(head, want, *case)),
            Self::Exact(want, case) => same(path, want, *case),
            Self::SeparatedPrefix(want, case) => {
                path.get(..want.len()).is_some_and(|head| same(head, want, *case)) && matches!(path.get(want.len()), None | Some(b'/'))
            }
            Self::Regex(regex) => regex.is_match(path),
            Self::Template(template) => template.is_match(path),
            Self::Connect => request.method() == b"CONNECT",
        }
    }

    /// The condition in words, for traces.
    #[must_use]
    pub fn describe(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Self::Prefix(v, _) => format!("`{}…`", text(v)),
            Self::Exact(v, _) => format!("`{}`", text(v)),
            Self::SeparatedPrefix(v, _) => format!("`{}` or below", text(v)),
            Self::Regex(regex) => format!("like /{}/", regex.source()),
            Self::Template(template) => format!("of the form `{}`", template.source()),
            Self::Connect => "a CONNECT request".to_owned(),
        }
    }

    fn from_xds(given: &xroute::RouteMatch) -> Result<Self, Invalid> {
        use xroute::route_match::PathSpecifier as P;
        let case = given.case_sensitive.as_ref().is_none_or(|v| v.value);
        Ok(match &given.path_specifier {
            Some(P::Prefix(v)) => Self::Prefix(v.as_bytes().into(), case),
            Some(P::Path(v)) => Self::Exact(v.as_bytes().into(), case),
            Some(P::PathSeparatedPrefix(v)) => {
                if !v.starts_with('/') || v.ends_with('/') || v.contains(['?', '#']) {
                    return Err(Invalid::new("path_separated_prefix", format!("`{v}` must start with `/`, not end with it, and hold no query")));
                }
                Self::SeparatedPrefix(v.as_bytes().into(), case)
            }
            Some(P::SafeRegex(r)) => Self::Regex(FullRegex::new(&r.regex).within("safe_regex")?),
            Some(P::ConnectMatcher(_)) => Self::Connect,
            Some(P::PathMatchPolicy(extension)) => {
                let any = extension.typed_config.as_ref().ok_or_else(|| Invalid::new("path_match_policy", "has no typed_config"))?;
                let config: UriTemplateMatchConfig = crate::any::unpack(any).within("path_match_policy")?;
                Self::Template(UriTemplate::new(&config.path_template).within("path_match_policy")?)
            }
            None => return Err(Invalid::new("path_specifier", "is required")),
        })
    }
}

fn same(a: &[u8], b: &[u8], case_sensitive: bool) -> bool {
    if case_sensitive { a == b } else { a.eq_ignore_ascii_case(b) }
}

impl QueryMatch {
    /// Whether the parameter in `query` (what follows `?`) fits.
    #[must_use]
    pub fn is_match(&self, query: &[u8]) -> bool {
        let value = query_value(query, self.name.as_bytes());
        match &self.want {
            None => value.is_some() == self.present,
            Some(want) => value.is_some_and(|v| want.is_match(v)),
        }
    }

    fn from_xds(given: &xroute::QueryParameterMatcher) -> Result<Self, Invalid> {
        use xroute::query_parameter_matcher::QueryParameterMatchSpecifier as S;
        let (want, present) = match &given.query_parameter_match_specifier {
            None => (None, true),
            Some(S::PresentMatch(there)) => (None, *there),
            Some(S::StringMatch(m)) => (Some(StringMatch::from_xds(m).within("string_match")?), true),
        };
        Ok(Self { name: given.name.as_str().into(), want, present })
    }
}

/// The first value of `name` in a query, not decoded, as Envoy compares it.
pub(crate) fn query_value<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|b| *b == b'&').find_map(|pair| {
        let at = pair.iter().position(|b| *b == b'=');
        let key = at.map_or(Some(pair), |at| pair.get(..at))?;
        (key == name && !key.is_empty()).then(|| at.and_then(|at| pair.get(at + 1..)).unwrap_or_default())
    })
}

/// A path template: literals, `*` or `{name}` for one segment, `**` or `{name=**}` for the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct UriTemplate {
    source: Name,
    regex: FullRegex,
}

impl UriTemplate {
    /// Compiles `template`.
    ///
    /// # Errors
    /// When it does not start with `/` or is malformed.
    pub fn new(template: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new("path_template", format!("`{template}` {why}"));
        let rest = template.strip_prefix('/').ok_or_else(|| bad("does not start with `/`"))?;
        let mut pattern = String::new();
        let mut rest_taken = false;
        for segment in rest.split('/') {
            pattern.push('/');
            let inner = segment.strip_prefix('{').and_then(|s| s.find('}').map(|at| (&s[..at], &s[at + 1..])));
            let (glob, suffix) = match (segment, inner) {
                ("*" | "{*}", _) => ("*", ""),
                ("**" | "{**}", _) => ("**", ""),
                (_, Some((name, suffix))) => (name.split_once('=').map_or("*", |(_, g)| g), suffix),
                (_, None) if segment.contains(['{', '}', '*']) => return Err(bad("has an operator in the middle of a segment")),
                (_, None) => ("", ""),
            };
            match glob {
                "" => pattern.push_str(&regex::escape(segment)),
                _ if rest_taken => return Err(bad("has an operator after `**`")),
                "*" => pattern.push_str("[^/]+"),
                "**" => {
                    rest_taken = true;
                    pattern.push_str(".*");
                }
                _ => return Err(bad("has an unknown operator")),
            }
            pattern.push_str(&regex::escape(suffix));
        }
        Ok(Self { source: template.into(), regex: FullRegex::new(&pattern)? })
    }

    /// Whether `path` (without query) fits.
    #[must_use]
    pub fn is_match(&self, path: &[u8]) -> bool {
        self.regex.is_match(path)
    }

    /// The template as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PlainRequest;

    fn path(given: xroute::route_match::PathSpecifier) -> PathMatch {
        PathMatch::from_xds(&xroute::RouteMatch { path_specifier: Some(given), ..Default::default() }).unwrap()
    }

    fn fits(matcher: &PathMatch, path: &str) -> bool {
        matcher.is_match(&PlainRequest::get("h", path))
    }

    #[test]
    fn the_query_is_not_part_of_the_path() {
        let matcher = path(xroute::route_match::PathSpecifier::Path("/a".into()));
        assert!(fits(&matcher, "/a?x=1"));
        assert!(!fits(&matcher, "/ab"));
    }

    #[test]
    fn a_separated_prefix_ends_at_a_slash() {
        let matcher = path(xroute::route_match::PathSpecifier::PathSeparatedPrefix("/a".into()));
        assert!(fits(&matcher, "/a") && fits(&matcher, "/a/b") && !fits(&matcher, "/ab"));
    }

    #[test]
    fn a_regex_matches_the_whole_path() {
        let matcher = path(xroute::route_match::PathSpecifier::SafeRegex(
            lateen_envoy_api::envoy::r#type::matcher::v3::RegexMatcher { regex: "/a|/b".into(), ..Default::default() },
        ));
        assert!(fits(&matcher, "/a") && fits(&matcher, "/b?q") && !fits(&matcher, "/a/b"));
    }

    #[test]
    fn templates_take_one_segment_or_the_rest() {
        let one = UriTemplate::new("/a/{*}/c").unwrap();
        assert!(one.is_match(b"/a/b/c") && !one.is_match(b"/a/b/b/c"));
        let rest = UriTemplate::new("/a/{**}").unwrap();
        assert!(rest.is_match(b"/a/b/c"));
        let ending = UriTemplate::new("/{**}/end").unwrap();
        assert!(ending.is_match(b"/a/b/end") && !ending.is_match(b"/a/b"));
        assert!(UriTemplate::new("/{**}/{*}").is_err());
    }

    #[test]
    fn query_parameters_are_found_by_name() {
        assert_eq!(query_value(b"a=1&b=2&b=3", b"b"), Some(&b"2"[..]));
        assert_eq!(query_value(b"ab=1", b"a"), None);
        assert_eq!(query_value(b"flag&a=1", b"flag"), Some(&b""[..]));
    }
}
