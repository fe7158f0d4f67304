//! Analysis of DestinationRules among all other objects.
//!
//! - Reads: a snapshot: services, their endpoints, PeerAuthentications.
//! - Rule: messages are worded as `istioctl analyze` words them, where it has the message.

use lateen_base::{Code, Finding, Findings, Host};
use lateen_istio_api::{ClientTLSMode, DestinationRule};
use lateen_mesh::{MtlsMode, Object, Service, Snapshot, TlsMode};
use std::collections::BTreeMap;

use super::{subset, tls};
use crate::check::Check;

/// Looks at `object` among all others.
pub fn analyze(object: &Object<DestinationRule>, mesh: &Snapshot, findings: &mut Findings) {
    let mut check = Check::new(&object.meta, findings);
    let host = Host::resolve(&object.spec.host, &object.meta.namespace, &mesh.mesh_config.cluster_domain);
    let services: Vec<&Service> = mesh.services().iter().filter(|service| host.covers(&service.hostname)).collect();
    if services.is_empty() && !host.is_wildcard() {
        let message = format!("Referenced host not found: \"{}\"", object.spec.host);
        let remedy = "create a Service or ServiceEntry of that name, or correct the host";
        check.add(Finding::new(Code::ReferencedResourceNotFound, message).with_path("spec.host").with_remedy(remedy));
        return;
    }
    check_subsets(&object.spec, &services, mesh, &mut check);
    match tls::mode(object.spec.traffic_policy.as_ref().and_then(|policy| policy.tls.as_ref())) {
        Some(ClientTLSMode::IstioMutual) => check_plain_workloads(&object.spec, &services, &mut check),
        Some(ClientTLSMode::Disable) => check_strict_workloads(&object.spec, &services, mesh, &mut check),
        Some(ClientTLSMode::Simple | ClientTLSMode::Mutual) | None => {}
    }
}

/// Labels of what answers for a service, or will once its Deployments run.
fn labels_behind<'a>(service: &'a Service, mesh: &'a Snapshot) -> impl Iterator<Item = &'a BTreeMap<String, String>> {
    let namespace = service.namespace();
    let pods = mesh.pods.iter().filter(move |pod| pod.meta.namespace == namespace).map(|pod| &pod.meta.labels);
    let templates = mesh.deployments.iter().filter(move |object| object.meta.namespace == namespace);
    let selected = pods.chain(templates.map(|object| &object.spec.spec.template.metadata.labels));
    let selected = selected.filter(|labels| !service.selector.is_empty() && lateen_mesh::selects(&service.selector, labels));
    service.endpoints.iter().map(|endpoint| &endpoint.labels).chain(selected)
}

fn check_subsets(rule: &DestinationRule, services: &[&Service], mesh: &Snapshot, check: &mut Check<'_>) {
    let labels: Vec<_> = services.iter().flat_map(|service| labels_behind(service, mesh)).collect();
    for (i, subset) in rule.subsets.iter().enumerate() {
        if !labels.is_empty() && !labels.iter().any(|labels| subset::takes(subset, labels)) {
            let labels: Vec<String> = subset.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let message = format!("The Subset {} defined in the DestinationRule does not select any pods.", subset.name);
            let remedy = format!("give a pod of {} the labels {}, or correct the subset; until then requests to it get 503", rule.host, labels.join(","));
            check.add(Finding::new(Code::DestinationRuleSubsetNotSelectPods, message).with_path(format!("spec.subsets[{i}]")).with_remedy(remedy));
        }
    }
}

/// Workloads without a sidecar cannot end mesh TLS, so the rule makes them unreachable.
fn check_plain_workloads(rule: &DestinationRule, services: &[&Service], check: &mut Check<'_>) {
    let plain = services.iter().find(|service| service.endpoints.iter().any(|endpoint| endpoint.tls_mode == TlsMode::Disabled));
    if let Some(service) = plain {
        let message = format!("mode ISTIO_MUTUAL for host \"{}\" also covers {}, which has workloads without a sidecar: requests to them will fail", rule.host, service.hostname);
        let remedy = "remove trafficPolicy.tls (mutual TLS is automatic where both sides have a sidecar), or narrow the host";
        check.add(Finding::new(Code::MutualTlsToPlainWorkload, message).with_path("spec.trafficPolicy.tls.mode").with_remedy(remedy));
    }
}

fn check_strict_workloads(rule: &DestinationRule, services: &[&Service], mesh: &Snapshot, check: &mut Check<'_>) {
    let strict = services.iter().find(|service| {
        let mut workloads = mesh.workloads().iter().filter(|workload| workload.namespace == service.namespace());
        !service.selector.is_empty()
            && workloads.any(|workload| {
                workload.tls_mode == TlsMode::Istio
                    && lateen_mesh::selects(&service.selector, &workload.labels)
                    && mesh.mtls_mode_default(&workload.namespace, &workload.labels) == MtlsMode::Strict
            })
    });
    if let Some(service) = strict {
        let message = format!("mode DISABLE for host \"{}\" sends plain text to {}, which accepts only mutual TLS (STRICT)", rule.host, service.hostname);
        let remedy = "remove trafficPolicy.tls, or set the PeerAuthentication to PERMISSIVE";
        check.add(Finding::new(Code::StrictMeetsDisable, message).with_path("spec.trafficPolicy.tls.mode").with_remedy(remedy));
    }
}
