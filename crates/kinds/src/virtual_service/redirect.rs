//! Redirects and direct responses: answers that the proxy gives by itself.
//!
//! - Reads: `VirtualService.http[].redirect` and `directResponse`.
//! - Writes: `RedirectAction` and `DirectResponseAction`.
//! - Twin: `plan/src/route/decide.rs`, which answers.
//! - Rule: the code is 301 unless given; a `uri` that starts with `%PREFIX()%` keeps what follows the matched prefix.

use lateen_envoy_api::envoy::config::core::v3::{DataSource, data_source::Specifier};
use lateen_envoy_api::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
};
use lateen_istio_api::{HTTPDirectResponse, HTTPRedirect, RedirectPortSelection};

use crate::check::Check;

/// Longest body of a direct response; routes have to raise Envoy's `max_direct_response_body_size_bytes` to it. Source: Istio.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Size from which a body is worth a warning, since every proxy holds it. Source: Istio.
const BODY_BYTES_LARGE: usize = 100 * 1024;

/// Checks a redirect at `path`.
pub fn validate(redirect: &HTTPRedirect, path: &str, check: &mut Check<'_>) {
    let nothing = redirect.uri.is_empty() && redirect.authority.is_empty() && redirect.scheme.is_empty() && redirect.prefix_rewrite.is_empty();
    if nothing && redirect.port.is_none() && redirect.derive_port.is_none() {
        check.error(path, "the redirect changes nothing", "add uri, authority, port, scheme or redirectCode");
    }
    if response_code(redirect.redirect_code).is_none() {
        check.error(format!("{path}.redirectCode"), format!("{} is no redirect code", redirect.redirect_code), "use 301, 302, 303, 307 or 308");
    }
    if !redirect.scheme.is_empty() && !matches!(redirect.scheme.as_str(), "http" | "https") {
        check.error(format!("{path}.scheme"), format!("\"{}\" is no scheme", redirect.scheme), "use http or https");
    }
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        check.error(path, "uri and prefixRewrite are both set", "keep one of them");
    }
    if let Some(port) = redirect.port {
        check.port(&format!("{path}.port"), port);
    }
}

/// Checks a direct response at `path`.
pub fn validate_direct(response: &HTTPDirectResponse, path: &str, check: &mut Check<'_>) {
    if !(200..600).contains(&response.status) {
        check.error(format!("{path}.status"), format!("HTTP status {} is out of range", response.status), "use a status from 200 to 599");
    }
    let body = response.body.as_ref();
    let size = body.map_or(0, |body| body.string.as_ref().or(body.bytes.as_ref()).map_or(0, String::len));
    if size > BODY_BYTES_MAX {
        check.error(format!("{path}.body"), format!("the body has {size} bytes"), format!("use at most {BODY_BYTES_MAX}"));
    } else if size > BODY_BYTES_LARGE {
        check.warn(format!("{path}.body"), format!("the body has {size} bytes, which every proxy keeps in memory"), "serve it from a backend");
    }
    if let Some(Err(())) = body.and_then(|body| body.bytes.as_deref()).map(|text| base64(text).ok_or(())) {
        check.error(format!("{path}.body.bytes"), "the bytes are not base64", "encode them as base64, or use string");
    }
}

/// Envoy's form of a redirect; `listener_port` is what `FROM_REQUEST_PORT` stands for.
#[must_use]
pub fn lower(redirect: &HTTPRedirect, listener_port: u32) -> RedirectAction {
    let path = match redirect.uri.strip_prefix("%PREFIX()%") {
        Some(rest) => Some(PathRewriteSpecifier::PrefixRewrite(rest.to_owned())),
        None if !redirect.uri.is_empty() => Some(PathRewriteSpecifier::PathRedirect(redirect.uri.clone())),
        None if !redirect.prefix_rewrite.is_empty() => Some(PathRewriteSpecifier::PrefixRewrite(redirect.prefix_rewrite.clone())),
        None => None,
    };
    let port_redirect = match (redirect.port, redirect.derive_port) {
        (Some(port), _) => port,
        (None, Some(RedirectPortSelection::FromRequestPort)) => listener_port,
        (None, Some(RedirectPortSelection::FromProtocolDefault)) if redirect.scheme == "http" => 80,
        (None, Some(RedirectPortSelection::FromProtocolDefault)) if redirect.scheme == "https" => 443,
        (None, Some(RedirectPortSelection::FromProtocolDefault) | None) => 0,
    };
    RedirectAction {
        host_redirect: redirect.authority.clone(),
        port_redirect,
        response_code: response_code(redirect.redirect_code).unwrap_or(RedirectResponseCode::MovedPermanently).into(),
        strip_query: false,
        scheme_rewrite_specifier: (!redirect.scheme.is_empty()).then(|| SchemeRewriteSpecifier::SchemeRedirect(redirect.scheme.clone())),
        path_rewrite_specifier: path,
    }
}

/// Envoy's form of a direct response.
#[must_use]
pub fn lower_direct(response: &HTTPDirectResponse) -> DirectResponseAction {
    let body = response.body.as_ref().and_then(|body| match (&body.string, &body.bytes) {
        (Some(text), _) => Some(Specifier::InlineString(text.clone())),
        (None, Some(bytes)) => base64(bytes).map(Specifier::InlineBytes),
        (None, None) => None,
    });
    DirectResponseAction { status: response.status, body: body.map(|specifier| DataSource { specifier: Some(specifier), ..Default::default() }), ..Default::default() }
}

fn response_code(code: u32) -> Option<RedirectResponseCode> {
    match code {
        0 | 301 => Some(RedirectResponseCode::MovedPermanently),
        302 => Some(RedirectResponseCode::Found),
        303 => Some(RedirectResponseCode::SeeOther),
        307 => Some(RedirectResponseCode::TemporaryRedirect),
        308 => Some(RedirectResponseCode::PermanentRedirect),
        _ => None,
    }
}

/// Decodes standard or URL-safe base64; padding may be absent. `None` for anything else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        buffer = buffer << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits & 0xff) as u8);
        }
    }
    (bits < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_defaults_to_301() {
        let action = lower(&HTTPRedirect { uri: "/new".into(), ..Default::default() }, 80);
        assert_eq!(action.response_code(), RedirectResponseCode::MovedPermanently);
        assert_eq!(action.path_rewrite_specifier, Some(PathRewriteSpecifier::PathRedirect("/new".into())));
    }

    #[test]
    fn base64_is_read_with_or_without_padding() {
        assert_eq!(base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("aGVsbG8").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("not base64!"), None);
    }
}
