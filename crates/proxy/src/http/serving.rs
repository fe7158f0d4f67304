//! What serves a client's connection: its connection manager, kept in step with the plan in force.
//!
//! - Rule: the connection manager is looked up again when the plan has changed, so that idle connections see new policy with their next request.
//! - Not here: the protocols (`downstream_h1.rs`, `downstream_h2.rs`).

use super::stream::Origin;
use crate::listener::r#match::{self, Standing};
use lateen_plan::http::Hcm;
use lateen_plan::listener::{FilterChain, Listener, Terminal};
use std::rc::Rc;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// One connection's service.
pub(crate) struct Serving {
    pub(crate) origin: Rc<Origin>,
    pub(crate) hcm: Arc<Hcm>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) chain: Arc<FilterChain>,
    pub(crate) generation: u64,
    pub(crate) opened: Instant,
    idle: Idle,
}

/// The idle deadline of a connection: one timer that is moved only when it fires too early, so that a request costs none.
#[derive(Default)]
struct Idle {
    until: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Serving {
    pub(crate) fn new(origin: Origin, hcm: Arc<Hcm>, listener: Arc<Listener>, chain: Arc<FilterChain>, (generation, opened): (u64, Instant)) -> Self {
        Self { origin: Rc::new(origin), hcm, listener, chain, generation, opened, idle: Idle::default() }
    }

    /// Brings the connection in step with the plan in force. False: it must be closed without serving anything more.
    pub(crate) fn still_admitted(&mut self) -> bool {
        let worker = &self.origin.worker;
        let generation = worker.generation();
        if generation == self.generation {
            return true;
        }
        self.generation = generation;
        match r#match::judge(worker, &self.listener.name, &self.chain, &self.origin.facts, self.origin.tls.as_ref()) {
            Standing::Same => true,
            Standing::Gone | Standing::Refused => false,
            Standing::Chain(listener, chain) => {
                if crate::network::refusal(&chain, &self.origin.facts, self.origin.tls.as_deref()).is_some() {
                    return false;
                }
                let Terminal::Http(hcm) = &chain.terminal else { return false };
                self.hcm = Arc::clone(hcm);
                self.listener = listener;
                self.chain = chain;
                true
            }
        }
    }

    /// Whether this request is the connection's last.
    pub(crate) fn requests_used_up(&self, requests: u32) -> bool {
        let limit = self.hcm.max_requests_per_connection;
        (limit != 0 && requests >= limit) || self.hcm.max_connection_duration.is_some_and(|age| self.opened.elapsed() >= age)
    }

    /// The connection has nothing to do from now on. Before the first request a slow client has only the time for a head.
    pub(crate) fn begin_idle(&mut self, requests: u32) {
        let first_head = self.hcm.request_headers_timeout.filter(|_| requests == 0);
        let age = self.hcm.max_connection_duration.map(|age| age.saturating_sub(self.opened.elapsed()));
        let limit = [self.hcm.idle_timeout, first_head, age].into_iter().flatten().min();
        self.idle.until = limit.map(|limit| Instant::now() + limit.max(Duration::from_millis(1)));
    }

    /// Ready when the idle connection has to be closed.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.idle.until else { return Poll::Pending };
        let until = tokio::time::Instant::from_std(until);
        let sleep = self.idle.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
        Poll::Pending
    }
}
