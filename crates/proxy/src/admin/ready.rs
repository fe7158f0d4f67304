//! `/ready`: is the proxy serving?
//!
//! - Rule: `LIVE` and 200 once the first clusters and listeners are in force; otherwise the state and 503.
//! - Rule: `/healthcheck/fail` makes it answer 503 until `/healthcheck/ok`.

use hyper::StatusCode;

use super::Answer;
use crate::server::{Server, State};

/// Answers.
pub fn answer(server: &Server) -> Answer {
    let body = format!("{}\n", server.state().text());
    match server.state() {
        State::Live if !server.health_failed() => Answer::text(body),
        State::Live => Answer::status(StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n"),
        State::Initializing | State::Draining => Answer::status(StatusCode::SERVICE_UNAVAILABLE, body),
    }
}

/// Makes `/ready` fail or pass.
pub fn force(server: &Server, ok: bool) -> Answer {
    server.set_health_failed(!ok);
    Answer::text("OK\n")
}
