//! `/listeners`: names and addresses of listening sockets.
//!
//! - Rule: text as Envoy's, `NAME::ADDRESS`; `?format=json` as `admin.v3.Listeners`.

use std::fmt::Write;

use serde_json::json;

use super::{Answer, Query};
use crate::server::Server;

/// Answers.
pub fn answer(server: &Server, query: &Query) -> Answer {
    let all = server.listening();
    if query.value("format") == Some("json") {
        let statuses: Vec<_> = all
            .iter()
            .map(|(name, address)| json!({"name": &**name, "local_address": {"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}}}))
            .collect();
        return Answer::json(&json!({ "listener_statuses": statuses }));
    }
    let mut text = String::new();
    for (name, address) in all {
        let _ = writeln!(text, "{name}::{address}");
    }
    Answer::text(text)
}
