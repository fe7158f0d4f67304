//! RequestAuthentication: which JSON web tokens are accepted.
//!
//! - Reads: `security.istio.io` RequestAuthentication.
//! - Limits: read and checked; not enforced yet, which a finding says.

use lateen_base::Findings;
use lateen_istio_api::{JWTRule, RequestAuthentication};
use lateen_mesh::{Object, Snapshot};

use crate::check::{Check, is_header_name};
use crate::kind::{Gvk, Kind};

/// The kind.
pub enum RequestAuthenticationKind {}

impl Kind for RequestAuthenticationKind {
    const GVK: Gvk = Gvk { group: "security.istio.io", version: "v1", also: &["v1beta1"], kind: "RequestAuthentication", plural: "requestauthentications" };
    type Spec = RequestAuthentication;

    fn objects(mesh: &Snapshot) -> &[Object<RequestAuthentication>] {
        &mesh.request_authentications
    }

    fn validate(object: &Object<RequestAuthentication>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let spec = &object.spec;
        check.selector(spec.selector.as_ref());
        check.target_refs(spec.target_ref.as_ref(), &spec.target_refs, spec.selector.as_ref());
        for (i, rule) in spec.jwt_rules.iter().enumerate() {
            validate_rule(rule, &format!("spec.jwtRules[{i}]"), &mut check);
        }
        if !spec.jwt_rules.is_empty() {
            check.not_enforced("spec.jwtRules");
        }
    }

    fn analyze(_: &Object<RequestAuthentication>, _: &Snapshot, _: &mut Findings) {}
}

/// Whether `url` is `http` or `https` with a host and, if any, a port number.
fn is_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match host_and_port.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (host_and_port, None),
    };
    !host.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn validate_rule(rule: &JWTRule, path: &str, check: &mut Check<'_>) {
    if rule.issuer.is_empty() && rule.jwks_uri.is_empty() && rule.jwks.is_empty() {
        check.error(path, "the rule has neither issuer nor keys", "add issuer, and jwksUri or jwks");
    } else if rule.issuer.is_empty() {
        check.warn(format!("{path}.issuer"), "the rule has no issuer, so it takes tokens of any", "add the iss claim that tokens carry");
    }
    if !rule.jwks.is_empty() && !rule.jwks_uri.is_empty() {
        check.error(format!("{path}.jwks"), "jwks and jwksUri are both set", "keep one of them");
    }
    if !rule.jwks_uri.is_empty() && !is_url(&rule.jwks_uri) {
        check.error(format!("{path}.jwksUri"), format!("\"{}\" is no URL", rule.jwks_uri), "use http:// or https:// and a host");
    }
    if !rule.jwks.is_empty() && serde_json::from_str::<serde_json::Value>(&rule.jwks).ok().and_then(|keys| keys.get("keys").cloned()).is_none() {
        check.error(format!("{path}.jwks"), "jwks is no JSON key set", "paste the key set's JSON, with its keys field");
    }
    for (i, header) in rule.from_headers.iter().enumerate() {
        if !is_header_name(&header.name) {
            check.error(format!("{path}.fromHeaders[{i}].name"), format!("\"{}\" is not a header name", header.name), "name a header, such as Authorization");
        }
    }
    for (field, names) in [("audiences", &rule.audiences), ("fromParams", &rule.from_params), ("fromCookies", &rule.from_cookies)] {
        for (i, name) in names.iter().enumerate().filter(|(_, name)| name.is_empty()) {
            check.error(format!("{path}.{field}[{i}]"), format!("the entry \"{name}\" is empty"), "write a value, or remove it");
        }
    }
    for (i, output) in rule.output_claim_to_headers.iter().enumerate() {
        if !is_header_name(&output.header) || output.claim.is_empty() {
            check.error(format!("{path}.outputClaimToHeaders[{i}]"), "header and claim are both needed", "name a header and a claim");
        }
    }
    check.duration(&format!("{path}.timeout"), rule.timeout);
}
