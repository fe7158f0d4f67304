//! WorkloadEntry: a program outside Kubernetes that belongs to the mesh.
//!
//! - Reads: `networking.istio.io` WorkloadEntry, and the endpoints of a ServiceEntry, which have the same fields.
//! - Twin: `mesh/src/service_entry.rs`.

use lateen_base::Findings;
use lateen_istio_api::WorkloadEntry;
use lateen_mesh::{Object, Snapshot};

use crate::check::{Check, is_dns_name};
use crate::kind::{Gvk, Kind};

/// The kind.
pub enum WorkloadEntryKind {}

impl Kind for WorkloadEntryKind {
    const GVK: Gvk = Gvk { group: "networking.istio.io", version: "v1", also: &["v1beta1", "v1alpha3"], kind: "WorkloadEntry", plural: "workloadentries" };
    type Spec = WorkloadEntry;

    fn objects(mesh: &Snapshot) -> &[Object<WorkloadEntry>] {
        &mesh.workload_entries
    }

    fn validate(object: &Object<WorkloadEntry>, findings: &mut Findings) {
        validate_entry(&object.spec, "spec", &mut Check::new(&object.meta, findings));
    }

    fn analyze(_: &Object<WorkloadEntry>, _: &Snapshot, _: &mut Findings) {}
}

/// Checks an entry at `path`.
pub fn validate_entry(entry: &WorkloadEntry, path: &str, check: &mut Check<'_>) {
    let address = &entry.address;
    if address.is_empty() && entry.network.is_empty() {
        check.error(format!("{path}.address"), "the endpoint has no address", "add an IP address or a host name");
    } else if let Some(socket) = address.strip_prefix("unix://") {
        if !socket.starts_with(['/', '@']) || !entry.ports.is_empty() {
            check.error(format!("{path}.address"), format!("\"{address}\" is no socket"), "use unix:// and an absolute path, without ports");
        }
    } else if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() && !is_dns_name(address) {
        check.error(format!("{path}.address"), format!("\"{address}\" is no address"), "use an IP address or a host name");
    }
    for (name, port) in &entry.ports {
        check.port(&format!("{path}.ports.{name}"), *port);
    }
    check.labels(&format!("{path}.labels"), &entry.labels);
}
