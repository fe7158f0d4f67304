//! Listeners: from an accepted connection to the filter chain that serves it.
//!
//! - Reads: `plan::listener::Listener`.
//! - Twin: `plan/src/listener/mod.rs`.
//! - Rule: the plan is looked up for every connection, so a changed listener needs no new socket and drops nothing.
//! - Not here: who binds sockets (`lib.rs`, once for all workers), what serves the connection (`network`, `http`).

pub mod accept;
pub mod http_inspector;
pub mod inspect;
pub mod r#match;
pub mod original_dst;
pub mod proxy_protocol;
pub mod tls_inspector;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use lateen_plan::Plan;
use lateen_plan::listener::{ListenAddress, Listener};
use lateen_plan::names::Name;
use tokio::task::JoinHandle;

use crate::worker::Worker;

/// Listeners by the address they stand for.
pub type Addresses = HashMap<SocketAddr, Arc<Listener>>;

/// Index of a plan's listeners; made once per configuration.
pub fn addresses(plan: &Plan) -> Addresses {
    let socket = |listener: &Arc<Listener>| match listener.address {
        ListenAddress::Socket(address) => Some((address, Arc::clone(listener))),
        ListenAddress::Pipe(_) => None,
    };
    plan.listeners.values().filter_map(socket).collect()
}

/// A worker's accept loops, by listener.
#[derive(Default)]
pub struct Listening {
    tasks: RefCell<HashMap<Name, JoinHandle<()>>>,
}

impl Listening {
    /// Starts accepting; a former socket of the same listener is closed.
    pub fn start(&self, worker: &Rc<Worker>, name: Name, socket: std::net::TcpListener) {
        let task = tokio::task::spawn_local(accept::accept_all(Rc::clone(worker), Name::clone(&name), socket));
        if let Some(former) = self.tasks.borrow_mut().insert(name, task) {
            former.abort();
        }
    }

    /// Stops accepting; connections go on.
    pub fn stop(&self, name: &Name) {
        if let Some(task) = self.tasks.borrow_mut().remove(name) {
            task.abort();
        }
    }

    /// Stops accepting on every listener.
    pub fn stop_all(&self) {
        for (_, task) in self.tasks.borrow_mut().drain() {
            task.abort();
        }
    }
}
