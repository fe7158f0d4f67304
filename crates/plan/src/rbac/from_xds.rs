//! Authorization rules off the wire.
//!
//! - Reads: `config.rbac.v3.RBAC`.
//! - Rule: what cannot be evaluated is refused, because a rule that is skipped either lets too much through or too little.

use super::{Action, MetadataMatch, Permission, Policy, Principal, Rbac, Rules, ValueMatch};
use crate::rejected::{Invalid, Within};
use crate::route::matcher::UriTemplate;
use crate::string_match::{HeaderMatch, StringMatch};
use ipnet::IpNet;
use lateen_envoy_api::envoy::config::core::v3::CidrRange;
use lateen_envoy_api::envoy::config::rbac::v3 as xrbac;
use lateen_envoy_api::envoy::extensions::filters as xfilters;
use lateen_envoy_api::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use lateen_envoy_api::envoy::r#type::matcher::v3 as xmatcher;

/// Conditions may nest this deep: deeper ones come from no policy, and each level costs stack.
const DEPTH_MAX: u32 = 32;

/// Reads the HTTP filter.
///
/// # Errors
/// See [`rules`]; a matcher tree instead of rules.
pub fn rbac(given: &xfilters::http::rbac::v3::Rbac) -> Result<Rbac, Invalid> {
    if given.matcher.is_some() || given.shadow_matcher.is_some() {
        return Err(Invalid::unsupported("matcher", "a matcher tree"));
    }
    Ok(Rbac {
        rules: given.rules.as_ref().map(rules).transpose().within("rules")?,
        shadow: given.shadow_rules.as_ref().map(rules).transpose().within("shadow_rules")?,
        shadow_prefix: given.shadow_rules_stat_prefix.as_str().into(),
        stat_prefix: given.rules_stat_prefix.as_str().into(),
    })
}

/// Reads the network filter.
///
/// # Errors
/// See [`rules`]; a matcher tree instead of rules, a delayed refusal.
pub(crate) fn network_rbac(given: &xfilters::network::rbac::v3::Rbac) -> Result<Rbac, Invalid> {
    if given.matcher.is_some() || given.shadow_matcher.is_some() {
        return Err(Invalid::unsupported("matcher", "a matcher tree"));
    }
    if given.delay_deny.is_some() {
        return Err(Invalid::unsupported("delay_deny", "a delayed refusal"));
    }
    Ok(Rbac {
        rules: given.rules.as_ref().map(rules).transpose().within("rules")?,
        shadow: given.shadow_rules.as_ref().map(rules).transpose().within("shadow_rules")?,
        shadow_prefix: given.shadow_rules_stat_prefix.as_str().into(),
        stat_prefix: given.stat_prefix.as_str().into(),
    })
}

/// Reads a set of rules.
///
/// # Errors
/// An unknown action; a CEL condition; a condition of an unknown kind; nesting deeper than [`DEPTH_MAX`].
pub fn rules(given: &xrbac::Rbac) -> Result<Rules, Invalid> {
    let action = match xrbac::rbac::Action::try_from(given.action) {
        Ok(xrbac::rbac::Action::Allow) => Action::Allow,
        Ok(xrbac::rbac::Action::Deny) => Action::Deny,
        Ok(xrbac::rbac::Action::Log) => Action::Log,
        Err(_) => return Err(Invalid::new("action", format!("{} is not known", given.action))),
    };
    let mut policies = Vec::with_capacity(given.policies.len());
    for (name, policy) in &given.policies {
        policies.push(self::policy(name, policy).within(format!("policies[{name}]"))?);
    }
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Rules { action, policies })
}

fn policy(name: &str, given: &xrbac::Policy) -> Result<Policy, Invalid> {
    if given.condition.is_some() || given.checked_condition.is_some() {
        return Err(Invalid::unsupported("condition", "a CEL expression"));
    }
    let permissions = given.permissions.iter().enumerate().map(|(i, p)| permission(p, 0).within(format!("permissions[{i}]")));
    let principals = given.principals.iter().enumerate().map(|(i, p)| principal(p, 0).within(format!("principals[{i}]")));
    Ok(Policy { name: name.into(), permissions: permissions.collect::<Result<_, _>>()?, principals: principals.collect::<Result<_, _>>()? })
}

