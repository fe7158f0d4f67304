//! Network RBAC: authorization of a whole connection.
//!
//! - Reads: `extensions.filters.network.rbac.v3.RBAC` as `plan::rbac::Rbac`.
//! - Twin: `kinds/src/authorization_policy`.
//! - Rule: judged when the connection opens and again whenever a plan is put in force.
//! - Not here: the rules' evaluation (`plan/rbac`), requests (`filters/rbac.rs`).

use lateen_plan::rbac::{NetworkSubject, Rbac};

use crate::connection::{self, ConnectionFacts};
use crate::transport::TlsSession;

/// Whether the enforced rules admit the connection.
pub fn admits(rbac: &Rbac, facts: &ConnectionFacts, tls: Option<&TlsSession>) -> bool {
    let view = connection::request_view(facts, tls);
    rbac.decide(&NetworkSubject(&view)).allowed
}
