//! Evaluating authorization: does this request, or this connection, match a policy?
//!
//! - Rule: pure and free of allocation on the usual path; traced by the same code.
//! - Rule: conditions on headers and paths never hold for a bare connection, as in Envoy's network filter; negated they do.

use super::{Action, MetadataMatch, Permission, Policy, Principal, Rbac, Rules, ValueMatch};
use crate::names::Name;
use crate::request::{Connection, RequestView, path_only};
use crate::string_match::StringMatch;
use crate::trace::{Silent, Tracer};
use ipnet::IpNet;
use std::net::IpAddr;

/// What is being authorized: the connection, and the request if there is one.
pub trait Subject {
    /// The connection's facts.
    fn connection(&self) -> &Connection<'_>;
    /// Whether a condition on a header holds; `false` without a request.
    fn header(&self, matcher: &crate::string_match::HeaderMatch) -> bool;
    /// Calls `look` with the path without query; `false` without a request.
    fn path(&self, look: impl FnOnce(&[u8]) -> bool) -> bool;
    /// The dynamic metadata value at `path` of `filter`, as text.
    fn metadata(&self, filter: &str, path: &[Name]) -> Option<&str> {
        let _ = (filter, path);
        None
    }
}

/// A connection without a request: what the network filter sees.
#[derive(Clone, Copy, Debug)]
pub struct NetworkSubject<'a>(pub &'a Connection<'a>);

impl Subject for NetworkSubject<'_> {
    fn connection(&self) -> &Connection<'_> {
        self.0
    }
    fn header(&self, _matcher: &crate::string_match::HeaderMatch) -> bool {
        false
    }
    fn path(&self, _look: impl FnOnce(&[u8]) -> bool) -> bool {
        false
    }
}

/// A request on its connection: what the HTTP filter sees.
impl<R: RequestView> Subject for (&R, &Connection<'_>) {
    fn connection(&self) -> &Connection<'_> {
        self.1
    }
    fn header(&self, matcher: &crate::string_match::HeaderMatch) -> bool {
        matcher.is_match(self.0)
    }
    fn path(&self, look: impl FnOnce(&[u8]) -> bool) -> bool {
        look(path_only(self.0.path()))
    }
}

/// The outcome of one set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// The request passes.
    pub allowed: bool,
    /// The policy that matched. `None`: none did.
    pub policy: Option<&'a Name>,
}

impl Verdict<'_> {
    /// The response code details of a refusal, such as `rbac_access_denied_matched_policy[none]`.
    pub fn write_details(&self, out: &mut String) {
        out.push_str("rbac_access_denied_matched_policy[");
        // Envoy keeps details free of blanks, which would split the log line.
        out.extend(self.policy.map_or("none", |p| p).chars().map(|c| if c.is_ascii_whitespace() { '_' } else { c }));
        out.push(']');
    }
}

impl Rbac {
    /// The enforced outcome. Pure.
    #[must_use]
    pub fn decide(&self, subject: &impl Subject) -> Verdict<'_> {
        self.rules.as_ref().map_or(Verdict { allowed: true, policy: None }, |rules| rules.decide(subject))
    }

    /// The shadow outcome. `None`: there are no shadow rules.
    #[must_use]
    pub fn decide_shadow(&self, subject: &impl Subject) -> Option<Verdict<'_>> {
        self.shadow.as_ref().map(|rules| rules.decide(subject))
    }
}

