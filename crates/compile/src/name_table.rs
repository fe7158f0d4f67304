//! NDS: the names a sidecar's DNS proxy may answer, with their virtual addresses.
//!
//! - Reads: visible services.
//! - Rule: a headless service answers with its endpoints' addresses; a wildcard host is left out.
//! - Not here: the embedded cluster's own DNS server.

use crate::{Named, Resource, View};
use lateen_envoy_api::istio::networking::nds::v1::{NameTable, name_table::NameInfo};
use lateen_mesh::{Health, Registry, Service};

/// The one name table, under the empty name.
pub(crate) fn name_table(view: &View<'_>) -> Named {
    let mut table = NameTable::default();
    for (host, service) in &view.services {
        let ips = addresses(service);
        if host.is_wildcard() || ips.is_empty() {
            continue;
        }
        let kubernetes = service.registry == Registry::Kubernetes;
        let info = NameInfo {
            ips,
            registry: service.registry.as_str().to_owned(),
            shortname: if kubernetes { service.name().to_owned() } else { String::new() },
            namespace: if kubernetes { service.namespace().to_owned() } else { String::new() },
        };
        table.table.insert(host.as_str().to_owned(), info);
    }
    Named::from([(String::new(), Resource::new(&table))])
}

fn addresses(service: &Service) -> Vec<String> {
    if service.headless {
        return service.endpoints.iter().filter(|e| e.health == Health::Healthy).map(|e| e.address.clone()).collect();
    }
    service.single_addresses().map(str::to_owned).collect()
}
