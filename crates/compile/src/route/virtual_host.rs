//! Virtual hosts: the names by which a service is called, and the routes of requests that use one of them.
//!
//! - Reads: visible services.
//! - Rule: in its own namespace a service answers to `name`, elsewhere only to `name.namespace` and longer forms, and everywhere to its addresses.
//! - Rule: no name stands in two virtual hosts of one configuration; the first keeps it.
//! - Not here: which rule applies (`outbound`, `gateway`).

use super::operation_route;
use crate::View;
use lateen_base::Host;
use lateen_envoy_api::envoy::config::route::v3::{Route, VirtualHost};
use lateen_mesh::{OutboundMode, Registry, Service};
use std::collections::BTreeSet;

/// Virtual hosts of one configuration, with the names already taken.
#[derive(Default)]
pub(super) struct VirtualHosts {
    hosts: Vec<VirtualHost>,
    taken: BTreeSet<String>,
}

impl VirtualHosts {
    /// Adds a virtual host for the names nobody has yet; none at all when all are taken.
    pub(super) fn add(&mut self, name: String, domains: Vec<String>, routes: Vec<Route>) {
        let free: Vec<String> = domains.into_iter().filter(|d| self.taken.insert(d.to_ascii_lowercase())).collect();
        if !free.is_empty() {
            self.hosts.push(virtual_host(name, free, routes));
        }
    }

    /// Adds the virtual host for everything else, and gives all.
    pub(super) fn finish(mut self, view: &View<'_>) -> Vec<VirtualHost> {
        if !self.taken.contains("*") {
            self.hosts.push(operation_route::catch_all(view.outbound_mode() == OutboundMode::AllowAny));
        }
        self.hosts
    }
}

/// A virtual host as istiod's: the number of attempts is told to the backend.
pub(super) fn virtual_host(name: String, domains: Vec<String>, routes: Vec<Route>) -> VirtualHost {
    VirtualHost { name, domains, routes, include_request_attempt_count: true, ..Default::default() }
}

/// Names and addresses a service is called by from `view`'s proxy.
pub(super) fn domains(view: &View<'_>, service: &Service) -> Vec<String> {
    let mut domains = host_names(view, &service.hostname);
    if service.headless && service.registry == Registry::Kubernetes {
        let pods: Vec<String> = domains.iter().filter(|d| d.contains('.')).map(|d| format!("*.{d}")).collect();
        domains.extend(pods);
    }
    domains.extend(service.single_addresses().map(str::to_owned));
    domains
}

/// A host's long, absolute and short forms, as clients in the proxy's namespace may write them.
pub(super) fn host_names(view: &View<'_>, host: &Host) -> Vec<String> {
    let fqdn = host.as_str().to_owned();
    if host.is_wildcard() {
        return vec![fqdn];
    }
    let mut names = vec![fqdn.clone(), format!("{fqdn}.")];
    let suffix = format!(".svc.{}", view.config().cluster_domain);
    let Some((name, namespace)) = fqdn.strip_suffix(&suffix).and_then(|short| short.rsplit_once('.')) else { return names };
    if namespace == view.proxy.namespace {
        names.push(name.to_owned());
        names.push(format!("{name}.{namespace}.svc"));
        names.push(format!("{name}.{namespace}"));
    } else {
        names.push(format!("{name}.{namespace}"));
        names.push(format!("{name}.{namespace}.svc"));
    }
    names
}
