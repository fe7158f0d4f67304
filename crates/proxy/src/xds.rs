//! xDS: from the control plane to the server's plan, and the verdict back.
//!
//! - Reads: `dynamic_resources` and the `sds_config`s of TLS contexts.
//! - Twin: `control/src`, which answers.
//! - Rule: one aggregated stream, and one stream per cluster that serves secrets; each reconnects by itself, and what is in force stays.
//! - Rule: names learned from an update are asked for before the update is acknowledged.
//! - Not here: the protocol (`xds` crate), what resources mean (`plan`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::ToSocketAddrs;
use std::rc::Rc;
use std::sync::Arc;

use lateen_plan::Plan;
use lateen_plan::cluster::UpstreamTransport;
use lateen_plan::http::RouteSource;
use lateen_plan::listener::tls::{SdsRef, SdsSource};
use lateen_plan::listener::{DownstreamTransport, FilterChain, Terminal};
use lateen_plan::names::Name;
use lateen_xds::client::{self, Connector, Event, Handle, Io, Options, Service};
use lateen_xds::{Protocol, Update, types};
use tokio::task::JoinHandle;

use crate::bootstrap::Target;
use crate::builder::{Change, Item};
use crate::server::Server;
use crate::transport::raw::{self, DialOptions};
use crate::transport::sds;

/// Starts the aggregated stream, if the bootstrap names a control plane, and secret streams as they become needed. Runs for ever.
pub async fn run(server: Rc<Server>, dial: DialOptions) {
    let mut secret_streams = SecretStreams { server: Rc::clone(&server), dial: dial.clone(), streams: HashMap::new() };
    let Some(ads) = server.bootstrap.ads.clone() else {
        secret_streams.reconcile().await;
        return std::future::pending().await;
    };
    let protocol = if ads.delta { Protocol::Delta } else { Protocol::Sotw };
    let options = Options::new(server.bootstrap.node(), protocol, connector(&ads.target, &dial));
    let (handle, mut events) = client::start(options);
    if ads.cds {
        handle.subscribe_all(types::CLUSTER).await;
    }
    if ads.lds {
        handle.subscribe_all(types::LISTENER).await;
    }
    reconcile_names(&server, &handle).await;
    while let Some(event) = events.recv().await {
        match event {
            Event::Connected => tracing::info!(cluster = %ads.cluster, "control plane connected"),
            Event::Disconnected { error, retry_in } => tracing::warn!(cluster = %ads.cluster, %error, ?retry_in, "control plane gone; what is in force stays"),
            Event::Update(update) => {
                let refused = server.apply(&change(&update, SdsSource::Ads));
                if matches!(update.type_url.as_str(), types::CLUSTER | types::LISTENER) {
                    reconcile_names(&server, &handle).await;
                    secret_streams.reconcile().await;
                }
                answer(&handle, &update, refused).await;
            }
        }
    }
}

async fn answer(handle: &Handle, update: &Update, refused: Vec<crate::server::Refused>) {
    if refused.is_empty() {
        handle.ack(update).await;
        return;
    }
    let detail = refused.iter().map(|r| r.why.as_str()).collect::<Vec<_>>().join("; ");
    tracing::warn!(kind = types::short(&update.type_url), %detail, "configuration refused; the last good one stays");
    handle.nack(update, refused.into_iter().map(|r| r.name).collect(), detail).await;
}

fn change(update: &Update, source: SdsSource) -> Change {
    Change {
        type_url: update.type_url.clone(),
        added: update.added.iter().map(|n| Item { name: n.name.clone(), version: n.version.clone(), body: n.body.clone() }).collect(),
        removed: update.removed.clone(),
        source,
        is_static: false,
    }
}

/// Asks the aggregated stream for exactly what the newest plan refers to.
async fn reconcile_names(server: &Server, handle: &Handle) {
    let references = server.references(&server.next_plan());
    let texts = |names: &HashSet<Name>| names.iter().map(|n| n.to_string()).collect::<BTreeSet<_>>();
    handle.set_names(types::ENDPOINT, texts(&references.endpoints)).await;
    handle.set_names(types::ROUTE, texts(&references.routes)).await;
    let secrets = references.secrets.iter().filter(|s| s.source == SdsSource::Ads).map(|s| s.name.to_string()).collect();
    handle.set_names(types::SECRET, secrets).await;
}