fn deeper(depth: u32) -> Result<u32, Invalid> {
    if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(Invalid::new("", format!("conditions nest deeper than {DEPTH_MAX}"))) }
}

fn permission(given: &xrbac::Permission, depth: u32) -> Result<Permission, Invalid> {
    use xrbac::permission::Rule as R;
    let depth = deeper(depth)?;
    let all = |set: &xrbac::permission::Set| set.rules.iter().map(|p| permission(p, depth)).collect::<Result<Vec<_>, _>>();
    let Some(rule) = &given.rule else { return Err(Invalid::new("rule", "is required")) };
    Ok(match rule {
        R::Any(_) => Permission::Any,
        R::AndRules(set) => Permission::And(all(set).within("and_rules")?),
        R::OrRules(set) => Permission::Or(all(set).within("or_rules")?),
        R::NotRule(inner) => Permission::Not(Box::new(permission(inner, depth).within("not_rule")?)),
        R::Header(h) => Permission::Header(HeaderMatch::from_xds(h).within("header")?),
        R::UrlPath(p) => Permission::Path(path(p).within("url_path")?),
        R::DestinationIp(net) => Permission::DestinationIp(cidr(net).within("destination_ip")?),
        R::DestinationPort(port) => {
            Permission::DestinationPort(u16::try_from(*port).map_err(|_| Invalid::new("destination_port", format!("{port} is above 65535")))?)
        }
        R::DestinationPortRange(range) => {
            let bound = |v: i32| u32::try_from(v).map_err(|_| Invalid::new("destination_port_range", format!("{v} is negative")));
            Permission::DestinationPortRange(bound(range.start)?..bound(range.end)?)
        }
        R::Metadata(m) => Permission::Metadata(metadata(m).within("metadata")?),
        R::SourcedMetadata(m) => Permission::Metadata(sourced(m).within("sourced_metadata")?),
        R::RequestedServerName(m) => Permission::ServerName(StringMatch::from_xds(m).within("requested_server_name")?),
        R::UriTemplate(extension) => {
            let any = extension.typed_config.as_ref().ok_or_else(|| Invalid::new("uri_template", "has no typed_config"))?;
            let config: UriTemplateMatchConfig = crate::any::unpack(any).within("uri_template")?;
            Permission::PathTemplate(UriTemplate::new(&config.path_template).within("uri_template")?)
        }
        R::Matcher(extension) => return Err(Invalid::unsupported("matcher", &extension.name)),
    })
}

fn principal(given: &xrbac::Principal, depth: u32) -> Result<Principal, Invalid> {
    use xrbac::principal::Identifier as I;
    let depth = deeper(depth)?;
    let all = |set: &xrbac::principal::Set| set.ids.iter().map(|p| principal(p, depth)).collect::<Result<Vec<_>, _>>();
    let Some(identifier) = &given.identifier else { return Err(Invalid::new("identifier", "is required")) };
    Ok(match identifier {
        I::Any(_) => Principal::Any,
        I::AndIds(set) => Principal::And(all(set).within("and_ids")?),
        I::OrIds(set) => Principal::Or(all(set).within("or_ids")?),
        I::NotId(inner) => Principal::Not(Box::new(principal(inner, depth).within("not_id")?)),
        I::Authenticated(a) => {
            let name = a.principal_name.as_ref().map(StringMatch::from_xds).transpose();
            Principal::Authenticated(name.within("authenticated.principal_name")?)
        }
        // The old name of the address that the client gave.
        I::SourceIp(net) => Principal::RemoteIp(cidr(net).within("source_ip")?),
        I::DirectRemoteIp(net) => Principal::DirectRemoteIp(cidr(net).within("direct_remote_ip")?),
        I::RemoteIp(net) => Principal::RemoteIp(cidr(net).within("remote_ip")?),
        I::Header(h) => Principal::Header(HeaderMatch::from_xds(h).within("header")?),
        I::UrlPath(p) => Principal::Path(path(p).within("url_path")?),
        I::Metadata(m) => Principal::Metadata(metadata(m).within("metadata")?),
        I::SourcedMetadata(m) => Principal::Metadata(sourced(m).within("sourced_metadata")?),
        I::FilterState(state) => {
            if state.key != super::eval::PEER_PRINCIPAL {
                return Err(Invalid::unsupported("filter_state.key", &state.key));
            }
            match &state.matcher {
                Some(xmatcher::filter_state_matcher::Matcher::StringMatch(m)) => {
                    Principal::FilterState(state.key.as_str().into(), StringMatch::from_xds(m).within("filter_state")?)
                }
                Some(xmatcher::filter_state_matcher::Matcher::AddressMatch(_)) | None => {
                    return Err(Invalid::unsupported("filter_state", "this matcher"));
                }
            }
        }
        I::Custom(extension) => return Err(Invalid::unsupported("custom", &extension.name)),
    })
}

