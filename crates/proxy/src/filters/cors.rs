//! Cross-origin resource sharing: preflights answered, answers marked.
//!
//! - Reads: `plan::http::CorsPolicy`, of the most specific level of the route.
//! - Twin: `kinds/src/virtual_service/cors.rs`.
//! - Rule: an origin that is not allowed gets no fields at all, so that the browser refuses.
//! - Not here: which origins match (`plan::http::cors`).

use super::Flow;
use crate::http::local_reply::LocalReply;
use crate::http::stream::{Rules, Stream};
use lateen_http1::{Known, ResponseHead};
use lateen_plan::http::CorsPolicy;
use std::sync::Arc;

fn policy(rules: &Rules<'_>) -> Option<Arc<CorsPolicy>> {
    rules.matched()?.per_filter().find_map(|level| level.cors.clone())
}

pub(crate) fn on_request(stream: &mut Stream<'_>) -> Flow {
    let Some(origin) = stream.request.head.headers.known(Known::Origin).map(<[u8]>::to_vec) else { return Flow::Continue };
    let Some(policy) = policy(&stream.rules) else { return Flow::Continue };
    if !policy.enabled.hit(stream.worker().draw()) {
        return Flow::Continue;
    }
    let preflight = stream.request.head.method() == b"OPTIONS" && stream.request.head.headers.get(b"access-control-request-method").is_some_and(|m| !m.is_empty());
    let allowed = policy.allows(&origin);
    if !preflight {
        if allowed {
            stream.rules.notes.cors_origin = Some(origin.into());
        }
        return Flow::Continue;
    }
    if !allowed && policy.forward_not_matching_preflights {
        return Flow::Continue;
    }
    let mut reply = LocalReply::new(200, "", "cors_response");
    if allowed {
        stream.rules.notes.cors_origin = Some(origin.into());
        let fields = [
            ("access-control-allow-methods", &policy.allow_methods),
            ("access-control-allow-headers", &policy.allow_headers),
            ("access-control-max-age", &policy.max_age),
        ];
        reply.headers.extend(fields.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, value.as_bytes().to_vec())));
        if policy.allow_private_network && stream.request.head.headers.get(b"access-control-request-private-network").is_some() {
            reply.headers.push(("access-control-allow-private-network", b"true".to_vec()));
        }
    }
    Flow::Reply(Box::new(reply))
}

pub(crate) fn on_answer(rules: &Rules<'_>, head: &mut ResponseHead) {
    let (Some(origin), Some(policy)) = (&rules.notes.cors_origin, policy(rules)) else { return };
    head.headers.set(b"access-control-allow-origin", origin);
    if policy.allow_credentials {
        head.headers.set(b"access-control-allow-credentials", b"true");
    }
    if !policy.expose_headers.is_empty() {
        head.headers.set(b"access-control-expose-headers", policy.expose_headers.as_bytes());
    }
}
