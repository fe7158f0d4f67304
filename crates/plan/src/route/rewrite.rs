//! Rewrites of path and host, and redirects.
//!
//! - Reads: `config.route.v3.{RouteAction, RedirectAction}` (Envoy), written from `VirtualService.http[].{rewrite, redirect}`.
//! - Twin: `kinds/src/virtual_service/rewrite.rs`.
//! - Rule: pure; the new value is written into a buffer that the caller reuses.
//! - Not here: which headers remember the old values (`proxy/src/http`).

use crate::names::Name;
use crate::rejected::{Invalid, Within};
use crate::request::{RequestView, path_only};
use crate::route::matcher::PathMatch;
use crate::string_match::regex_builder;
use lateen_envoy_api::envoy::config::route::v3 as xroute;
use lateen_envoy_api::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use regex::bytes::Regex;
use std::sync::Arc;

/// A new path.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// What the route's path condition matched is replaced by this.
    Prefix(Arc<[u8]>),
    /// Every match is replaced; the query stays.
    Regex(Substitute),
}

/// A search expression and its replacement, whose groups are written `\1`.
#[derive(Clone, Debug)]
pub struct Substitute {
    search: Regex,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Vec<u8>),
    Group(usize),
}

/// A new host. Source: `RouteAction.host_rewrite_specifier`.
#[derive(Clone, Debug)]
pub enum HostRewrite {
    /// This.
    Literal(Name),
    /// The chosen endpoint's host name.
    Auto,
    /// The value of this request header.
    Header(Name),
    /// The path, substituted.
    PathRegex(Substitute),
}

/// A redirect. Empty and `None` mean «as requested».
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// New scheme; empty: as requested.
    pub scheme: Name,
    /// New host; empty: as requested.
    pub host: Name,
    /// New port; 0: as requested, or the scheme's own when the scheme changes.
    pub port: u16,
    /// New path.
    pub path: Option<RedirectPath>,
    /// Drop the query.
    pub strip_query: bool,
}

/// A redirect's new path.
#[derive(Clone, Debug)]
pub enum RedirectPath {
    /// The whole path; may hold a query of its own.
    Full(Name),
    /// As [`PathRewrite`].
    Rewrite(PathRewrite),
}

impl PathRewrite {
    /// Writes the new path and query of a request whose path was taken by `matched` into `out`. Pure.
    pub fn write(&self, matched: &PathMatch, path_and_query: &[u8], out: &mut Vec<u8>) {
        let path = path_only(path_and_query);
        let tail = path_and_query.get(path.len()..).unwrap_or_default();
        match self {
            Self::Prefix(new) => {
                let taken = match matched {
                    PathMatch::Prefix(want, _) | PathMatch::SeparatedPrefix(want, _) => want.len().min(path.len()),
                    PathMatch::Exact(..) | PathMatch::Regex(_) | PathMatch::Template(_) | PathMatch::Connect => path.len(),
                };
                out.extend_from_slice(new);
                out.extend_from_slice(path.get(taken..).unwrap_or_default());
            }
            Self::Regex(substitute) => substitute.write(path, out),
        }
        out.extend_from_slice(tail);
    }
}

impl Substitute {
    /// Reads a substitution.
    ///
    /// # Errors
    /// An invalid expression, or a replacement that names a group the expression lacks.
    pub fn from_xds(given: &RegexMatchAndSubstitute) -> Result<Self, Invalid> {
        let pattern = given.pattern.as_ref().ok_or_else(|| Invalid::new("pattern", "is required"))?;
        let search = regex_builder(&pattern.regex).within("pattern")?;
        let parts = substitution(&given.substitution, search.captures_len()).within("substitution")?;
        Ok(Self { search, parts })
    }

    /// Writes `input` with every match replaced.
    pub fn write(&self, input: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        for found in self.search.captures_iter(input) {
            let Some(whole) = found.get(0) else { continue };
            out.extend_from_slice(input.get(at..whole.start()).unwrap_or_default());
            for part in &self.parts {
                match part {
                    Part::Text(text) => out.extend_from_slice(text),
                    Part::Group(group) => out.extend_from_slice(found.get(*group).map_or(&b""[..], |m| m.as_bytes())),
                }
            }
            at = whole.end();
        }
        out.extend_from_slice(input.get(at..).unwrap_or_default());
    }
}

