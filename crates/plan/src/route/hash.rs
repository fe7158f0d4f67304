//! What consistent hashing hashes.
//!
//! - Reads: `config.route.v3.RouteAction.HashPolicy` (Envoy), written from `DestinationRule…consistentHash`.
//! - Twin: `kinds/src/destination_rule/load_balancer.rs`.
//! - Rule: bit for bit Envoy's: XXH64 with seed 0, several policies combined by rotate and xor.
//! - Not here: finding the endpoint of a hash (`lb/ring_hash.rs`, `lb/maglev.rs`), making the cookie (`proxy`).

use crate::names::Name;
use crate::rejected::{Invalid, Within};
use crate::request::{Connection, RequestView, query_only};
use crate::route::matcher::query_value;
use crate::time::duration;
use lateen_envoy_api::envoy::config::route::v3 as xroute;
use std::time::Duration;
use xxhash_rust::xxh64::xxh64;

/// One source of a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashPolicy {
    /// What is hashed.
    pub source: HashSource,
    /// Stop here once there is a hash.
    pub terminal: bool,
}

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashSource {
    /// A request header, lower case.
    Header(Name),
    /// A cookie.
    Cookie {
        /// Its name.
        name: Name,
        /// Its path when the proxy makes it; empty: none.
        path: Name,
        /// Its life when the proxy makes it; zero: a session's. `None`: never made.
        ttl: Option<Duration>,
    },
    /// The client's address.
    SourceIp,
    /// A query parameter.
    Query(Name),
}

/// A cookie that the proxy has to make, for `hash` to hold again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewCookie<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Its path; empty: none.
    pub path: &'a Name,
    /// Its life; zero: a session's.
    pub ttl: Duration,
    /// Its value, written in hexadecimal.
    pub value: u64,
}

/// The hash of `request`, `None` when no policy finds anything; and the cookie to make. `draw` becomes its value. Pure.
#[must_use]
pub fn hash<'a>(
    policies: &'a [HashPolicy],
    request: &impl RequestView,
    connection: &Connection<'_>,
    draw: u64,
) -> (Option<u64>, Option<NewCookie<'a>>) {
    let (mut hash, mut made) = (None, None);
    for policy in policies {
        let one = match &policy.source {
            HashSource::Header(name) => request.with_header(name, |value| value.map(|v| xxh64(v, 0))),
            HashSource::SourceIp => Some(xxh64(connection.remote.ip().to_string().as_bytes(), 0)),
            HashSource::Query(name) => query_value(query_only(request.path()), name.as_bytes()).map(|v| xxh64(v, 0)),
            HashSource::Cookie { name, path, ttl } => match cookie(request, name.as_bytes()) {
                Some(value) => Some(xxh64(value, 0)),
                None => ttl.map(|ttl| {
                    made = Some(NewCookie { name, path, ttl, value: draw });
                    xxh64(format!("{draw:016x}").as_bytes(), 0)
                }),
            },
        };
        if let Some(one) = one {
            // The old hash is rotated by one bit, so that order matters and equal parts do not cancel out.
            hash = Some(hash.map_or(one, |old: u64| old.rotate_left(1) ^ one));
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    (hash, made)
}

fn cookie<'a>(request: &'a impl RequestView, name: &[u8]) -> Option<&'a [u8]> {
    request.values("cookie").flat_map(|line| line.split(|b| *b == b';')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|b| *b == b'=')?;
        let value = pair.get(at + 1..)?;
        let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        (pair.get(..at)? == name && !value.is_empty()).then_some(value)
    })
}

impl HashPolicy {
    /// Reads a policy.
    ///
    /// # Errors
    /// A filter state source, a rewritten header.
    pub fn from_xds(given: &xroute::route_action::HashPolicy) -> Result<Self, Invalid> {
        use xroute::route_action::hash_policy::PolicySpecifier as P;
        let source = match &given.policy_specifier {
            Some(P::Header(h)) if h.regex_rewrite.is_some() => return Err(Invalid::unsupported("header.regex_rewrite", "hashing a rewritten header")),
            Some(P::Header(h)) => HashSource::Header(h.header_name.to_ascii_lowercase().into()),
            Some(P::Cookie(c)) => HashSource::Cookie {
                name: c.name.as_str().into(),
                path: c.path.as_str().into(),
                ttl: c.ttl.as_ref().map(duration).transpose().within("cookie.ttl")?,
            },
            Some(P::ConnectionProperties(_)) => HashSource::SourceIp,
            Some(P::QueryParameter(q)) => HashSource::Query(q.name.as_str().into()),
            Some(P::FilterState(f)) => return Err(Invalid::unsupported("filter_state", &f.key)),
            None => return Err(Invalid::new("policy_specifier", "is required")),
        };
        Ok(Self { source, terminal: given.terminal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PlainRequest;

    fn connection() -> Connection<'static> {
        let address = "10.0.0.1:1234".parse().unwrap();
        Connection { direct_remote: address, remote: address, local: address, server_name: "", peer: None, tls: false }
    }

    fn header(name: &str, terminal: bool) -> HashPolicy {
        HashPolicy { source: HashSource::Header(name.into()), terminal }
    }

    #[test]
    fn one_header_is_hashed_with_xxh64() {
        let request = PlainRequest::get("h", "/").with("x-user", "jason");
        let policies = [header("x-user", false)];
        let (got, made) = hash(&policies, &request, &connection(), 0);
        assert_eq!((got, made), (Some(xxh64(b"jason", 0)), None));
    }

    #[test]
    fn a_missing_header_gives_no_hash() {
        assert_eq!(hash(&[header("x-user", false)], &PlainRequest::get("h", "/"), &connection(), 0).0, None);
    }

    #[test]
    fn a_terminal_policy_ends_the_search() {
        let request = PlainRequest::get("h", "/").with("a", "1").with("b", "2");
        let (got, _) = hash(&[header("a", true), header("b", false)], &request, &connection(), 0);
        assert_eq!(got, Some(xxh64(b"1", 0)));
    }

    #[test]
    fn a_missing_cookie_with_a_life_is_made() {
        let source = HashSource::Cookie { name: "user".into(), path: "/".into(), ttl: Some(Duration::ZERO) };
        let policies = [HashPolicy { source, terminal: false }];
        let (got, made) = hash(&policies, &PlainRequest::get("h", "/"), &connection(), 7);
        assert_eq!(got, Some(xxh64(b"0000000000000007", 0)));
        assert_eq!(made.map(|c| c.value), Some(7));
    }
}