impl Rules {
    /// The outcome. Pure.
    #[must_use]
    pub fn decide(&self, subject: &impl Subject) -> Verdict<'_> {
        self.decide_traced(subject, &mut Silent)
    }

    /// The same, telling `tracer` every policy that was looked at.
    pub fn decide_traced(&self, subject: &impl Subject, tracer: &mut impl Tracer) -> Verdict<'_> {
        let mut found = None;
        for policy in &self.policies {
            let (may, by) = (policy.permits(subject), policy.names(subject));
            tracer.note(|| {
                let word = |hit| if hit { "match" } else { "do not match" };
                format!("policy `{}`: permissions {}, principals {}", policy.name, word(may), word(by))
            });
            if may && by {
                found = Some(&policy.name);
                break;
            }
        }
        let allowed = match self.action {
            Action::Allow => found.is_some(),
            Action::Deny => found.is_none(),
            Action::Log => true,
        };
        tracer.note(|| format!("{:?} rules {}", self.action, if allowed { "let it pass" } else { "refuse it" }));
        Verdict { allowed, policy: found }
    }
}

impl Policy {
    fn permits(&self, subject: &impl Subject) -> bool {
        self.permissions.iter().any(|p| p.holds(subject))
    }
    fn names(&self, subject: &impl Subject) -> bool {
        self.principals.iter().any(|p| p.holds(subject))
    }
}

impl Permission {
    fn holds(&self, subject: &impl Subject) -> bool {
        let connection = subject.connection();
        match self {
            Self::Any => true,
            Self::And(all) => all.iter().all(|p| p.holds(subject)),
            Self::Or(any) => any.iter().any(|p| p.holds(subject)),
            Self::Not(inner) => !inner.holds(subject),
            Self::Header(matcher) => subject.header(matcher),
            Self::Path(matcher) => subject.path(|path| matcher.is_match(path)),
            Self::PathTemplate(template) => subject.path(|path| template.is_match(path)),
            Self::DestinationIp(net) => contains(net, connection.local.ip()),
            Self::DestinationPort(port) => connection.local.port() == *port,
            Self::DestinationPortRange(range) => range.contains(&u32::from(connection.local.port())),
            Self::ServerName(matcher) => matcher.is_match(connection.server_name.as_bytes()),
            Self::Metadata(matcher) => matcher.holds(subject),
        }
    }
}

impl Principal {
    fn holds(&self, subject: &impl Subject) -> bool {
        let connection = subject.connection();
        match self {
            Self::Any => true,
            Self::And(all) => all.iter().all(|p| p.holds(subject)),
            Self::Or(any) => any.iter().any(|p| p.holds(subject)),
            Self::Not(inner) => !inner.holds(subject),
            Self::Authenticated(name) => authenticated(connection, name.as_ref()),
            Self::DirectRemoteIp(net) => contains(net, connection.direct_remote.ip()),
            Self::RemoteIp(net) => contains(net, connection.remote.ip()),
            Self::Header(matcher) => subject.header(matcher),
            Self::Path(matcher) => subject.path(|path| matcher.is_match(path)),
            Self::Metadata(matcher) => matcher.holds(subject),
            Self::FilterState(key, matcher) => filter_state(connection, key, matcher),
        }
    }
}

fn authenticated(connection: &Connection<'_>, name: Option<&StringMatch>) -> bool {
    let Some(peer) = &connection.peer else { return false };
    let Some(name) = name else { return true };
    // Envoy looks at all URI names, else at all DNS names, else at the subject.
    if !peer.uri_sans.is_empty() {
        return peer.uri_sans.iter().any(|san| name.is_match(san.as_bytes()));
    }
    if !peer.dns_sans.is_empty() {
        return peer.dns_sans.iter().any(|san| name.is_match(san.as_bytes()));
    }
    name.is_match(peer.subject.as_bytes())
}

/// Istio keeps the peer's identity in filter state when it came over HBONE; here it is always the certificate's.
fn filter_state(connection: &Connection<'_>, key: &str, matcher: &StringMatch) -> bool {
    let uris = connection.peer.map_or(&[][..], |p| p.uri_sans);
    key == PEER_PRINCIPAL && uris.iter().any(|san| matcher.is_match(san.as_bytes()))
}

/// Filter state key of the peer's identity.
pub(super) const PEER_PRINCIPAL: &str = "io.istio.peer_principal";