/// RE2's replacement syntax: `\0`…`\9` are groups, `\\` is a backslash.
fn substitution(text: &str, groups: usize) -> Result<Vec<Part>, Invalid> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            literal.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => literal.push(b'\\'),
            Some(digit @ b'0'..=b'9') => {
                let group = usize::from(digit - b'0');
                if group >= groups {
                    return Err(Invalid::new("", format!("`{text}` names group {group}, which the expression lacks")));
                }
                parts.push(Part::Text(std::mem::take(&mut literal)));
                parts.push(Part::Group(group));
            }
            _ => return Err(Invalid::new("", format!("`{text}` has a lone backslash"))),
        }
    }
    parts.push(Part::Text(literal));
    Ok(parts)
}

impl Redirect {
    /// Writes the `location` of `request`, whose path was taken by `matched`, into `out`. Pure.
    pub fn write_location(&self, request: &impl RequestView, matched: &PathMatch, out: &mut Vec<u8>) {
        let old_scheme = request.scheme();
        let scheme = if self.scheme.is_empty() { old_scheme } else { self.scheme.as_bytes() };
        out.extend_from_slice(scheme);
        out.extend_from_slice(b"://");
        let (host, old_port) = split_port(request.authority());
        let new_host = if self.host.is_empty() { host } else { self.host.as_bytes() };
        out.extend_from_slice(new_host);
        if self.port > 0 {
            out.extend_from_slice(format!(":{}", self.port).as_bytes());
        } else if self.host.is_empty()
            && let Some(port) = old_port
        {
            // A port that was the old scheme's own does not survive a change of scheme.
            let own = (old_scheme == b"http" && port == b"80") || (old_scheme == b"https" && port == b"443");
            if !(own && scheme != old_scheme) {
                out.push(b':');
                out.extend_from_slice(port);
            }
        }
        self.write_path(request.path(), matched, out);
    }

    fn write_path(&self, path_and_query: &[u8], matched: &PathMatch, out: &mut Vec<u8>) {
        let old = if self.strip_query { path_only(path_and_query) } else { path_and_query };
        match &self.path {
            None => out.extend_from_slice(old),
            Some(RedirectPath::Rewrite(rewrite)) => rewrite.write(matched, old, out),
            Some(RedirectPath::Full(new)) => {
                out.extend_from_slice(new.as_bytes());
                if !self.strip_query && !new.contains('?') {
                    out.extend_from_slice(old.get(path_only(old).len()..).unwrap_or_default());
                }
            }
        }
    }

    /// Reads a redirect.
    ///
    /// # Errors
    /// An unknown status, a port above 65535, an invalid expression.
    pub fn from_xds(given: &xroute::RedirectAction) -> Result<Self, Invalid> {
        use xroute::redirect_action::{PathRewriteSpecifier as P, RedirectResponseCode as C, SchemeRewriteSpecifier as S};
        let status = match C::try_from(given.response_code) {
            Ok(C::MovedPermanently) => 301,
            Ok(C::Found) => 302,
            Ok(C::SeeOther) => 303,
            Ok(C::TemporaryRedirect) => 307,
            Ok(C::PermanentRedirect) => 308,
            Err(_) => return Err(Invalid::new("response_code", format!("{} is not known", given.response_code))),
        };
        let scheme = match &given.scheme_rewrite_specifier {
            Some(S::HttpsRedirect(true)) => "https".into(),
            Some(S::SchemeRedirect(scheme)) => scheme.as_str().into(),
            Some(S::HttpsRedirect(false)) | None => "".into(),
        };
        let path = match &given.path_rewrite_specifier {
            None => None,
            Some(P::PathRedirect(p)) if p.is_empty() => None,
            Some(P::PrefixRewrite(p)) if p.is_empty() => None,
            Some(P::PathRedirect(p)) => Some(RedirectPath::Full(p.as_str().into())),
            Some(P::PrefixRewrite(p)) => Some(RedirectPath::Rewrite(PathRewrite::Prefix(p.as_bytes().into()))),
            Some(P::PathRewrite(_)) => return Err(Invalid::unsupported("path_rewrite", "a formatted path")),
            Some(P::RegexRewrite(r)) => Some(RedirectPath::Rewrite(PathRewrite::Regex(Substitute::from_xds(r).within("regex_rewrite")?))),
        };
        let port = u16::try_from(given.port_redirect).map_err(|_| Invalid::new("port_redirect", format!("{} is above 65535", given.port_redirect)))?;
        Ok(Self { status, scheme, host: given.host_redirect.as_str().into(), port, path, strip_query: given.strip_query })
    }
}

