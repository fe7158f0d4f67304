//! DNS clusters: names turned into endpoints, again and again.
//!
//! - Reads: `plan::cluster::{Dns, Discovery::StrictDns, Discovery::LogicalDns}`.
//! - Rule: runs on the main thread; workers get finished endpoints. A failed look-up keeps the last good answer.
//! - Rule: names are resolved by the system's resolver, so `/etc/hosts` and `/etc/resolv.conf` hold here as for every program.
//! - Limits: a failed look-up is tried again after [`RETRY`]; answers hold no more than `ENDPOINTS_MAX` addresses.
//! - Not here: which endpoint is used (`endpoints`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lateen_plan::cluster::{Cluster, ClusterEndpoints, Discovery, Dns, DnsFamily, Endpoint, EndpointAddress};

/// Wait after a failed look-up.
pub const RETRY: Duration = Duration::from_secs(1);
/// Shortest time between look-ups, whatever the configuration says.
pub const REFRESH_MIN: Duration = Duration::from_millis(500);

/// The DNS settings of a cluster, and whether only one address is used.
pub fn settings(cluster: &Cluster) -> Option<(&Dns, bool)> {
    match &cluster.discovery {
        Discovery::StrictDns(dns) => Some((dns, false)),
        Discovery::LogicalDns(dns) => Some((dns, true)),
        Discovery::Static(_) | Discovery::Eds { .. } | Discovery::OriginalDst(_) => None,
    }
}

/// Resolves a cluster for ever, telling each new set of endpoints to `changed`.
pub async fn keep_resolved(cluster: Arc<Cluster>, changed: impl Fn(Arc<ClusterEndpoints>)) {
    let Some((dns, single)) = settings(&cluster) else { return };
    let mut last: Option<ClusterEndpoints> = None;
    loop {
        let (found, complete) = resolve(dns, single, last.as_ref()).await;
        if last.as_ref() != Some(&found) {
            last = Some(found.clone());
            changed(Arc::new(found));
        }
        tokio::time::sleep(if complete { dns.refresh_rate.max(REFRESH_MIN) } else { RETRY }).await;
    }
}

/// Endpoints of all names; false when any look-up failed.
async fn resolve(dns: &Dns, single: bool, last: Option<&ClusterEndpoints>) -> (ClusterEndpoints, bool) {
    let mut found: HashMap<&EndpointAddress, Vec<SocketAddr>> = HashMap::new();
    let mut complete = true;
    for endpoint in &dns.endpoints.endpoints {
        match addresses(endpoint, dns.family).await {
            Ok(mut addresses) => {
                if single {
                    addresses.truncate(1);
                }
                found.insert(&endpoint.address, addresses);
            }
            Err(error) => {
                tracing::warn!(endpoint = ?endpoint.address, %error, "name does not resolve");
                complete = false;
            }
        }
    }
    match last {
        Some(last) if !complete => (last.clone(), false),
        Some(_) | None => {
            let replace = |endpoint: &Endpoint| found.get(&endpoint.address).into_iter().flatten().map(|address| at(endpoint, *address)).collect();
            (dns.endpoints.resolved(replace), complete)
        }
    }
}

fn at(endpoint: &Endpoint, address: SocketAddr) -> Endpoint {
    let mut resolved = endpoint.clone();
    if let EndpointAddress::Dns(name, _) = &endpoint.address
        && endpoint.hostname.is_empty()
    {
        resolved.hostname = Arc::clone(name);
    }
    resolved.address = EndpointAddress::Socket(address);
    resolved
}

async fn addresses(endpoint: &Endpoint, family: DnsFamily) -> std::io::Result<Vec<SocketAddr>> {
    match &endpoint.address {
        EndpointAddress::Socket(address) => Ok(vec![*address]),
        EndpointAddress::Pipe(_) => Ok(Vec::new()),
        EndpointAddress::Dns(name, port) => {
            let mut all: Vec<SocketAddr> = tokio::net::lookup_host((&**name, *port)).await?.collect();
            all.sort();
            all.dedup();
            let (v4, v6): (Vec<_>, Vec<_>) = all.into_iter().partition(SocketAddr::is_ipv4);
            let first = |a: Vec<SocketAddr>, b: Vec<SocketAddr>| if a.is_empty() { b } else { a };
            let found = match family {
                DnsFamily::V4Only => v4,
                DnsFamily::V6Only => v6,
                DnsFamily::V4Preferred => first(v4, v6),
                DnsFamily::Auto => first(v6, v4),
                DnsFamily::All => v4.into_iter().chain(v6).collect(),
            };
            if found.is_empty() { Err(std::io::ErrorKind::AddrNotAvailable.into()) } else { Ok(found) }
        }
    }
}
