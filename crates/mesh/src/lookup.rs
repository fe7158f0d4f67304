//! Which rule applies: questions that several outputs ask a snapshot, answered in Istio's order of precedence.
//!
//! - Reads: a [`Snapshot`].
//! - Twin: `kinds/src/peer_authentication/mod.rs`.
//! - Rule: of two objects with equal claim the older wins, then the smaller name.
//! - Rule: a DestinationRule is looked for in the client's namespace, then the service's, then the root namespace;
//!   within one namespace the most specific host wins and replaces the others completely.
//! - Not here: what the found rule means (`kinds`).

use crate::{ExportTo, Object, Proxy, Registry, Service, Snapshot, selects};
use lateen_base::{Host, names};
use lateen_istio_api as istio;
use lateen_istio_api::{MutualTLS, MutualTLSMode};
use std::collections::BTreeMap;

/// Whether a server takes mTLS, plaintext or both; what is left of `UNSET` after inheritance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MtlsMode {
    /// Plaintext only.
    Disable,
    /// Both.
    Permissive,
    /// mTLS only.
    Strict,
}

impl Snapshot {
    /// Services seen from `namespace`; for a name declared more than once, the one that wins there.
    pub fn visible_services(&self, namespace: &str) -> BTreeMap<&Host, &Service> {
        let mut seen: BTreeMap<&Host, &Service> = BTreeMap::new();
        for service in self.services().iter().filter(|s| s.export_to.reaches(s.namespace(), namespace)) {
            seen.entry(&service.hostname)
                .and_modify(|old| {
                    if precedence(service, namespace) < precedence(old, namespace) {
                        *old = service;
                    }
                })
                .or_insert(service);
        }
        seen
    }

    /// The service called `host`, as `namespace` sees it. `None` when it does not exist or is not exported there.
    pub fn service(&self, host: &Host, namespace: &str) -> Option<&Service> {
        self.services_named(host).filter(|s| s.export_to.reaches(s.namespace(), namespace)).min_by_key(|s| precedence(s, namespace))
    }

    /// The DestinationRule for `service` as called from `namespace`, by a client with `labels`.
    pub fn destination_rule(&self, service: &Service, namespace: &str, labels: &BTreeMap<String, String>) -> Option<Object<istio::DestinationRule>> {
        let root = self.mesh_config.root_namespace.as_str();
        let mut order = vec![namespace, service.namespace(), root];
        if namespace == root {
            order.rotate_left(1);
        }
        let mut tried: Vec<&str> = Vec::new();
        for candidate in order {
            if tried.contains(&candidate) {
                continue;
            }
            tried.push(candidate);
            if let Some(rule) = self.destination_rule_in(candidate, &service.hostname, namespace, labels) {
                return Some(rule);
            }
        }
        None
    }

    fn destination_rule_in(&self, rules_of: &str, host: &Host, client: &str, labels: &BTreeMap<String, String>) -> Option<Object<istio::DestinationRule>> {
        let mut found: Vec<(&Host, &Object<istio::DestinationRule>)> = self
            .destination_rules_in(rules_of)
            .filter(|(rule_host, rule)| rule_host.covers(host) && self.rule_reaches(rule, client, labels))
            .collect();
        let best = found.iter().map(|(h, _)| h.specificity()).max()?;
        found.retain(|(h, _)| h.specificity() == best);
        if found.iter().any(|(_, r)| r.spec.workload_selector.is_some()) {
            found.retain(|(_, r)| r.spec.workload_selector.is_some());
        }
        merged(found.into_iter().map(|(_, rule)| rule))
    }

    fn rule_reaches(&self, rule: &Object<istio::DestinationRule>, client: &str, labels: &BTreeMap<String, String>) -> bool {
        if let Some(selector) = &rule.spec.workload_selector {
            return rule.meta.namespace == client && selects(&selector.match_labels, labels);
        }
        let export = if rule.spec.export_to.is_empty() { &self.mesh_config.default_destination_rule_export_to } else { &rule.spec.export_to };
        ExportTo::of(export).reaches(&rule.meta.namespace, client)
    }

