//! Authorization: policies of permissions and principals, evaluated per request or connection.
//!
//! - Reads: `config.rbac.v3.RBAC` (Envoy), written from `AuthorizationPolicy`, see `from_xds`.
//! - Twin: `kinds/src/authorization_policy`.
//! - Rule: policies are tried in the order of their names, as Envoy's sorted map does, so that the named match is the same.
//! - Not here: evaluation (`eval`), the answer (`proxy/src/filters/rbac.rs`).

mod eval;
mod from_xds;

pub use eval::{NetworkSubject, Subject, Verdict};
pub use from_xds::{rbac, rules};
pub(crate) use from_xds::{cidr, network_rbac};

use crate::names::Name;
use crate::string_match::{HeaderMatch, StringMatch};
use ipnet::IpNet;

/// One authorization filter: enforced rules and shadow rules. Source: `extensions.filters.{http,network}.rbac.v3.RBAC`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rbac {
    /// Rules that decide. `None`: everything is allowed.
    pub rules: Option<Rules>,
    /// Rules that are only reported.
    pub shadow: Option<Rules>,
    /// Prefix of the keys under which shadow results are reported.
    pub shadow_prefix: Name,
    /// Prefix of its statistics.
    pub stat_prefix: Name,
}

/// A set of policies with one action.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// What a match means.
    pub action: Action,
    /// Sorted by name.
    pub policies: Vec<Policy>,
}

/// What a match means. Source: `RBAC.Action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Only matches pass.
    Allow,
    /// Matches are refused.
    Deny,
    /// Matches are noted; everything passes.
    Log,
}

/// One policy: any permission and any principal.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name, such as `ns[default]-policy[deny]-rule[0]`.
    pub name: Name,
    /// What may be done.
    pub permissions: Vec<Permission>,
    /// By whom.
    pub principals: Vec<Principal>,
}

/// What is done. Source: `Permission`.
#[derive(Clone, Debug, PartialEq)]
pub enum Permission {
    /// Anything.
    Any,
    /// All of these.
    And(Vec<Permission>),
    /// One of these.
    Or(Vec<Permission>),
    /// Not this.
    Not(Box<Permission>),
    /// A header.
    Header(HeaderMatch),
    /// The path without query.
    Path(StringMatch),
    /// The path, by template such as `/a/{*}/b/{**}`.
    PathTemplate(crate::route::matcher::UriTemplate),
    /// The destination's address.
    DestinationIp(IpNet),
    /// The destination's port.
    DestinationPort(u16),
    /// The destination's port in `start..end`.
    DestinationPortRange(std::ops::Range<u32>),
    /// The TLS server name.
    ServerName(StringMatch),
    /// Dynamic metadata.
    Metadata(MetadataMatch),
}

/// By whom. Source: `Principal`.
#[derive(Clone, Debug, PartialEq)]
pub enum Principal {
    /// Anyone.
    Any,
    /// All of these.
    And(Vec<Principal>),
    /// One of these.
    Or(Vec<Principal>),
    /// Not this.
    Not(Box<Principal>),
    /// A peer with a verified certificate; its name, if one is asked for. The name is the first URI, else DNS name, else the subject.
    Authenticated(Option<StringMatch>),
    /// The peer's address, before `x-forwarded-for`.
    DirectRemoteIp(IpNet),
    /// The client's address, after `x-forwarded-for`.
    RemoteIp(IpNet),
    /// A header.
    Header(HeaderMatch),
    /// The path without query.
    Path(StringMatch),
    /// Dynamic metadata.
    Metadata(MetadataMatch),
    /// Filter state; `io.istio.peer_principal` is the only key Istio uses.
    FilterState(Name, StringMatch),
}

/// A condition on dynamic metadata. Source: `MetadataMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataMatch {
    /// The filter that wrote it.
    pub filter: Name,
    /// Keys from the outside in.
    pub path: Vec<Name>,
    /// What the value must be.
    pub value: ValueMatch,
    /// The condition holds when the value does not match.
    pub invert: bool,
}

/// A condition on a value. Source: `ValueMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatch {
    /// Null.
    Null,
    /// Text.
    String(StringMatch),
    /// Truth value.
    Bool(bool),
    /// There at all (or not).
    Present(bool),
    /// Some element of the list.
    OneOf(Box<ValueMatch>),
    /// One of these.
    Or(Vec<ValueMatch>),
}
