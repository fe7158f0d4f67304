//! LDS: where a proxy listens, and what happens to a connection there.
//!
//! - Reads: a [`View`].
//! - Twin: `kinds/src/authorization_policy/mod.rs`, `kinds/src/virtual_service/tls_route.rs`, `plan/src/normalize.rs`.
//! - Rule: a sidecar has `virtualOutbound`, `virtualInbound` and unbound listeners that connections are handed to by
//!   original destination; a gateway binds its servers' ports.
//! - Not here: routes (`route`), clusters (`cluster`).

mod filter_chain;
mod gateway;
mod http_connection_manager;
mod inbound;
mod outbound;
mod policy;
mod tcp_route;
mod tls;

use crate::{Named, Resource, View};
use lateen_envoy_api::envoy::config::listener::v3::Listener;

pub(crate) use gateway::{GatewayServer, gateway_servers};
pub(crate) use outbound::route_name_of_service;
pub(crate) use tls::subject_alt_names;

/// All listeners of one proxy.
pub(crate) fn listeners(view: &View<'_>) -> Named {
    let all: Vec<Listener> = if view.proxy.is_router() {
        gateway::listeners(view)
    } else {
        let mut all = outbound::listeners(view);
        all.push(outbound::virtual_outbound(view));
        all.push(inbound::virtual_inbound(view));
        all
    };
    all.into_iter().map(|listener| (listener.name.clone(), Resource::new(&listener))).collect()
}