    /// VirtualServices that apply to `gateway` (`mesh` for sidecars) and are seen from `namespace`, oldest first.
    pub fn virtual_services<'a>(&'a self, gateway: &'a str, namespace: &'a str) -> impl Iterator<Item = &'a Object<istio::VirtualService>> {
        self.virtual_services.iter().filter(move |vs| {
            let spec = &vs.spec;
            let export = if spec.export_to.is_empty() { &self.mesh_config.default_virtual_service_export_to } else { &spec.export_to };
            gateway_listed(&spec.gateways, gateway, &vs.meta.namespace) && ExportTo::of(export).reaches(&vs.meta.namespace, namespace)
        })
    }

    /// The mTLS mode of one port of a workload, after inheritance: port, workload, namespace, mesh.
    pub fn mtls_mode(&self, namespace: &str, labels: &BTreeMap<String, String>, port: u16) -> MtlsMode {
        self.mtls_mode_of(namespace, labels, Some(port))
    }

    /// The mTLS mode of a workload's undeclared ports.
    pub fn mtls_mode_default(&self, namespace: &str, labels: &BTreeMap<String, String>) -> MtlsMode {
        self.mtls_mode_of(namespace, labels, None)
    }

    fn mtls_mode_of(&self, namespace: &str, labels: &BTreeMap<String, String>, port: Option<u16>) -> MtlsMode {
        let [workload, home, mesh] = self.peer_authentications_of(namespace, labels);
        let by_port = port.and_then(|p| mode(workload?.spec.port_level_mtls.get(&u32::from(p))));
        by_port
            .or_else(|| mode(workload?.spec.mtls.as_ref()))
            .or_else(|| mode(home?.spec.mtls.as_ref()))
            .or_else(|| mode(mesh?.spec.mtls.as_ref()))
            .unwrap_or(MtlsMode::Permissive)
    }

    /// The PeerAuthentications that decide for a workload: its own, its namespace's, the mesh's.
    pub fn peer_authentications_of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> [Option<&Object<istio::PeerAuthentication>>; 3] {
        let root = self.mesh_config.root_namespace.as_str();
        let selector = |o: &Object<istio::PeerAuthentication>| o.spec.selector.as_ref().map(|s| s.match_labels.clone()).unwrap_or_default();
        let all = &self.peer_authentications;
        let workload = all.iter().find(|o| o.meta.namespace == namespace && !selector(o).is_empty() && selects(&selector(o), labels));
        let home = all.iter().find(|o| o.meta.namespace == namespace && selector(o).is_empty());
        let mesh = all.iter().find(|o| o.meta.namespace == root && selector(o).is_empty());
        [workload, home, mesh]
    }

    /// AuthorizationPolicies that select a workload: the root namespace's first, then its own, each oldest first.
    pub fn authorization_policies_of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<&Object<istio::AuthorizationPolicy>> {
        self.policies(&self.authorization_policies, namespace, |policy| {
            policy.target_ref.is_none() && policy.target_refs.is_empty() && policy.selector.as_ref().is_none_or(|s| selects(&s.match_labels, labels))
        })
    }

    /// RequestAuthentications that select a workload, in the same order.
    pub fn request_authentications_of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<&Object<istio::RequestAuthentication>> {
        self.policies(&self.request_authentications, namespace, |policy| {
            policy.target_ref.is_none() && policy.target_refs.is_empty() && policy.selector.as_ref().is_none_or(|s| selects(&s.match_labels, labels))
        })
    }

    /// Telemetries that decide for a workload, from the widest to the narrowest: mesh, namespace, workload.
    pub fn telemetries_of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<&Object<istio::Telemetry>> {
        let root = self.mesh_config.root_namespace.as_str();
        let wide = |o: &&Object<istio::Telemetry>| o.spec.selector.as_ref().is_none_or(|s| s.match_labels.is_empty());
        let mesh = self.telemetries.iter().find(|o| o.meta.namespace == root && wide(o));
        let home = self.telemetries.iter().filter(|o| o.meta.namespace != root).find(|o| o.meta.namespace == namespace && wide(o));
        let own = self.telemetries.iter().find(|o| {
            o.meta.namespace == namespace && !wide(o) && o.spec.selector.as_ref().is_some_and(|s| selects(&s.match_labels, labels))
        });
        [mesh, home, own].into_iter().flatten().collect()
    }

    fn policies<'a, T>(&'a self, all: &'a [Object<T>], namespace: &str, selected: impl Fn(&T) -> bool) -> Vec<&'a Object<T>> {
        let root = self.mesh_config.root_namespace.as_str();
        let of = |wanted: &str| all.iter().filter(|o| o.meta.namespace == wanted && selected(&o.spec)).collect::<Vec<_>>();
        let mut found = of(root);
        if namespace != root {
            found.extend(of(namespace));
        }
        found
    }

    /// The Sidecar resource of a proxy: one that selects it, else its namespace's, else the root namespace's.
    pub fn sidecar_of(&self, proxy: &Proxy) -> Option<&Object<istio::Sidecar>> {
        let wide = |o: &Object<istio::Sidecar>| o.spec.workload_selector.as_ref().is_none_or(|s| s.labels.is_empty());
        let own = |o: &&Object<istio::Sidecar>| {
            o.meta.namespace == proxy.namespace && !wide(o) && o.spec.workload_selector.as_ref().is_some_and(|s| selects(&s.labels, &proxy.labels))
        };
        let root = self.mesh_config.root_namespace.as_str();
        self.sidecars
            .iter()
            .find(own)
            .or_else(|| self.sidecars.iter().find(|o| o.meta.namespace == proxy.namespace && wide(o)))
            .or_else(|| self.sidecars.iter().find(|o| o.meta.namespace == root && wide(o)))
    }

    /// Gateways whose selector picks `proxy`, oldest first.
    pub fn gateways_of<'a>(&'a self, proxy: &'a Proxy) -> impl Iterator<Item = &'a Object<istio::Gateway>> {
        self.gateways.iter().filter(|gateway| selects(&gateway.spec.selector, &proxy.labels))
    }

    /// Services that the workload behind `proxy` answers for, in order of name.
    pub fn services_of(&self, proxy: &Proxy) -> Vec<&Service> {
        let answers = |s: &&Service| {
            if s.selector.is_empty() {
                return s.endpoints.iter().any(|e| proxy.ip_addresses.contains(&e.address));
            }
            s.namespace() == proxy.namespace && selects(&s.selector, &proxy.labels)
        };
        let mut found: Vec<&Service> = self.services().iter().filter(answers).collect();
        found.sort_by(|a, b| (&a.hostname, a.namespace()).cmp(&(&b.hostname, b.namespace())));
        found
    }
}

