//! Which filter chain a connection gets, and whether it may keep it under a new plan.
//!
//! - Reads: `plan::listener::select_chain`.
//! - Twin: `compile/src/listener/inbound.rs`.
//! - Rule: a connection is judged by the policy in force now: `http` asks before every request, TCP connections are judged at every plan swap.
//! - Not here: the matching rules (`plan`), authorization of requests (`filters/rbac.rs`).

use std::rc::Rc;
use std::sync::Arc;

use lateen_plan::listener::{ConnInfo, DownstreamTransport, FilterChain, Listener, ListenerFilter, select_chain};
use lateen_plan::names::Name;
use smallvec::SmallVec;

use crate::connection::ConnectionFacts;
use crate::transport::TlsSession;
use crate::worker::Worker;

/// The chain of `listener` for a connection, or `None` (`NR filter_chain_not_found`).
pub fn chain<'a>(listener: &'a Listener, facts: &ConnectionFacts) -> Option<&'a Arc<FilterChain>> {
    let protocols: SmallVec<[&str; 4]> = facts.application_protocols.iter().map(|p| &**p).collect();
    let info = ConnInfo {
        destination: facts.local,
        direct_source: facts.direct_remote,
        source: facts.remote,
        server_name: &facts.server_name,
        transport_protocol: if facts.is_tls { "tls" } else { "raw_buffer" },
        application_protocols: &protocols,
    };
    select_chain(listener, &info)
}

/// How a connection stands under the plan in force.
pub enum Standing {
    /// Served by the chain it has.
    Same,
    /// Served by this chain from now on.
    Chain(Arc<Listener>, Arc<FilterChain>),
    /// Its listener is gone: it may finish what it does, and then ends.
    Gone,
    /// The policy in force would not have let it in: it ends now.
    Refused,
}

/// Judges a connection that `held` serves, by the plan in force.
pub fn judge(worker: &Worker, listener: &Name, held: &Arc<FilterChain>, facts: &ConnectionFacts, tls: Option<&Rc<TlsSession>>) -> Standing {
    let config = worker.config();
    let Some(listener) = config.plan.listeners.get(listener) else { return Standing::Gone };
    let Some(now) = chain(listener, facts) else { return Standing::Refused };
    if Arc::ptr_eq(now, held) {
        return Standing::Same;
    }
    if !transport_fits(&now.transport, tls) {
        return Standing::Refused;
    }
    Standing::Chain(Arc::clone(listener), Arc::clone(now))
}

/// A handshake cannot be repeated: what it did must be what the chain demands.
fn transport_fits(transport: &DownstreamTransport, tls: Option<&Rc<TlsSession>>) -> bool {
    match (transport, tls) {
        (DownstreamTransport::Raw, None) => true,
        (DownstreamTransport::Tls(context), Some(session)) => !context.require_client_certificate || session.peer.is_some(),
        (DownstreamTransport::Raw, Some(_)) | (DownstreamTransport::Tls(_), None) => false,
    }
}

/// Whether the listener asks for the original destination.
pub fn wants_original_dst(listener: &Listener) -> bool {
    listener.use_original_dst || listener.listener_filters.contains(&ListenerFilter::OriginalDst)
}

/// Whether the listener reads a PROXY header, and whether one must be there.
pub fn wants_proxy_header(listener: &Listener) -> Option<bool> {
    listener.listener_filters.iter().find_map(|filter| match filter {
        ListenerFilter::ProxyProtocol { allow_requests_without } => Some(!allow_requests_without),
        ListenerFilter::OriginalDst | ListenerFilter::TlsInspector(_) | ListenerFilter::HttpInspector(_) => None,
    })
}
