//! Attributes: what a policy may ask about a request, by the name it has in `when`.
//!
//! - Reads: `from`, `to` and `when` of a rule.
//! - Writes: one permission or principal of `config.rbac.v3` for each value.
//! - Twin: `plan/src/rbac/`, which knows the same attributes.
//! - Rule: attributes of HTTP have no meaning on a TCP port: asking for one there is [`NoMatch::HttpOnly`].

use lateen_base::{SpiffeId, names};
use lateen_envoy_api::envoy::config::core::v3::TypedExtensionConfig;
use lateen_envoy_api::envoy::config::rbac::v3::{Permission, Principal, permission, principal};
use lateen_envoy_api::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use lateen_envoy_api::envoy::r#type::matcher::v3::{MetadataMatcher, PathMatcher, StringMatcher, path_matcher};

use super::matcher::{self, Pattern, escape};

/// Filter whose dynamic metadata holds the claims of a validated token.
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";

/// Where a rule is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// On requests.
    Http,
    /// On connections.
    Tcp,
}

/// Why a value gives no matcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMatch {
    /// The attribute exists only in HTTP.
    HttpOnly,
    /// The value has no meaning for the attribute.
    Invalid,
}

/// One thing a rule asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// `hosts`.
    Host,
    /// `methods`.
    Method,
    /// `paths`.
    Path,
    /// `ports`, `destination.port`.
    DestinationPort,
    /// `destination.ip`.
    DestinationIp,
    /// `connection.sni`.
    Sni,
    /// `experimental.envoy.filters.NAME[KEY]`.
    EnvoyFilter {
        /// Name of the filter that wrote the metadata.
        filter: &'a str,
        /// Key of the metadata.
        key: &'a str,
    },
    /// `ipBlocks`, `source.ip`: the address of the connection.
    SourceIp,
    /// `remoteIpBlocks`, `remote.ip`: the address of the client behind trusted proxies.
    RemoteIp,
    /// `namespaces`, `source.namespace`.
    SourceNamespace,
    /// `serviceAccounts`, `source.serviceAccount`; a name without namespace is of the policy's.
    SourceServiceAccount {
        /// Namespace of the policy.
        namespace: &'a str,
    },
    /// `trustDomains`, `source.trustDomain`.
    SourceTrustDomain,
    /// `principals`, `source.principal`.
    SourcePrincipal,
    /// `requestPrincipals`, `request.auth.principal`.
    RequestPrincipal,
    /// `request.headers[NAME]`.
    Header(&'a str),
    /// `request.auth.claims[A][B]`, `request.auth.audiences`, `request.auth.presenter`.
    Claim(Vec<&'a str>),
}

impl<'a> Attribute<'a> {
    /// The attribute called `key` in `when`; `None` for any other word. `namespace` is the policy's.
    #[must_use]
    pub fn of_key(key: &'a str, namespace: &'a str) -> Option<Self> {
        Some(match key {
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::Sni,
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::SourceNamespace,
            "source.serviceAccount" => Self::SourceServiceAccount { namespace },
            "source.trustDomain" => Self::SourceTrustDomain,
            "source.principal" => Self::SourcePrincipal,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::Claim(vec!["aud"]),
            "request.auth.presenter" => Self::Claim(vec!["azp"]),
            _ => return Self::of_bracketed(key),
        })
    }

    fn of_bracketed(key: &'a str) -> Option<Self> {
        let brackets = |start: &str| key.strip_prefix(start)?.strip_suffix(']');
        if let Some(name) = brackets("request.headers[") {
            return (!name.is_empty()).then_some(Self::Header(name));
        }
        if let Some(path) = brackets("request.auth.claims[") {
            let path: Vec<&str> = path.split("][").collect();
            return path.iter().all(|part| !part.is_empty()).then_some(Self::Claim(path));
        }
        // `experimental.` names the attribute; the filter's own name starts with `envoy.`.
        let (filter, key) = key.strip_prefix("experimental.").filter(|rest| rest.starts_with("envoy.filters."))?.strip_suffix(']')?.split_once('[')?;
        Some(Self::EnvoyFilter { filter, key })
    }

    /// Whether it is about what is called (a permission) rather than who calls (a principal).
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Host | Self::Method | Self::Path | Self::DestinationPort | Self::DestinationIp | Self::Sni | Self::EnvoyFilter { .. } => true,
            Self::SourceIp
            | Self::RemoteIp
            | Self::SourceNamespace
            | Self::SourceServiceAccount { .. }
            | Self::SourceTrustDomain
            | Self::SourcePrincipal
            | Self::RequestPrincipal
            | Self::Header(_)
            | Self::Claim(_) => false,
        }
    }

    /// Whether it exists only in HTTP.
    #[must_use]
    pub fn is_http_only(&self) -> bool {
        matches!(self, Self::Host | Self::Method | Self::Path | Self::RequestPrincipal | Self::Header(_) | Self::Claim(_))
    }

    /// Permissions for `values`, any of which will do.
    ///
    /// # Errors
    /// [`NoMatch`] for a value that gives none.
    pub(super) fn permissions(&self, values: &[String], layer: Layer) -> Vec<Result<Permission, NoMatch>> {
        if layer == Layer::Tcp && self.is_http_only() {
            return vec![Err(NoMatch::HttpOnly); values.len()];
        }
        if let Self::EnvoyFilter { filter, key } = self {
            return vec![Ok(permission_of(filter_metadata(filter, key, values)))];
        }
        values.iter().map(|value| self.permission_rule(value).map(permission_of).ok_or(NoMatch::Invalid)).collect()
    }

    fn permission_rule(&self, value: &str) -> Option<permission::Rule> {
        Some(match self {
            Self::Host => permission::Rule::Header(matcher::header(":authority", value, true)),
            Self::Method => permission::Rule::Header(matcher::header(":method", value, false)),
            Self::Path if is_template(value) => permission::Rule::UriTemplate(template(value)),
            Self::Path => permission::Rule::UrlPath(PathMatcher { rule: Some(path_matcher::Rule::Path(matcher::string(value))) }),
            Self::DestinationPort => permission::Rule::DestinationPort(value.parse::<u16>().ok().filter(|port| *port != 0)?.into()),
            Self::DestinationIp => permission::Rule::DestinationIp(matcher::cidr(value)?),
            Self::Sni => permission::Rule::RequestedServerName(matcher::string(value)),
            _ => return None,
        })
    }

    /// Principals for `values`, any of which will do.
    ///
    /// # Errors
    /// [`NoMatch`] for a value that gives none.
    pub(super) fn principals(&self, values: &[String], layer: Layer) -> Vec<Result<Principal, NoMatch>> {
        if layer == Layer::Tcp && self.is_http_only() {
            return vec![Err(NoMatch::HttpOnly); values.len()];
        }
        if let Self::Claim(path) = self {
            return vec![Ok(principal_of(claim(path, values)))];
        }
        values.iter().map(|value| self.principal_identifier(value).map(principal_of).ok_or(NoMatch::Invalid)).collect()
    }

    fn principal_identifier(&self, value: &str) -> Option<principal::Identifier> {
        Some(match self {
            Self::SourceIp => principal::Identifier::DirectRemoteIp(matcher::cidr(value)?),
            Self::RemoteIp => principal::Identifier::RemoteIp(matcher::cidr(value)?),
            Self::SourceNamespace => authenticated(matcher::regex(&format!(".*/ns/{}/.*", escape(value).replace(r"\*", ".*")))),
            Self::SourceServiceAccount { namespace } => authenticated(service_account(value, namespace)),
            Self::SourceTrustDomain => authenticated(trust_domain(value)),
            Self::SourcePrincipal => authenticated(matcher::string_after("spiffe://", value)),
            Self::RequestPrincipal => request_principal(value),
            Self::Header(name) => principal::Identifier::Header(matcher::header(name, value, false)),
            _ => return None,
        })
    }
}

