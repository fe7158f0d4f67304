//! What serves a client's connection: its connection manager, kept in step with the plan in force.
//!
//! - Rule: the connection manager is looked up again when the plan has changed, so that idle connections see new policy with their next request.
//! - Not here: the protocols (`downstream_h1.rs`, `downstream_h2.rs`).

use super::stream::Origin;
use crate::listener::r#match::{self, Standing};
use lateen_plan::http::Hcm;
use lateen_plan::listener::{FilterChain, Listener, Terminal};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One connection's service.
pub(crate) struct Serving {
    pub(crate) origin: Rc<Origin>,
    pub(crate) hcm: Arc<Hcm>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) chain: Arc<FilterChain>,
    pub(crate) generation: u64,
    pub(crate) opened: Instant,
}

impl Serving {
    pub(crate) fn new(origin: Origin, hcm: Arc<Hcm>, listener: Arc<Listener>, chain: Arc<FilterChain>, (generation, opened): (u64, Instant)) -> Self {
        Self { origin: Rc::new(origin), hcm, listener, chain, generation, opened }
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

    /// Ends when an idle connection has to be closed. Before the first request a slow client has only the time for a head.
    pub(crate) async fn idle_deadline(&self, requests: u32) {
        let first_head = self.hcm.request_headers_timeout.filter(|_| requests == 0);
        let age = self.hcm.max_connection_duration.map(|age| age.saturating_sub(self.opened.elapsed()));
        match [self.hcm.idle_timeout, first_head, age].into_iter().flatten().min() {
            Some(limit) => tokio::time::sleep(limit.max(Duration::from_millis(1))).await,
            None => std::future::pending().await,
        }
    }
}