/// Host and port of an authority; the port is `None` when there is none.
#[must_use]
pub fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(at) = authority.iter().rposition(|b| *b == b':') else { return (authority, None) };
    let (host, port) = (authority.get(..at).unwrap_or_default(), authority.get(at + 1..).unwrap_or_default());
    // A colon inside `[…]` belongs to an IPv6 address.
    let inside = authority.iter().rposition(|b| *b == b']').is_some_and(|close| close > at);
    if inside || port.is_empty() || !port.iter().all(u8::is_ascii_digit) { (authority, None) } else { (host, Some(port)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PlainRequest;
    use lateen_envoy_api::envoy::r#type::matcher::v3::RegexMatcher;

    fn rewritten(rewrite: &PathRewrite, matched: &PathMatch, path: &str) -> String {
        let mut out = Vec::new();
        rewrite.write(matched, path.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_prefix_rewrite_keeps_the_rest_and_the_query() {
        let matched = PathMatch::Prefix(b"/old"[..].into(), true);
        assert_eq!(rewritten(&PathRewrite::Prefix(b"/new"[..].into()), &matched, "/old/x?q=1"), "/new/x?q=1");
    }

    #[test]
    fn an_exact_match_is_replaced_whole() {
        let matched = PathMatch::Exact(b"/old"[..].into(), true);
        assert_eq!(rewritten(&PathRewrite::Prefix(b"/new"[..].into()), &matched, "/old?q"), "/new?q");
    }

    #[test]
    fn a_regex_rewrite_swaps_groups() {
        let substitute = Substitute::from_xds(&RegexMatchAndSubstitute {
            pattern: Some(RegexMatcher { regex: "^/a/(.*)/b/(.*)$".into(), ..Default::default() }),
            substitution: r"/\2/\1".into(),
        })
        .unwrap();
        let matched = PathMatch::Prefix(b"/"[..].into(), true);
        assert_eq!(rewritten(&PathRewrite::Regex(substitute), &matched, "/a/x/b/y?q"), "/y/x?q");
    }

    #[test]
    fn a_redirect_to_https_drops_port_80() {
        let redirect = Redirect { status: 301, scheme: "https".into(), host: "".into(), port: 0, path: None, strip_query: false };
        let mut out = Vec::new();
        redirect.write_location(&PlainRequest::get("a.example:80", "/x?y"), &PathMatch::Prefix(b"/"[..].into(), true), &mut out);
        assert_eq!(out, b"https://a.example/x?y");
    }

    #[test]
    fn a_redirect_with_host_and_path_keeps_the_query() {
        let redirect = Redirect {
            status: 302,
            scheme: "".into(),
            host: "other.example".into(),
            port: 0,
            path: Some(RedirectPath::Full("/new".into())),
            strip_query: false,
        };
        let mut out = Vec::new();
        redirect.write_location(&PlainRequest::get("a.example:8080", "/old?x=1"), &PathMatch::Prefix(b"/"[..].into(), true), &mut out);
        assert_eq!(out, b"http://other.example/new?x=1");
    }

    #[test]
    fn ports_are_split_off_but_not_ipv6_groups() {
        assert_eq!(split_port(b"a:80"), (&b"a"[..], Some(&b"80"[..])));
        assert_eq!(split_port(b"[::1]"), (&b"[::1]"[..], None));
        assert_eq!(split_port(b"[::1]:80"), (&b"[::1]"[..], Some(&b"80"[..])));
    }
}