fn permission_of(rule: permission::Rule) -> Permission {
    Permission { rule: Some(rule) }
}

fn principal_of(identifier: principal::Identifier) -> Principal {
    Principal { identifier: Some(identifier) }
}

fn authenticated(matcher: StringMatcher) -> principal::Identifier {
    principal::Identifier::Authenticated(principal::Authenticated { principal_name: Some(matcher) })
}

/// Whether a path has `{*}` or `{**}` in it.
pub(super) fn is_template(path: &str) -> bool {
    path.contains("{*}") || path.contains("{**}")
}

fn template(path: &str) -> TypedExtensionConfig {
    let path_template = path.replace("{*}", "*").replace("{**}", "**");
    TypedExtensionConfig { name: "uri-template".into(), typed_config: Some(lateen_envoy_api::pack(&UriTemplateMatchConfig { path_template })) }
}

/// Service accounts are matched in any trust domain; parts between the known ones belong to other platforms' identities.
fn service_account(value: &str, policy_namespace: &str) -> StringMatcher {
    let (namespace, name) = value.split_once('/').unwrap_or((policy_namespace, value));
    matcher::regex(&format!("spiffe://.+/ns/{}/(.+/|)sa/{}(/.+)?", escape(namespace), escape(name)))
}

fn trust_domain(value: &str) -> StringMatcher {
    if value.contains('*') {
        matcher::regex(&format!("spiffe://{}/.*", escape(value).replace(r"\*", "[^/]*")))
    } else {
        matcher::string(&format!("spiffe://{value}/*"))
    }
}