/// Whether `gateway` is among a rule's gateways; a rule that lists none is for the mesh. Gateway names are `namespace/name`.
fn gateway_listed(listed: &[String], gateway: &str, rule_namespace: &str) -> bool {
    if listed.is_empty() {
        return gateway == names::MESH_GATEWAY;
    }
    listed.iter().any(|name| gateway_name(name, rule_namespace) == gateway)
}

/// `namespace/name` of a gateway as a rule in `rule_namespace` writes it; `mesh` stays `mesh`.
pub fn gateway_name(name: &str, rule_namespace: &str) -> String {
    if name == names::MESH_GATEWAY || name.contains('/') {
        return name.strip_prefix("./").map_or_else(|| name.to_owned(), |n| format!("{rule_namespace}/{n}"));
    }
    format!("{rule_namespace}/{name}")
}

fn precedence(service: &Service, namespace: &str) -> (bool, bool, String, String) {
    (service.registry != Registry::Kubernetes, service.namespace() != namespace, service.meta.creation_timestamp.clone(), service.meta.full_name())
}

fn mode(mtls: Option<&MutualTLS>) -> Option<MtlsMode> {
    match mtls?.mode {
        MutualTLSMode::Unset => None,
        MutualTLSMode::Disable => Some(MtlsMode::Disable),
        MutualTLSMode::Permissive => Some(MtlsMode::Permissive),
        MutualTLSMode::Strict => Some(MtlsMode::Strict),
    }
}

