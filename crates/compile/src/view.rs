//! `View`: what one proxy may see of a snapshot; the only thing the outputs read.
//!
//! - Reads: exportTo, the Sidecar resource's egress hosts, DestinationRules, the workload's own services.
//! - Twin: `kinds/src/sidecar/mod.rs`.
//! - Rule: whatever two outputs need to agree on (which services, which rule, which ports) is decided here, once.
//! - Limits: a Sidecar egress listener's own port and bind address narrow nothing; only its hosts count.
//! - Not here: the shape of any resource.

use lateen_base::{Host, names};
use lateen_istio_api as istio;
use lateen_mesh::{MeshConfig, Object, OutboundMode, Protocol, Proxy, Resolution, Service, ServicePort, Snapshot, TargetPort, Workload};
use std::collections::BTreeMap;

/// What one proxy may see.
pub struct View<'a> {
    /// All objects.
    pub snapshot: &'a Snapshot,
    /// Who asks.
    pub proxy: &'a Proxy,
    /// Services it can call, by name.
    pub services: BTreeMap<&'a Host, &'a Service>,
    /// The Sidecar resource that applies to it.
    pub sidecar: Option<&'a Object<istio::Sidecar>>,
    /// Ports at which the workload itself is called.
    pub inbound: Vec<InboundPort<'a>>,
    rules: BTreeMap<&'a Host, Object<istio::DestinationRule>>,
}

/// One port at which the workload behind a sidecar is called.
#[derive(Debug, Clone)]
pub struct InboundPort<'a> {
    /// Port the workload listens on, before interception.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Services that lead here, each with its own port; empty for a Sidecar ingress listener.
    pub services: Vec<(&'a Service, &'a ServicePort)>,
    /// The Sidecar ingress listener, if one declares this port.
    pub ingress: Option<&'a istio::IstioIngressListener>,
}

impl<'a> View<'a> {
    /// Narrows a snapshot to what `proxy` may see.
    pub fn of(snapshot: &'a Snapshot, proxy: &'a Proxy) -> Self {
        let sidecar = if proxy.is_router() { None } else { snapshot.sidecar_of(proxy) };
        let mut services = snapshot.visible_services(&proxy.namespace);
        if let Some(egress) = sidecar.map(|s| &s.spec.egress).filter(|e| !e.is_empty()) {
            let hosts: Vec<&String> = egress.iter().flat_map(|listener| &listener.hosts).collect();
            services.retain(|_, service| hosts.iter().any(|host| egress_host_covers(host, &service.hostname, service.namespace(), proxy)));
        }
        let rules = services
            .iter()
            .filter_map(|(host, service)| Some((*host, snapshot.destination_rule(service, &proxy.namespace, &proxy.labels)?)))
            .collect();
        let inbound = if proxy.is_router() { Vec::new() } else { inbound(snapshot, proxy, sidecar) };
        Self { snapshot, proxy, services, sidecar, inbound, rules }
    }

    /// Mesh-wide options.
    pub fn config(&self) -> &'a MeshConfig {
        &self.snapshot.mesh_config
    }

    /// The service called `host`, if this proxy may call it.
    pub fn service(&self, host: &Host) -> Option<&'a Service> {
        self.services.get(host).copied()
    }

    /// The DestinationRule for a service, as this proxy calls it.
    pub fn destination_rule(&self, service: &Service) -> Option<&Object<istio::DestinationRule>> {
        self.rules.get(&service.hostname)
    }

    /// VirtualServices for sidecars that this proxy may see, oldest first.
    pub fn mesh_virtual_services(&self) -> impl Iterator<Item = &'a Object<istio::VirtualService>> {
        let egress: Vec<&str> = self.sidecar.into_iter().flat_map(|s| &s.spec.egress).flat_map(|listener| &listener.hosts).map(String::as_str).collect();
        let (proxy, domain) = (self.proxy, self.config().cluster_domain.as_str());
        self.snapshot.virtual_services(names::MESH_GATEWAY, &proxy.namespace).filter(move |rule| {
            let covered = |host: &String| {
                let host = Host::resolve(host, &rule.meta.namespace, domain);
                egress.iter().any(|entry| egress_host_covers(entry, &host, &rule.meta.namespace, proxy))
            };
            egress.is_empty() || rule.spec.hosts.iter().any(covered)
        })
    }

    /// Whether undeclared destinations may be called.
    pub fn outbound_mode(&self) -> OutboundMode {
        match self.sidecar.and_then(|s| s.spec.outbound_traffic_policy.as_ref()).map(|p| p.mode) {
            Some(istio::OutboundTrafficPolicyMode::AllowAny) => OutboundMode::AllowAny,
            Some(istio::OutboundTrafficPolicyMode::RegistryOnly) => OutboundMode::RegistryOnly,
            None => self.config().outbound_mode,
        }
    }

    /// The host a rule in `namespace` means by `name`.
    pub fn resolve(&self, name: &str, namespace: &str) -> Host {
        Host::resolve(name, namespace, &self.config().cluster_domain)
    }

    /// How this proxy reaches a service: gateways never pass a connection through to where it was going.
    pub fn resolution(&self, service: &Service) -> Resolution {
        match service.resolution {
            Resolution::Passthrough if self.proxy.is_router() => Resolution::ClientSide,
            other => other,
        }
    }
}

/// Whether a Sidecar's egress host `namespace/name` covers `host`, declared in `declared_in`. `.` is the proxy's own namespace, `*` every, `~` none.
fn egress_host_covers(entry: &str, host: &Host, declared_in: &str, proxy: &Proxy) -> bool {
    let Some((namespace, name)) = entry.split_once('/') else { return false };
    let namespace_matches = match namespace {
        "*" => true,
        "." => declared_in == proxy.namespace,
        "~" => false,
        other => declared_in == other,
    };
    namespace_matches && Host::new(name).overlaps(host)
}

fn inbound<'a>(snapshot: &'a Snapshot, proxy: &'a Proxy, sidecar: Option<&'a Object<istio::Sidecar>>) -> Vec<InboundPort<'a>> {
    let workload = proxy.ip_addresses.iter().find_map(|address| snapshot.workload_at(address));
    let mut ports: BTreeMap<u16, InboundPort<'a>> = BTreeMap::new();
    for service in snapshot.services_of(proxy) {
        for port in &service.ports {
            let Some(target) = target(port, workload) else { continue };
            let entry = ports.entry(target).or_insert_with(|| InboundPort { port: target, protocol: port.protocol, services: Vec::new(), ingress: None });
            entry.services.push((service, port));
        }
    }
    let Some(ingress) = sidecar.map(|s| &s.spec.ingress).filter(|i| !i.is_empty()) else { return ports.into_values().collect() };
    let declared = ingress.iter().filter_map(|listener| {
        let port = listener.port.as_ref()?;
        let number = u16::try_from(port.number).ok()?;
        let protocol = Protocol::parse(&port.protocol).unwrap_or(Protocol::Auto);
        let services = ports.get(&number).map(|p| p.services.clone()).unwrap_or_default();
        Some(InboundPort { port: number, protocol, services, ingress: Some(listener) })
    });
    declared.collect()
}

fn target(port: &ServicePort, workload: Option<&Workload>) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => workload?.ports.get(name).copied(),
    }
}
