//! `/logging`: reads and changes what the proxy itself logs.
//!
//! - Rule: `?level=debug` changes everything, `?NAME=debug` one part; without parameters it lists levels.
//! - Limits: levels are changed through the hook the program installed ([`install`]); without it the answer says so.

use std::sync::OnceLock;

use hyper::StatusCode;

use super::{Answer, Query};

/// Changes the log filter: the part's name (`None`: everything) and the level. Returns the filter now in force.
pub type Change = Box<dyn Fn(Option<&str>, &str) -> Result<String, String> + Send + Sync>;

static CHANGE: OnceLock<Change> = OnceLock::new();

/// Lets the admin interface change log levels; called once by the program that set logging up.
pub fn install(change: Change) {
    let _ = CHANGE.set(change);
}

const LEVELS: &[&str] = &["trace", "debug", "info", "warning", "warn", "error", "critical", "off"];

/// Answers.
pub fn answer(query: &Query) -> Answer {
    let Some(change) = CHANGE.get() else {
        return Answer::status(StatusCode::NOT_IMPLEMENTED, "this program fixed its log levels at the start\n");
    };
    let (part, level) = match query.first() {
        None => (None, ""),
        Some(("level", level)) => (None, level),
        Some(("paths", pairs)) => return each(change, pairs),
        Some((part, level)) => (Some(part), level),
    };
    finish(apply(change, part, level))
}

fn each(change: &Change, pairs: &str) -> Answer {
    let mut last = Ok(String::new());
    for pair in pairs.split(',') {
        let (part, level) = pair.split_once(':').unwrap_or((pair, "info"));
        last = apply(change, Some(part), level);
    }
    finish(last)
}

fn apply(change: &Change, part: Option<&str>, level: &str) -> Result<String, String> {
    if !level.is_empty() && !LEVELS.contains(&level) {
        return Err(format!("unknown level {level:?}; use one of {}\n", LEVELS.join(", ")));
    }
    change(part, if level == "warning" { "warn" } else if level == "critical" { "error" } else { level })
}

fn finish(outcome: Result<String, String>) -> Answer {
    match outcome {
        Ok(filter) => Answer::text(format!("active loggers:\n  {filter}\n")),
        Err(why) => Answer::status(StatusCode::BAD_REQUEST, why),
    }
}
