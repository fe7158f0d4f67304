//! ServiceEntry → services: one for each host, with the endpoints it lists or selects.
//!
//! - Reads: `networking.istio.io` ServiceEntry, WorkloadEntry.
//! - Twin: `kinds/src/service_entry/`, which validates them; `kinds/src/workload_entry/mod.rs`.
//! - Rule: a DNS ServiceEntry without endpoints has its host as the only endpoint; with `NONE` it has none.
//! - Not here: Kubernetes Services (`kubernetes`).

use crate::service::{Registry, Resolution, Service, ServicePort, TargetPort};
use crate::{Endpoint, ExportTo, Locality, Object, Protocol, TlsMode, Workload, selects};
use lateen_base::{Host, SpiffeId};
use lateen_istio_api::{Location, Resolution as Declared};
use lateen_istio_api as istio;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The services one ServiceEntry declares; `workloads` are those it may select from.
pub fn services(entry: &Object<istio::ServiceEntry>, workloads: &[Workload], default_export: &[String], trust_domain: &str) -> Vec<Service> {
    let spec = &entry.spec;
    let ports = ports(spec);
    let export = if spec.export_to.is_empty() { default_export } else { &spec.export_to };
    let resolution = match spec.resolution {
        Declared::None => Resolution::Passthrough,
        Declared::Static => Resolution::ClientSide,
        Declared::Dns | Declared::DynamicDns => Resolution::Dns,
        Declared::DnsRoundRobin => Resolution::DnsRoundRobin,
    };
    let selector = spec.workload_selector.as_ref().map(|s| s.labels.clone()).unwrap_or_default();
    spec.hosts
        .iter()
        .map(|host| Service {
            hostname: Host::new(host),
            meta: Arc::clone(&entry.meta),
            registry: Registry::External,
            ports: ports.clone(),
            addresses: spec.addresses.clone(),
            selector: selector.clone(),
            resolution,
            headless: false,
            external: spec.location == Location::MeshExternal,
            export_to: ExportTo::of(export),
            subject_alt_names: spec.subject_alt_names.clone(),
            publish_not_ready: false,
            endpoints: endpoints(entry, host, resolution, &Selected { workloads, selector: &selector, trust_domain }),
        })
        .collect()
}

struct Selected<'a> {
    workloads: &'a [Workload],
    selector: &'a BTreeMap<String, String>,
    trust_domain: &'a str,
}

fn ports(spec: &istio::ServiceEntry) -> Vec<ServicePort> {
    spec.ports
        .iter()
        .filter_map(|port| {
            let number = u16::try_from(port.number).ok()?;
            let target = u16::try_from(port.target_port).ok().filter(|t| *t != 0).unwrap_or(number);
            let protocol = Protocol::parse(&port.protocol).unwrap_or_else(|| Protocol::of_service_port(&port.name, None, "TCP", number));
            Some(ServicePort { name: port.name.clone(), number, protocol, target: TargetPort::Number(target) })
        })
        .filter(|port| port.protocol != Protocol::Udp)
        .collect()
}

fn endpoints(entry: &Object<istio::ServiceEntry>, host: &str, resolution: Resolution, selected: &Selected<'_>) -> Vec<Endpoint> {
    let spec = &entry.spec;
    if resolution == Resolution::Passthrough {
        return Vec::new();
    }
    if !selected.selector.is_empty() {
        return selected
            .workloads
            .iter()
            .filter(|w| w.namespace == entry.meta.namespace && !w.terminating && selects(selected.selector, &w.labels))
            .map(|w| of_workload(w, spec, selected.trust_domain))
            .collect();
    }
    if spec.endpoints.is_empty() && resolution != Resolution::ClientSide {
        return vec![Endpoint { address: host.to_owned(), ports: port_numbers(spec, &BTreeMap::new()), namespace: entry.meta.namespace.clone(), ..Endpoint::default() }];
    }
    spec.endpoints.iter().map(|e| of_entry(e, entry, selected.trust_domain)).collect()
}

fn port_numbers(spec: &istio::ServiceEntry, own: &BTreeMap<String, u16>) -> BTreeMap<String, u16> {
    ports(spec)
        .into_iter()
        .map(|port| {
            let number = own.get(&port.name).copied().unwrap_or(match port.target {
                TargetPort::Number(n) => n,
                TargetPort::Name(_) => port.number,
            });
            (port.name, number)
        })
        .collect()
}

fn of_entry(e: &istio::WorkloadEntry, entry: &Object<istio::ServiceEntry>, trust_domain: &str) -> Endpoint {
    let own = e.ports.iter().filter_map(|(name, number)| Some((name.clone(), u16::try_from(*number).ok()?))).collect();
    let identity = if e.service_account.is_empty() { String::new() } else { SpiffeId::new(trust_domain, &entry.meta.namespace, &e.service_account).to_string() };
    Endpoint {
        address: e.address.clone(),
        ports: port_numbers(&entry.spec, &own),
        labels: e.labels.clone(),
        locality: Locality::parse(&e.locality),
        weight: e.weight,
        tls_mode: tls_mode(&e.labels, &e.service_account),
        identity,
        namespace: entry.meta.namespace.clone(),
        workload_name: String::new(),
        health: crate::Health::Healthy,
        network: e.network.clone(),
    }
}

/// A workload outside Kubernetes that has an identity is taken to have a proxy, unless its label says otherwise. Source: istiod.
fn tls_mode(labels: &BTreeMap<String, String>, service_account: &str) -> TlsMode {
    match (labels.contains_key(lateen_base::labels::TLS_MODE), service_account.is_empty()) {
        (true, _) => TlsMode::of_labels(labels),
        (false, false) => TlsMode::Istio,
        (false, true) => TlsMode::Disabled,
    }
}

fn of_workload(w: &Workload, spec: &istio::ServiceEntry, trust_domain: &str) -> Endpoint {
    Endpoint { ports: port_numbers(spec, &w.ports), ..w.endpoint(trust_domain) }
}

/// The workload a WorkloadEntry declares.
pub fn workload(entry: &Object<istio::WorkloadEntry>) -> Workload {
    let spec = &entry.spec;
    let mut labels = entry.meta.labels.clone();
    labels.extend(spec.labels.clone());
    Workload {
        name: entry.meta.name.clone(),
        workload_name: entry.meta.name.clone(),
        namespace: entry.meta.namespace.clone(),
        address: spec.address.clone(),
        tls_mode: tls_mode(&labels, &spec.service_account),
        labels,
        service_account: spec.service_account.clone(),
        ready: true,
        terminating: entry.meta.deletion_timestamp.is_some(),
        locality: Locality::parse(&spec.locality),
        ports: spec.ports.iter().filter_map(|(name, number)| Some((name.clone(), u16::try_from(*number).ok()?))).collect(),
        weight: spec.weight,
        network: spec.network.clone(),
        external: true,
    }
}
