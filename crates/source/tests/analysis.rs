//! What `lateen analyze` says about whole sets of objects: the traps of the tutorials, each as a fact.

use lateen_base::{Code, Finding, Severity};
use lateen_source::{Event, SnapshotBuilder, load_text};

/// A backend with two versions behind a Service, as pods with sidecars.
const BACKEND: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: my-app}
spec:
  selector: {app: my-app}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: my-app-1, labels: {app: my-app, version: v1, security.istio.io/tlsMode: istio}, annotations: {sidecar.istio.io/status: "{}"}}
spec: {containers: [{name: app, image: x, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.244.0.5, conditions: [{type: Ready, status: "True"}]}
"#;

fn analyse(texts: &[&str]) -> Vec<Finding> {
    let load = load_text(&texts.join("\n---\n"), "mesh.yaml");
    assert!(!load.has_errors(), "{:#?}", load.findings);
    let mut builder = SnapshotBuilder::default();
    for loaded in &load.objects {
        builder.apply(&Event::Upsert(loaded.object.clone()));
    }
    lateen_kinds::analyze(&builder.build())
}

fn of(code: Code, texts: &[&str]) -> Vec<Finding> {
    analyse(texts).into_iter().filter(|finding| finding.code == code).collect()
}

fn route(name: &str, host: &str, destination: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{host}]\n  http: [{{route: [{{destination: {destination}}}]}}]\n"
    )
}

fn rule(host: &str, spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: rule}}\nspec:\n  host: \"{host}\"\n  {spec}\n")
}

#[test]
fn a_sound_mesh_has_no_findings() {
    let found = analyse(&[BACKEND, &route("my-app", "my-app", "{host: my-app, subset: v1}"), &rule("my-app", "subsets: [{name: v1, labels: {version: v1}}]")]);
    assert_eq!(found, []);
}

#[test]
fn ist0101_names_a_subset_without_destination_rule() {
    let found = of(Code::ReferencedResourceNotFound, &[BACKEND, &route("my-app", "my-app", "{host: my-app, subset: v1}")]);
    assert_eq!(found.len(), 1);
    let text = found[0].to_string();
    let expected = "Error [IST0101] (VirtualService default/my-app mesh.yaml:20) spec.http[0].route[0].destination.subset: Referenced host+subset in destinationrule not found: \"my-app+v1\"";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn ist0101_names_hosts_and_gateways_that_do_not_exist() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: b}\nspec:\n  hosts: [b.com]\n  gateways: [nowhere]\n  http: [{route: [{destination: {host: ghost}}]}]\n";
    let found = of(Code::ReferencedResourceNotFound, &[BACKEND, gateway]);
    let messages: Vec<_> = found.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(messages, ["Referenced gateway not found: \"nowhere\"", "Referenced host not found: \"ghost\""]);
}

#[test]
fn ist0118_names_ports_without_protocol() {
    let text = BACKEND.replace("{name: http, port: 80", "{port: 80");
    let found = of(Code::PortNameIsNotUnderNamingConvention, &[&text]);
    assert_eq!((found.len(), found[0].severity), (1, Severity::Info));
}

#[test]
fn a_target_port_that_no_container_declares_is_reported() {
    let text = BACKEND.replace(", targetPort: 8080", "");
    let found = of(Code::TargetPortNotDeclared, &[&text]);
    assert_eq!(found.len(), 1);
    assert!(found[0].remedy.contains("targetPort: 8080"), "{}", found[0]);
}

#[test]
fn ist0109_names_virtual_services_of_one_host() {
    let found = of(Code::ConflictingMeshGatewayVirtualServiceHosts, &[BACKEND, &route("a", "my-app", "{host: my-app}"), &route("b", "my-app", "{host: my-app}")]);
    assert_eq!(found.len(), 2);
    assert!(found[0].message.contains("default/a,default/b"), "{}", found[0]);
}

#[test]
fn ist0102_names_namespaces_without_label() {
    let found = of(Code::NamespaceNotInjected, &[&BACKEND.replace(", labels: {istio-injection: enabled}", "")]);
    assert_eq!((found.len(), found[0].severity), (1, Severity::Info));
}

#[test]
fn ist0103_names_pods_without_sidecar() {
    let text = BACKEND.replace(", annotations: {sidecar.istio.io/status: \"{}\"}", "");
    assert_eq!(of(Code::PodMissingProxy, &[&text]).len(), 1);
}

#[test]
fn wildcard_mutual_tls_is_reported_where_it_hits_plain_pods() {
    let all = rule("*.default.svc.cluster.local", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
    assert_eq!(of(Code::MutualTlsToPlainWorkload, &[BACKEND, &all]), []);
    let plain = BACKEND.replace(", security.istio.io/tlsMode: istio", "");
    assert_eq!(of(Code::MutualTlsToPlainWorkload, &[&plain, &all]).len(), 1);
}

#[test]
fn disabling_tls_towards_strict_workloads_is_reported() {
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n";
    let off = rule("my-app", "trafficPolicy: {tls: {mode: DISABLE}}");
    assert_eq!(of(Code::StrictMeetsDisable, &[BACKEND, &off]), []);
    assert_eq!(of(Code::StrictMeetsDisable, &[BACKEND, &off, strict]).len(), 1);
}

#[test]
fn ist0173_names_subsets_that_select_no_pod() {
    let found = of(Code::DestinationRuleSubsetNotSelectPods, &[BACKEND, &rule("my-app", "subsets: [{name: v9, labels: {version: v9}}]")]);
    assert_eq!(found.len(), 1);
}

#[test]
fn ist0145_names_gateways_that_clash() {
    let gateway = |name: &str| {
        format!("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: my-app}}\n  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [a.com]}}]\n")
    };
    assert_eq!(of(Code::ConflictingGateways, &[BACKEND, &gateway("one"), &gateway("two")]).len(), 2);
}

#[test]
fn ist0110_names_sidecars_that_select_the_same() {
    let sidecar = |name: &str| format!("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}}}\nspec: {{egress: [{{hosts: [\"./*\"]}}]}}\n");
    assert_eq!(of(Code::ConflictingSidecarWorkloadSelectors, &[BACKEND, &sidecar("one"), &sidecar("two")]).len(), 2);
}
