//! Cross-origin resource sharing.
//!
//! - Reads: `extensions.filters.http.cors.v3.CorsPolicy` (Envoy), written from `VirtualService.http[].corsPolicy`.
//! - Twin: `kinds/src/virtual_service/cors.rs`.
//! - Not here: the headers written (`proxy/src/filters/cors.rs`).

use crate::fraction::Fraction;
use crate::names::Name;
use crate::rejected::{Invalid, Within};
use crate::string_match::StringMatch;
use lateen_envoy_api::envoy::extensions::filters::http::cors::v3 as xcors;

/// Which origins may do what.
#[derive(Clone, Debug, PartialEq)]
pub struct CorsPolicy {
    /// Origins that may.
    pub allow_origins: Vec<StringMatch>,
    /// `access-control-allow-methods`; empty: not sent.
    pub allow_methods: Name,
    /// `access-control-allow-headers`; empty: not sent.
    pub allow_headers: Name,
    /// `access-control-expose-headers`; empty: not sent.
    pub expose_headers: Name,
    /// `access-control-max-age` in seconds; empty: not sent.
    pub max_age: Name,
    /// `access-control-allow-credentials: true`.
    pub allow_credentials: bool,
    /// `access-control-allow-private-network: true`.
    pub allow_private_network: bool,
    /// A preflight from another origin goes on upstream (`true`) or is answered here without headers.
    pub forward_not_matching_preflights: bool,
    /// For which requests the policy is in force.
    pub enabled: Fraction,
}

impl CorsPolicy {
    /// Whether `origin` may. Pure.
    #[must_use]
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.allow_origins.iter().any(|m| m.is_match(origin))
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// An invalid matcher; a shadow policy.
    pub fn from_xds(given: &xcors::CorsPolicy) -> Result<Self, Invalid> {
        if given.shadow_enabled.is_some() {
            return Err(Invalid::unsupported("shadow_enabled", "a shadow policy"));
        }
        let list = given.allow_origin_string_match.iter().enumerate();
        let origins = list.map(|(i, m)| StringMatch::from_xds(m).within(format!("allow_origin_string_match[{i}]")));
        let on = |v: &Option<lateen_envoy_api::wkt::BoolValue>, default: bool| v.as_ref().map_or(default, |v| v.value);
        Ok(Self {
            allow_origins: origins.collect::<Result<_, _>>()?,
            allow_methods: given.allow_methods.as_str().into(),
            allow_headers: given.allow_headers.as_str().into(),
            expose_headers: given.expose_headers.as_str().into(),
            max_age: given.max_age.as_str().into(),
            allow_credentials: on(&given.allow_credentials, false),
            allow_private_network: on(&given.allow_private_network_access, false),
            forward_not_matching_preflights: on(&given.forward_not_matching_preflights, true),
            enabled: Fraction::from_runtime(given.filter_enabled.as_ref()).within("filter_enabled")?,
        })
    }
}