impl MetadataMatch {
    fn holds(&self, subject: &impl Subject) -> bool {
        self.value.holds(subject.metadata(&self.filter, &self.path)) != self.invert
    }
}

impl ValueMatch {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::Null => false,
            Self::String(matcher) => value.is_some_and(|v| matcher.is_match(v.as_bytes())),
            Self::Bool(want) => value == Some(if *want { "true" } else { "false" }),
            Self::Present(want) => value.is_some() == *want,
            // A list is kept as its elements with commas; one element is itself.
            Self::OneOf(inner) => value.is_some_and(|v| v.split(',').any(|element| inner.holds(Some(element)))),
            Self::Or(any) => any.iter().any(|m| m.holds(value)),
        }
    }
}

/// An IPv4 address inside IPv6 is compared as IPv4.
fn contains(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{PeerCertificate, PlainRequest};
    use crate::string_match::{Case, HeaderMatch, HeaderWant};

    fn connection(peer: Option<PeerCertificate<'_>>) -> Connection<'_> {
        Connection {
            direct_remote: "10.244.0.9:4000".parse().unwrap(),
            remote: "10.244.0.9:4000".parse().unwrap(),
            local: "10.244.0.5:8080".parse().unwrap(),
            server_name: "",
            peer,
            tls: peer.is_some(),
        }
    }

    fn rules(action: Action, principal: Principal) -> Rules {
        let name = "ns[default]-policy[p]-rule[0]".into();
        Rules { action, policies: vec![Policy { name, permissions: vec![Permission::Any], principals: vec![principal] }] }
    }

    fn frontend() -> Principal {
        Principal::Authenticated(Some(StringMatch::exact("spiffe://cluster.local/ns/default/sa/frontend")))
    }

    #[test]
    fn allow_lets_only_the_named_identity_through() {
        let rules = rules(Action::Allow, frontend());
        let request = PlainRequest::get("payments", "/");
        for (identity, allowed) in [("frontend", true), ("other", false)] {
            let uris = [format!("spiffe://cluster.local/ns/default/sa/{identity}")];
            let peer = PeerCertificate { uri_sans: &uris, ..PeerCertificate::default() };
            assert_eq!(rules.decide(&(&request, &connection(Some(peer)))).allowed, allowed);
        }
        assert!(!rules.decide(&(&request, &connection(None))).allowed);
    }

    #[test]
    fn details_say_none_when_nothing_matched() {
        let rules = rules(Action::Allow, frontend());
        let mut details = String::new();
        rules.decide(&NetworkSubject(&connection(None))).write_details(&mut details);
        assert_eq!(details, "rbac_access_denied_matched_policy[none]");
    }

    #[test]
    fn details_name_the_policy_that_denied() {
        let rules = rules(Action::Deny, Principal::Any);
        let mut details = String::new();
        rules.decide(&NetworkSubject(&connection(None))).write_details(&mut details);
        assert_eq!(details, "rbac_access_denied_matched_policy[ns[default]-policy[p]-rule[0]]");
    }

    #[test]
    fn a_header_never_matches_a_bare_connection() {
        let header = HeaderMatch {
            name: ":method".into(),
            want: HeaderWant::String(StringMatch::Exact(b"GET"[..].into(), Case::Sensitive)),
            invert: false,
            missing_is_empty: false,
        };
        let rules = rules(Action::Deny, Principal::Header(header));
        assert!(rules.decide(&NetworkSubject(&connection(None))).allowed);
    }

    #[test]
    fn log_rules_never_refuse() {
        assert!(rules(Action::Log, Principal::Any).decide(&NetworkSubject(&connection(None))).allowed);
    }

    #[test]
    fn address_ranges_are_compared_with_the_peer() {
        let rules = rules(Action::Allow, Principal::DirectRemoteIp("10.244.0.0/16".parse().unwrap()));
        assert!(rules.decide(&NetworkSubject(&connection(None))).allowed);
    }
}
