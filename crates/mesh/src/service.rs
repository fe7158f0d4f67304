//! `Service`: a host name that can be called, whether a Kubernetes Service or a ServiceEntry declared it.
//!
//! - Reads: Kubernetes Services, ServiceEntries; endpoints are attached by `snapshot`.
//! - Rule: `hostname` is fully qualified and lower case; one ServiceEntry with n hosts becomes n services.
//! - Limits: UDP ports are kept out: the mesh carries TCP.
//! - Not here: which rules apply to a service (`lookup`).

use crate::{Endpoint, ExportTo, Meta, Protocol};
use lateen_base::Host;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who declared a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Registry {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry.
    External,
}

impl Registry {
    /// The word Istio uses in the name table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "Kubernetes",
            Self::External => "External",
        }
    }
}

/// How a client gets from the service to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// The control plane sends the endpoints (EDS).
    ClientSide,
    /// The proxy asks DNS and uses all answers.
    Dns,
    /// The proxy asks DNS and uses the answers in turn.
    DnsRoundRobin,
    /// The connection goes where the client meant it to go.
    Passthrough,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; may be empty for the only port.
    pub name: String,
    /// Number clients connect to.
    pub number: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where the workload listens.
    pub target: TargetPort,
}

/// Where a workload listens for a service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container port.
    Name(String),
}

/// A host name that can be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Fully qualified name, or wildcard for a ServiceEntry.
    pub hostname: Host,
    /// Object that declared it.
    pub meta: Arc<Meta>,
    /// Who declared it.
    pub registry: Registry,
    /// Ports, as declared.
    pub ports: Vec<ServicePort>,
    /// Virtual addresses: cluster IPs, or the ServiceEntry's addresses (which may be CIDRs).
    pub addresses: Vec<String>,
    /// Workloads that answer; empty when endpoints are given otherwise.
    pub selector: BTreeMap<String, String>,
    /// From service to address.
    pub resolution: Resolution,
    /// A Kubernetes Service with `clusterIP: None`.
    pub headless: bool,
    /// Outside the mesh: no mTLS by itself. Source: `ServiceEntry.location`.
    pub external: bool,
    /// Namespaces that see it.
    pub export_to: ExportTo,
    /// Identities the server may show besides its endpoints'. Source: `ServiceEntry.subjectAltNames`.
    pub subject_alt_names: Vec<String>,
    /// Publishes unready endpoints too. Source: `publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Addresses that answer, in order of address.
    pub endpoints: Vec<Endpoint>,
}

impl Service {
    /// Name of the declaring object.
    pub fn name(&self) -> &str {
        &self.meta.name
    }

    /// Namespace of the declaring object.
    pub fn namespace(&self) -> &str {
        &self.meta.namespace
    }

    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.number == number)
    }

    /// Identities clients should expect: the endpoints' and the declared ones, sorted, each once.
    pub fn identities(&self) -> Vec<String> {
        let mut all: Vec<String> = self.endpoints.iter().filter(|e| !e.identity.is_empty()).map(|e| e.identity.clone()).collect();
        all.extend(self.subject_alt_names.iter().cloned());
        all.sort();
        all.dedup();
        all
    }

    /// Addresses a listener can be bound to: single IPs, no CIDRs.
    pub fn single_addresses(&self) -> impl Iterator<Item = &str> {
        self.addresses.iter().map(String::as_str).filter(|a| !a.contains('/'))
    }
}