/// One rule out of several for the same host: the oldest one's policy, and the subsets of all, each name once.
fn merged<'a>(mut rules: impl Iterator<Item = &'a Object<istio::DestinationRule>>) -> Option<Object<istio::DestinationRule>> {
    let first = rules.next()?;
    let mut rest = rules.peekable();
    if rest.peek().is_none() {
        return Some(first.clone());
    }
    let mut spec = istio::DestinationRule::clone(&first.spec);
    for rule in rest {
        for subset in &rule.spec.subsets {
            if spec.subsets.iter().all(|s| s.name != subset.name) {
                spec.subsets.push(subset.clone());
            }
        }
        if spec.traffic_policy.is_none() {
            spec.traffic_policy.clone_from(&rule.spec.traffic_policy);
        }
    }
    Some(Object { meta: first.meta.clone(), spec: spec.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Meta, Parts};
    use serde_json::json;

    fn object<T: serde::de::DeserializeOwned>(namespace: &str, name: &str, created: &str, spec: serde_json::Value) -> Object<T> {
        let meta = Meta { name: name.into(), namespace: namespace.into(), creation_timestamp: created.into(), ..Meta::default() };
        Object::new(meta, serde_json::from_value(spec).unwrap())
    }

    fn service(namespace: &str, name: &str) -> Object<lateen_kube_api::Service> {
        object(namespace, name, "", json!({"spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]}}))
    }

    fn rule_name(snapshot: &Snapshot, client: &str) -> Option<String> {
        let host = Host::new("web.shop.svc.cluster.local");
        let service = snapshot.service(&host, client)?;
        snapshot.destination_rule(service, client, &BTreeMap::new()).map(|rule| rule.meta.name.clone())
    }

    #[test]
    fn the_clients_own_rule_wins_over_the_services() {
        let host = "web.shop.svc.cluster.local";
        let snapshot = Snapshot::new(Parts {
            kube_services: vec![service("shop", "web")],
            destination_rules: vec![
                object("istio-system", "root", "1", json!({"host": host})),
                object("shop", "service", "1", json!({"host": host})),
                object("client", "client", "1", json!({"host": host})),
            ],
            ..Parts::default()
        });
        assert_eq!(rule_name(&snapshot, "client").as_deref(), Some("client"));
        assert_eq!(rule_name(&snapshot, "other").as_deref(), Some("service"));
    }

    #[test]
    fn a_rule_that_is_not_exported_is_not_found_elsewhere() {
        let snapshot = Snapshot::new(Parts {
            kube_services: vec![service("shop", "web")],
            destination_rules: vec![object("shop", "private", "1", json!({"host": "web", "exportTo": ["."]}))],
            ..Parts::default()
        });
        assert_eq!(rule_name(&snapshot, "shop").as_deref(), Some("private"));
        assert_eq!(rule_name(&snapshot, "other"), None);
    }

    #[test]
    fn the_most_specific_host_replaces_a_wildcard() {
        let snapshot = Snapshot::new(Parts {
            kube_services: vec![service("shop", "web")],
            destination_rules: vec![
                object("shop", "all", "1", json!({"host": "*.shop.svc.cluster.local"})),
                object("shop", "web", "2", json!({"host": "web"})),
            ],
            ..Parts::default()
        });
        assert_eq!(rule_name(&snapshot, "shop").as_deref(), Some("web"));
    }

    #[test]
    fn rules_for_one_host_share_their_subsets() {
        let subset = |name: &str| json!({"host": "web", "subsets": [{"name": name, "labels": {"version": name}}]});
        let snapshot = Snapshot::new(Parts {
            kube_services: vec![service("shop", "web")],
            destination_rules: vec![object("shop", "b", "2", subset("v2")), object("shop", "a", "1", subset("v1"))],
            ..Parts::default()
        });
        let web = snapshot.service(&Host::new("web.shop.svc.cluster.local"), "shop").unwrap();
        let rule = snapshot.destination_rule(web, "shop", &BTreeMap::new()).unwrap();
        assert_eq!(rule.spec.subsets.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["v1", "v2"]);
    }

    #[test]
    fn a_port_overrides_workload_namespace_and_mesh() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let snapshot = Snapshot::new(Parts {
            peer_authentications: vec![
                object("istio-system", "mesh", "1", json!({"mtls": {"mode": "STRICT"}})),
                object("shop", "home", "1", json!({"mtls": {"mode": "PERMISSIVE"}})),
                object("shop", "web", "1", json!({"selector": {"matchLabels": {"app": "web"}}, "mtls": {"mode": "UNSET"}, "portLevelMtls": {"8080": {"mode": "DISABLE"}}})),
            ],
            ..Parts::default()
        });
        assert_eq!(snapshot.mtls_mode("shop", &labels, 8080), MtlsMode::Disable);
        assert_eq!(snapshot.mtls_mode("shop", &labels, 9090), MtlsMode::Permissive);
        assert_eq!(snapshot.mtls_mode("other", &labels, 8080), MtlsMode::Strict);
    }

    #[test]
    fn of_two_policies_with_equal_claim_the_older_decides() {
        let mode = |mode: &str| json!({"mtls": {"mode": mode}});
        let snapshot = Snapshot::new(Parts {
            peer_authentications: vec![object("shop", "a", "2026-01-02T00:00:00Z", mode("DISABLE")), object("shop", "b", "2026-01-01T00:00:00Z", mode("STRICT"))],
            ..Parts::default()
        });
        assert_eq!(snapshot.mtls_mode_default("shop", &BTreeMap::new()), MtlsMode::Strict);
    }

    #[test]
    fn a_rule_without_gateways_is_for_the_mesh() {
        let snapshot = Snapshot::new(Parts {
            virtual_services: vec![
                object("shop", "mesh", "1", json!({"hosts": ["web"]})),
                object("shop", "edge", "1", json!({"hosts": ["web"], "gateways": ["gw"]})),
            ],
            ..Parts::default()
        });
        let names = |gateway: &str| snapshot.virtual_services(gateway, "shop").map(|o| o.meta.name.clone()).collect::<Vec<_>>();
        assert_eq!(names("mesh"), ["mesh"]);
        assert_eq!(names("shop/gw"), ["edge"]);
    }

    #[test]
    fn policies_of_the_root_namespace_come_first() {
        let snapshot = Snapshot::new(Parts {
            authorization_policies: vec![object("shop", "own", "1", json!({})), object("istio-system", "root", "2", json!({})), object("other", "no", "1", json!({}))],
            ..Parts::default()
        });
        let found = snapshot.authorization_policies_of("shop", &BTreeMap::new());
        assert_eq!(found.iter().map(|o| o.meta.name.as_str()).collect::<Vec<_>>(), ["root", "own"]);
    }

    #[test]
    fn a_kubernetes_service_hides_a_service_entry_of_its_name() {
        let snapshot = Snapshot::new(Parts {
            kube_services: vec![service("shop", "web")],
            service_entries: vec![object("shop", "fake", "0", json!({"hosts": ["web.shop.svc.cluster.local"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}))],
            ..Parts::default()
        });
        let host = Host::new("web.shop.svc.cluster.local");
        assert_eq!(snapshot.service(&host, "shop").map(|s| s.registry), Some(Registry::Kubernetes));
        assert_eq!(snapshot.visible_services("shop").len(), 1);
    }
}
