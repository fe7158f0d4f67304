//! Network RBAC: authorization of a whole connection.
//!
//! - Reads: `extensions.filters.network.rbac.v3.RBAC` as `plan::rbac::Rbac`.
//! - Twin: `kinds/src/authorization_policy`.
//! - Rule: judged when the connection opens and again whenever a plan is put in force.
//! - Not here: the rules' evaluation (`plan/rbac`), requests (`filters/rbac.rs`).

use lateen_plan::rbac::{NetworkSubject, Rbac};

use crate::connection::{self, ConnectionFacts};
use crate::transport::TlsSession;

/// Why the enforced rules refuse the connection; `None`: they admit it.
pub fn refusal(rbac: &Rbac, facts: &ConnectionFacts, tls: Option<&TlsSession>) -> Option<String> {
    let view = connection::request_view(facts, tls);
    let verdict = rbac.decide(&NetworkSubject(&view));
    if verdict.allowed {
        return None;
    }
    let mut details = String::new();
    verdict.write_details(&mut details);
    Some(details)
}
