//! Fault injection: delays and aborts.
//!
//! - Reads: `plan::fault::Fault`, of the most specific level of the route.
//! - Twin: `kinds/src/virtual_service/fault.rs`.
//! - Rule: a delay comes before the abort and counts against no timeout.
//! - Limits: `max_active_faults` per worker.
//! - Not here: which requests (`plan::fault`), the wait itself (`http/router.rs`).

use super::Flow;
use crate::http::local_reply::LocalReply;
use crate::http::stream::Stream;
use lateen_plan::fault::{AbortStatus, Fault};
use lateen_telemetry::ResponseFlags;
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static ACTIVE: Cell<u32> = const { Cell::new(0) };
}

/// Counts a fault in force until dropped.
pub(crate) struct Active;

impl Active {
    fn begin(most: Option<u32>) -> Option<Self> {
        let now = ACTIVE.get();
        if most.is_some_and(|most| now >= most) {
            return None;
        }
        ACTIVE.set(now + 1);
        Some(Self)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        ACTIVE.set(ACTIVE.get().saturating_sub(1));
    }
}

pub(crate) fn on_request(settings: &Arc<Fault>, stream: &mut Stream<'_>) -> Flow {
    let by_route = stream.rules.matched().and_then(|matched| matched.per_filter().find_map(|level| level.fault.clone()));
    let fault = by_route.as_ref().unwrap_or(settings);
    if fault.delay.is_none() && fault.abort.is_none() {
        return Flow::Continue;
    }
    let draws = [stream.worker().draw(), stream.worker().draw()];
    let decision = {
        let cluster = stream.rules.matched().and_then(|matched| matched.cluster().map(Arc::clone));
        fault.decide(&stream.request, cluster.as_deref(), draws)
    };
    if decision.delay.is_none() && decision.abort.is_none() {
        return Flow::Continue;
    }
    let Some(active) = Active::begin(fault.max_active_faults) else { return Flow::Continue };
    stream.rules.notes.fault = Some(active);
    let reply = decision.abort.map(|status| Box::new(abort(status)));
    match (decision.delay, reply) {
        (Some(wait), reply) => {
            stream.info.flags.insert(ResponseFlags::DELAY_INJECTED);
            Flow::Delay(wait, reply)
        }
        (None, Some(reply)) => Flow::Reply(reply),
        (None, None) => Flow::Continue,
    }
}

fn abort(status: AbortStatus) -> LocalReply {
    match status {
        AbortStatus::Http(status) => LocalReply::fault(status, None),
        // A caller that is not gRPC gets 200 with the text, as Envoy answers.
        AbortStatus::Grpc(status) => LocalReply::fault(200, Some(status)),
    }
}