/// What the listeners and clusters of a plan refer to by name.
#[derive(Debug, Default)]
pub struct References {
    /// Route tables.
    pub routes: HashSet<Name>,
    /// Endpoints (EDS names).
    pub endpoints: HashSet<Name>,
    /// Secrets.
    pub secrets: HashSet<SdsRef>,
}

impl References {
    /// Collects them.
    pub fn of(plan: &Plan) -> Self {
        let mut references = References::default();
        references.endpoints.extend(plan.clusters.values().filter_map(|c| c.eds_name()).map(Name::clone));
        for chain in chains(plan) {
            if let Terminal::Http(hcm) = &chain.terminal
                && let RouteSource::Rds(name) = &hcm.routes
            {
                references.routes.insert(Name::clone(name));
            }
            if let DownstreamTransport::Tls(context) = &chain.transport {
                references.secrets.extend(sds::references(&context.common).cloned());
            }
        }
        let transports = plan.clusters.values().flat_map(|c| std::iter::once(&c.transport).chain(c.transport_matches.iter().map(|m| &m.transport)));
        for transport in transports {
            if let UpstreamTransport::Tls(context) = transport {
                references.secrets.extend(sds::references(&context.common).cloned());
            }
        }
        references
    }
}

fn chains(plan: &Plan) -> impl Iterator<Item = &Arc<FilterChain>> {
    plan.listeners.values().flat_map(|l| l.filter_chains.iter().chain(l.default_filter_chain.as_ref()))
}

/// One stream per cluster that serves secrets.
struct SecretStreams {
    server: Rc<Server>,
    dial: DialOptions,
    streams: HashMap<Name, (Handle, JoinHandle<()>)>,
}

impl SecretStreams {
    /// Opens streams for new clusters and asks for the names the plan refers to. A stream once open stays: its secrets rotate.
    async fn reconcile(&mut self) {
        let mut wanted: HashMap<Name, BTreeSet<String>> = HashMap::new();
        let references = self.server.references(&self.server.next_plan());
        for secret in &references.secrets {
            if let SdsSource::Cluster(cluster) = &secret.source {
                wanted.entry(Name::clone(cluster)).or_default().insert(secret.name.to_string());
            }
        }
        for (cluster, names) in wanted {
            if !self.streams.contains_key(&cluster)
                && let Some(stream) = self.open(&cluster)
            {
                self.streams.insert(Name::clone(&cluster), stream);
            }
            if let Some((handle, _)) = self.streams.get(&cluster) {
                handle.subscribe(types::SECRET, names.into_iter().collect()).await;
            }
        }
    }

    fn open(&self, cluster: &Name) -> Option<(Handle, JoinHandle<()>)> {
        let Some(target) = self.server.bootstrap.target(cluster) else {
            tracing::error!(%cluster, "secrets are to come from a cluster that the bootstrap does not define");
            return None;
        };
        // Agents serve secrets state-of-the-world; Envoy asks them so, too.
        let mut options = Options::new(self.server.bootstrap.node(), Protocol::Sotw, connector(&target, &self.dial));
        options.service = Service::Secret;
        let (handle, mut events) = client::start(options);
        let (server, own, cluster) = (Rc::clone(&self.server), handle.clone(), Name::clone(cluster));
        let task = tokio::task::spawn_local(async move {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Connected => tracing::debug!(%cluster, "secret stream connected"),
                    Event::Disconnected { error, retry_in } => tracing::warn!(%cluster, %error, ?retry_in, "secret stream gone; certificates in force stay"),
                    Event::Update(update) => {
                        let refused = server.apply(&change(&update, SdsSource::Cluster(Name::clone(&cluster))));
                        answer(&own, &update, refused).await;
                    }
                }
            }
        });
        Some((handle, task))
    }
}

/// Opens connections to a control plane with the proxy's own mark.
fn connector(target: &Target, dial: &DialOptions) -> Connector {
    match target {
        Target::Pipe(path) => client::unix(path.clone()),
        Target::Tcp(address) => {
            let (address, dial): (Arc<str>, _) = (address.as_str().into(), dial.clone());
            Arc::new(move || {
                let (address, dial) = (Arc::clone(&address), dial.clone());
                Box::pin(async move {
                    let resolved = tokio::task::spawn_blocking(move || address.to_socket_addrs().map(|mut all| all.next())).await.map_err(std::io::Error::other)??;
                    let target = resolved.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, "the control plane's name has no address"))?;
                    Ok(Box::new(raw::dial(target, &dial).await?) as Box<dyn Io>)
                })
            })
        }
    }
}
