//! CORS: which other origins a browser may call from.
//!
//! - Reads: `VirtualService.http[].corsPolicy`.
//! - Writes: `extensions.filters.http.cors.v3.CorsPolicy`, as a route's own configuration of [`FILTER`].
//! - Twin: `proxy/src/filters/cors.rs`, which answers preflights; `plan/src/http/cors.rs`.
//! - Rule: preflights that match no origin go on to the backend unless `unmatchedPreflights: IGNORE`.

use lateen_envoy_api::envoy::extensions::filters::http::cors::v3::CorsPolicy as EnvoyCors;
use lateen_envoy_api::envoy::config::core::v3::RuntimeFractionalPercent;
use lateen_envoy_api::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use lateen_istio_api::{CorsPolicy, StringMatch, UnmatchedPreflights};

use super::http_match::string_matcher;
use crate::check::Check;
use crate::wire;

/// Name of Envoy's filter, the key of the route's configuration.
pub const FILTER: &str = "envoy.filters.http.cors";

/// Checks a policy at `path`.
pub fn validate(cors: &CorsPolicy, path: &str, check: &mut Check<'_>) {
    for (i, origin) in cors.allow_origins.iter().enumerate() {
        let path = format!("{path}.allowOrigins[{i}]");
        if origin.text().is_empty() {
            check.error(path, "the origin match is empty", "add exact, prefix or regex");
        } else {
            check.string_match(&path, origin);
        }
    }
    for (i, method) in cors.allow_methods.iter().enumerate() {
        if method != "*" && !matches!(method.as_str(), "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE") {
            check.error(format!("{path}.allowMethods[{i}]"), format!("\"{method}\" is no HTTP method"), "use GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS or *");
        }
    }
    for (field, names) in [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)] {
        for (i, name) in names.iter().enumerate() {
            if name != "*" && !crate::check::is_header_name(name) {
                check.error(format!("{path}.{field}[{i}]"), format!("\"{name}\" is not a header name"), "use letters, digits and \"-\"");
            }
        }
    }
    if let Some(age) = cors.max_age {
        check.duration_or_zero(&format!("{path}.maxAge"), cors.max_age);
        if age.nanos % 1_000_000_000 != 0 {
            check.error(format!("{path}.maxAge"), format!("{age} is no whole number of seconds"), "use whole seconds");
        }
    }
}

/// Envoy's form.
#[must_use]
pub fn lower(cors: &CorsPolicy) -> EnvoyCors {
    let old = cors.allow_origin.iter().map(|origin| StringMatch::Exact(origin.clone()));
    let everything = FractionalPercent { numerator: 100, denominator: DenominatorType::Hundred.into() };
    EnvoyCors {
        allow_origin_string_match: cors.allow_origins.iter().cloned().chain(old).filter_map(|origin| string_matcher(&origin)).collect(),
        allow_methods: cors.allow_methods.join(","),
        allow_headers: cors.allow_headers.join(","),
        expose_headers: cors.expose_headers.join(","),
        max_age: cors.max_age.map(|age| age.to_proto().0.to_string()).unwrap_or_default(),
        allow_credentials: cors.allow_credentials.map(wire::boolean),
        filter_enabled: Some(RuntimeFractionalPercent { default_value: Some(everything), runtime_key: String::new() }),
        forward_not_matching_preflights: Some(wire::boolean(cors.unmatched_preflights != UnmatchedPreflights::Ignore)),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmatched_preflights_go_on_unless_ignored() {
        assert!(lower(&CorsPolicy::default()).forward_not_matching_preflights.unwrap().value);
        let ignore = CorsPolicy { unmatched_preflights: UnmatchedPreflights::Ignore, ..Default::default() };
        assert!(!lower(&ignore).forward_not_matching_preflights.unwrap().value);
    }
}