/// `issuer/subject`, either of which may have a `*`.
fn request_principal(value: &str) -> principal::Identifier {
    let (issuer, subject) = match (value.rsplit_once('/'), Pattern::of(value)) {
        (Some((issuer, subject)), _) if !issuer.is_empty() => (matcher::string(issuer), matcher::string(subject)),
        (_, Pattern::Any) => (matcher::regex(".+"), matcher::regex(".+")),
        (_, Pattern::Prefix(_)) => (matcher::string(value), matcher::regex(".+")),
        (_, Pattern::Suffix(_)) => (matcher::regex(".+"), matcher::string(value)),
        (_, Pattern::Exact(_)) => (matcher::string(value), matcher::string("")),
    };
    let part = |claim: &str, matcher: StringMatcher| principal_of(metadata_identifier(matcher::metadata(JWT_FILTER, &["payload", claim], matcher::value(matcher))));
    principal::Identifier::AndIds(principal::Set { ids: vec![part("iss", issuer), part("sub", subject)] })
}

fn claim(path: &[&str], values: &[String]) -> principal::Identifier {
    let strings = || matcher::any_of(values.iter().map(|value| matcher::value(matcher::string(value))).collect());
    let full: Vec<&str> = std::iter::once("payload").chain(path.iter().copied()).collect();
    let either = matcher::any_of(vec![matcher::list_of(strings()), strings()]);
    metadata_identifier(matcher::metadata(JWT_FILTER, &full, either))
}

#[expect(deprecated, reason = "Istio still sends this form, and proxies of either make must read it")]
fn metadata_identifier(metadata: MetadataMatcher) -> principal::Identifier {
    principal::Identifier::Metadata(metadata)
}

#[expect(deprecated, reason = "Istio still sends this form, and proxies of either make must read it")]
fn filter_metadata(filter: &str, key: &str, values: &[String]) -> permission::Rule {
    let values = values.iter().map(|value| filter_value(value)).collect();
    permission::Rule::Metadata(matcher::metadata(filter, &[key], matcher::any_of(values)))
}

/// `[value]` asks for a list that holds the value.
fn filter_value(value: &str) -> lateen_envoy_api::envoy::r#type::matcher::v3::ValueMatcher {
    match value.strip_prefix('[').and_then(|value| value.strip_suffix(']')) {
        Some(inner) => matcher::list_of(matcher::value(matcher::string(inner))),
        None => matcher::value(matcher::string(value)),
    }
}

/// `principals` with those of our own trust domains repeated for each of them. `trust_domains` has the mesh's own first.
#[must_use]
pub fn in_all_trust_domains(principals: &[String], trust_domains: &[String]) -> Vec<String> {
    principals.iter().flat_map(|principal| aliases(principal, trust_domains)).collect()
}

fn aliases(principal: &str, trust_domains: &[String]) -> Vec<String> {
    let own = vec![principal.to_owned()];
    let Some((domain, rest)) = principal.split_once('/').filter(|(domain, _)| *domain != "*") else { return own };
    if SpiffeId::parse(&format!("spiffe://{}", principal.replace('*', "x"))).is_none() {
        return own;
    }
    let same = |known: &str| match Pattern::of(domain) {
        Pattern::Any => true,
        Pattern::Suffix(suffix) => known.ends_with(suffix),
        Pattern::Prefix(prefix) => known.starts_with(prefix),
        Pattern::Exact(exact) => known == exact,
    };
    // `cluster.local` always stands for the mesh's own domain, whatever that is called.
    if domain != names::TRUST_DOMAIN && !trust_domains.iter().any(|known| same(known)) {
        return own;
    }
    let mut all: Vec<String> = Vec::new();
    for known in trust_domains {
        let kept = domain.starts_with('*') && same(known);
        let alias = if kept { principal.to_owned() } else { format!("{known}/{rest}") };
        if !all.contains(&alias) {
            all.push(alias);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_when_are_known() {
        let keys = [
            "request.headers[x]", "source.ip", "remote.ip", "source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal",
            "request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims[a][b]", "destination.ip",
            "destination.port", "connection.sni", "experimental.envoy.filters.a.b[c]",
        ];
        for key in keys {
            assert!(Attribute::of_key(key, "ns").is_some(), "{key}");
        }
        assert!(Attribute::of_key("request.header[x]", "ns").is_none());
    }

    #[test]
    fn our_principals_hold_in_every_trust_domain_of_ours() {
        let domains = ["td1".to_owned(), "cluster.local".to_owned()];
        assert_eq!(in_all_trust_domains(&["cluster.local/ns/a/sa/b".into()], &domains), ["td1/ns/a/sa/b", "cluster.local/ns/a/sa/b"]);
        assert_eq!(in_all_trust_domains(&["other/ns/a/sa/b".into()], &domains), ["other/ns/a/sa/b"]);
        assert_eq!(in_all_trust_domains(&["*/ns/a/sa/b".into()], &domains), ["*/ns/a/sa/b"]);
    }
}