fn path(given: &xmatcher::PathMatcher) -> Result<StringMatch, Invalid> {
    match &given.rule {
        Some(xmatcher::path_matcher::Rule::Path(m)) => StringMatch::from_xds(m).within("path"),
        None => Err(Invalid::new("path", "is required")),
    }
}

/// Reads an address range; bits below the prefix are ignored, as in Envoy.
pub(crate) fn cidr(given: &CidrRange) -> Result<IpNet, Invalid> {
    let bad = || Invalid::new("", format!("`{}/{}` is not an address range", given.address_prefix, given.prefix_len.map_or(0, |l| l.value)));
    let address: std::net::IpAddr = given.address_prefix.parse().map_err(|_| bad())?;
    let length = given.prefix_len.as_ref().map_or(0, |l| l.value);
    let net = IpNet::new(address, u8::try_from(length).map_err(|_| bad())?).map_err(|_| bad())?;
    Ok(net.trunc())
}

fn sourced(given: &xrbac::SourcedMetadata) -> Result<MetadataMatch, Invalid> {
    if given.metadata_source != xrbac::MetadataSource::Dynamic as i32 {
        return Err(Invalid::unsupported("metadata_source", "metadata of the route"));
    }
    metadata(given.metadata_matcher.as_ref().ok_or_else(|| Invalid::new("metadata_matcher", "is required"))?)
}

fn metadata(given: &xmatcher::MetadataMatcher) -> Result<MetadataMatch, Invalid> {
    use xmatcher::metadata_matcher::path_segment::Segment;
    let key = |segment: &xmatcher::metadata_matcher::PathSegment| match &segment.segment {
        Some(Segment::Key(key)) => Ok(key.as_str().into()),
        None => Err(Invalid::new("path", "holds an empty segment")),
    };
    let value = given.value.as_ref().ok_or_else(|| Invalid::new("value", "is required"))?;
    Ok(MetadataMatch {
        filter: given.filter.as_str().into(),
        path: given.path.iter().map(key).collect::<Result<_, _>>()?,
        value: value_match(value, 0).within("value")?,
        invert: given.invert,
    })
}

fn value_match(given: &xmatcher::ValueMatcher, depth: u32) -> Result<ValueMatch, Invalid> {
    use xmatcher::value_matcher::MatchPattern as P;
    let depth = deeper(depth)?;
    Ok(match &given.match_pattern {
        Some(P::NullMatch(_)) => ValueMatch::Null,
        Some(P::StringMatch(m)) => ValueMatch::String(StringMatch::from_xds(m)?),
        Some(P::BoolMatch(b)) => ValueMatch::Bool(*b),
        Some(P::PresentMatch(b)) => ValueMatch::Present(*b),
        Some(P::ListMatch(list)) => match &list.match_pattern {
            Some(xmatcher::list_matcher::MatchPattern::OneOf(inner)) => ValueMatch::OneOf(Box::new(value_match(inner, depth)?)),
            None => return Err(Invalid::new("list_match", "is empty")),
        },
        Some(P::OrMatch(or)) => ValueMatch::Or(or.value_matchers.iter().map(|m| value_match(m, depth)).collect::<Result<_, _>>()?),
        Some(P::DoubleMatch(_)) => return Err(Invalid::unsupported("double_match", "matching a number")),
        None => return Err(Invalid::new("match_pattern", "is required")),
    })
}
