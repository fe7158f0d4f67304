//! Authorization of requests.
//!
//! - Reads: `plan::rbac::Rbac`, with the overrides of the route's levels.
//! - Twin: `kinds/src/authorization_policy`.
//! - Rule: judged for every request by the plan in force when its head was complete.
//! - Not here: the rules' evaluation (`plan::rbac`), whole connections (`network/rbac.rs`).

use super::Flow;
use crate::http::local_reply::LocalReply;
use crate::http::stream::Stream;
use lateen_plan::http::{HttpRbac, RbacOverride};
use std::sync::Arc;

pub(crate) fn on_request(settings: &HttpRbac, stream: &mut Stream<'_>) -> Flow {
    let mut rbac = Arc::clone(&settings.rbac);
    if let Some(matched) = stream.rules.matched() {
        let change = matched.per_filter().find_map(|level| {
            if level.disabled.contains(&settings.name) {
                return Some(None);
            }
            level.rbac.iter().find(|(name, _)| *name == settings.name).map(|(_, change)| Some(change))
        });
        match change {
            Some(None | Some(RbacOverride::Off)) => return Flow::Continue,
            Some(Some(RbacOverride::Rules(rules))) => rbac = Arc::clone(rules),
            None => {}
        }
    }
    let connection = stream.rules.connection(&stream.info);
    let verdict = rbac.decide(&(&stream.request, &connection));
    if verdict.allowed {
        return Flow::Continue;
    }
    let mut details = String::new();
    verdict.write_details(&mut details);
    Flow::Reply(Box::new(LocalReply::rbac_denied(details)))
}
