//! `compile(snapshot, proxy) -> Resources`: what one proxy is told, as Envoy resources with the names istiod gives them.
//!
//! - Reads: a [`Snapshot`] and the [`Proxy`] that asks; nothing else.
//! - Rule: pure. The same two arguments give the same resources and versions, in any process.
//! - Rule: an Istio-only filter is sent only to a node that says it understands it; stock Envoy gets none.
//! - Rule: each field's meaning is in `kinds`; here fragments are put together.
//! - Not here: what changed since last time (`xds`), when to compile (`control`).

#![forbid(unsafe_code)]

mod access_log;
mod cluster;
mod endpoint;
mod filter_order;
mod listener;
mod name_table;
mod pb;
mod route;
mod secret;
mod stable_hash;
mod view;

pub use stable_hash::stable_hash;
pub use view::View;

use lateen_envoy_api::{Any, pack};
use lateen_mesh::{Proxy, Snapshot};
use std::collections::BTreeMap;

/// One xDS resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Hash of the content; equal content has equal versions.
    pub version: u64,
    /// The message.
    pub body: Any,
}

impl Resource {
    /// Packs a message and computes its version.
    pub fn new<T: prost::Message + prost::Name + serde::Serialize>(message: &T) -> Self {
        Self { version: stable_hash(message), body: pack(message) }
    }
}

/// Resources of one type by name.
pub type Named = BTreeMap<String, Resource>;

/// Everything one proxy is told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// `envoy.config.cluster.v3.Cluster`.
    pub clusters: Named,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    pub endpoints: Named,
    /// `envoy.config.listener.v3.Listener`.
    pub listeners: Named,
    /// `envoy.config.route.v3.RouteConfiguration`.
    pub routes: Named,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`: gateway credentials.
    pub secrets: Named,
    /// `istio.networking.nds.v1.NameTable`, under the empty name; sidecars only.
    pub name_table: Named,
}

/// What `proxy` is told about `snapshot`.
pub fn compile(snapshot: &Snapshot, proxy: &Proxy) -> Resources {
    let view = View::of(snapshot, proxy);
    let listeners = listener::listeners(&view);
    let routes = route::routes(&view);
    Resources {
        clusters: cluster::clusters(&view),
        endpoints: endpoint::endpoints(&view),
        secrets: if proxy.is_router() { secret::secrets(&view) } else { Named::new() },
        name_table: if proxy.is_router() { Named::new() } else { name_table::name_table(&view) },
        listeners,
        routes,
    }
}

/// Only the endpoints: enough when nothing but readiness or addresses of workloads changed.
pub fn compile_endpoints(snapshot: &Snapshot, proxy: &Proxy) -> Named {
    endpoint::endpoints(&View::of(snapshot, proxy))
}
