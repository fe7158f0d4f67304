//! Workloads and endpoints: the programs that answer, and the addresses at which a service is answered.
//!
//! - Reads: Pods, WorkloadEntries, EndpointSlices.
//! - Rule: a terminating workload is no endpoint; an unready one is kept, marked [`Health::Unhealthy`].
//! - Not here: which service they belong to (`service`), how they are sent (`compile/src/endpoint`).

use lateen_base::{SpiffeId, labels};
use std::collections::BTreeMap;

/// Where something runs. Empty strings mean unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// Region, as `topology.kubernetes.io/region`.
    pub region: String,
    /// Zone, as `topology.kubernetes.io/zone`.
    pub zone: String,
    /// Sub-zone, as `topology.istio.io/subzone`.
    pub sub_zone: String,
}

impl Locality {
    /// Reads `region/zone/subzone`, as labels and ServiceEntry endpoints write it.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        Self { region: next(), zone: next(), sub_zone: next() }
    }
}

/// Whether a workload's own proxy accepts mTLS. Source: label `security.istio.io/tlsMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum TlsMode {
    /// No proxy: plaintext only.
    #[default]
    Disabled,
    /// A proxy that ends mTLS.
    Istio,
}

impl TlsMode {
    /// Reads the workload's label.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        match labels.get(labels::TLS_MODE).map(String::as_str) {
            Some(labels::TLS_MODE_ISTIO) => Self::Istio,
            _ => Self::Disabled,
        }
    }
}

/// Whether an endpoint gets traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Health {
    /// Ready.
    #[default]
    Healthy,
    /// Known, but not ready.
    Unhealthy,
    /// Terminating, kept for clients that hold on to it.
    Draining,
}

/// One running program with an address: a Pod or a WorkloadEntry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// Pod or WorkloadEntry name.
    pub name: String,
    /// Deployment or other owner's name; the pod's own when it has none.
    pub workload_name: String,
    /// Namespace.
    pub namespace: String,
    /// Address other workloads connect to.
    pub address: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Service account name.
    pub service_account: String,
    /// Passes its readiness checks.
    pub ready: bool,
    /// Deletion was asked for, or the program ended.
    pub terminating: bool,
    /// Where it runs.
    pub locality: Locality,
    /// Named container ports.
    pub ports: BTreeMap<String, u16>,
    /// Whether its proxy accepts mTLS.
    pub tls_mode: TlsMode,
    /// Share of traffic relative to others; 0 means 1.
    pub weight: u32,
    /// Network; empty for the only one.
    pub network: String,
    /// A WorkloadEntry rather than a Pod.
    pub external: bool,
}

impl Workload {
    /// Canonical service name. Source: Istio "Canonical Service".
    pub fn canonical_name(&self) -> &str {
        canonical_name(&self.labels, &self.workload_name)
    }

    /// SPIFFE identity its proxy shows.
    pub fn identity(&self, trust_domain: &str) -> String {
        if self.service_account.is_empty() { String::new() } else { SpiffeId::new(trust_domain, &self.namespace, &self.service_account).to_string() }
    }

    /// The endpoint this workload is, without ports.
    pub fn endpoint(&self, trust_domain: &str) -> Endpoint {
        Endpoint {
            address: self.address.clone(),
            ports: BTreeMap::new(),
            labels: self.labels.clone(),
            locality: self.locality.clone(),
            weight: self.weight,
            tls_mode: self.tls_mode,
            identity: self.identity(trust_domain),
            namespace: self.namespace.clone(),
            workload_name: self.workload_name.clone(),
            health: if self.ready { Health::Healthy } else { Health::Unhealthy },
            network: self.network.clone(),
        }
    }
}

/// One address that answers for a service, with the number behind each port name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// IP address, host name, or `unix://` path.
    pub address: String,
    /// Port name of the service → port of the endpoint.
    pub ports: BTreeMap<String, u16>,
    /// Labels, which subsets select by.
    pub labels: BTreeMap<String, String>,
    /// Where it runs.
    pub locality: Locality,
    /// Share relative to others; 0 means 1.
    pub weight: u32,
    /// Whether it accepts mTLS.
    pub tls_mode: TlsMode,
    /// SPIFFE identity it will show; empty when unknown.
    pub identity: String,
    /// Namespace of its workload.
    pub namespace: String,
    /// Owner's name of its workload.
    pub workload_name: String,
    /// Whether it gets traffic.
    pub health: Health,
    /// Network; empty for the only one.
    pub network: String,
}

/// Canonical service name: the label, else the recommended app labels, else the workload's name.
pub fn canonical_name<'a>(labels: &'a BTreeMap<String, String>, workload_name: &'a str) -> &'a str {
    [labels::CANONICAL_NAME, labels::APP_KUBERNETES_NAME, labels::APP]
        .iter()
        .find_map(|key| labels.get(*key))
        .map_or(workload_name, String::as_str)
}

/// Canonical revision: the label, else the version labels. `None` when nothing says.
pub fn canonical_revision(labels: &BTreeMap<String, String>) -> Option<&str> {
    [labels::CANONICAL_REVISION, labels::APP_KUBERNETES_VERSION, labels::VERSION].iter().find_map(|key| labels.get(*key)).map(String::as_str)
}

/// Name of the Deployment behind a ReplicaSet named `<deployment>-<hash>`.
pub fn deployment_of_replica_set(replica_set: &str, labels: &BTreeMap<String, String>) -> String {
    let hash = labels.get(labels::POD_TEMPLATE_HASH);
    let name = hash.and_then(|hash| replica_set.strip_suffix(hash.as_str())).and_then(|n| n.strip_suffix('-'));
    name.unwrap_or(replica_set).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_label_names_the_canonical_service() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        assert_eq!(canonical_name(&labels, "web-1"), "web");
        assert_eq!(canonical_name(&BTreeMap::new(), "web-1"), "web-1");
    }

    #[test]
    fn a_locality_may_lack_its_tail() {
        assert_eq!(Locality::parse("r1/z1"), Locality { region: "r1".into(), zone: "z1".into(), sub_zone: String::new() });
    }

    #[test]
    fn the_deployment_is_the_replica_set_without_its_hash() {
        let labels = BTreeMap::from([("pod-template-hash".to_owned(), "7d9f".to_owned())]);
        assert_eq!(deployment_of_replica_set("web-7d9f", &labels), "web");
    }
}
