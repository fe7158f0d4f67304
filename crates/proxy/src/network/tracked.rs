//! Open TCP connections, judged again whenever a plan is put in force.
//!
//! - Rule: a connection that the policy in force would not let in is closed at once, idle or not.
//! - Not here: HTTP connections; `http` asks before every request.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use lateen_plan::listener::FilterChain;
use lateen_plan::names::Name;
use tokio::sync::Notify;

use crate::connection::{ConnectionFacts, Downstream};
use crate::listener::r#match::{self, Standing};
use crate::transport::TlsSession;
use crate::worker::Worker;

/// A worker's open TCP connections.
#[derive(Default)]
pub struct Tracked {
    open: RefCell<Vec<Weak<Watched>>>,
}

/// One open connection; dropping it ends the watch.
pub struct Watched {
    listener: Name,
    chain: RefCell<Arc<FilterChain>>,
    facts: Rc<ConnectionFacts>,
    tls: Option<Rc<TlsSession>>,
    closed: Cell<bool>,
    wake: Notify,
}

impl Watched {
    /// Ends when the connection must be closed.
    pub async fn refused(&self) {
        while !self.closed.get() {
            self.wake.notified().await;
        }
    }

    fn judge(&self, worker: &Worker) {
        let held = Arc::clone(&self.chain.borrow());
        let refused = match r#match::judge(worker, &self.listener, &held, &self.facts, self.tls.as_ref()) {
            Standing::Same | Standing::Gone => false,
            Standing::Refused => true,
            Standing::Chain(_, chain) => {
                let refused = !super::admits(&chain, &self.facts, self.tls.as_deref());
                *self.chain.borrow_mut() = chain;
                refused
            }
        };
        if refused {
            self.closed.set(true);
            self.wake.notify_one();
        }
    }
}

impl Tracked {
    /// Watches a connection. It is judged at once, because the plan may have changed since its chain was chosen.
    pub fn watch(&self, downstream: &Downstream) -> Rc<Watched> {
        let watched = Rc::new(Watched {
            listener: Name::clone(&downstream.listener.name),
            chain: RefCell::new(Arc::clone(&downstream.chain)),
            facts: Rc::clone(&downstream.facts),
            tls: downstream.tls().map(Rc::clone),
            closed: Cell::new(false),
            wake: Notify::new(),
        });
        self.open.borrow_mut().push(Rc::downgrade(&watched));
        if downstream.generation != downstream.worker.generation() {
            watched.judge(&downstream.worker);
        }
        watched
    }

    /// Judges every open connection; called after a plan swap.
    pub fn judge_again(&self, worker: &Worker) {
        let mut open = self.open.borrow_mut();
        open.retain(|watched| match watched.upgrade() {
            None => false,
            Some(watched) => {
                watched.judge(worker);
                true
            }
        });
    }

    /// Forgets connections that ended.
    pub fn sweep(&self) {
        self.open.borrow_mut().retain(|watched| watched.strong_count() > 0);
    }
}
