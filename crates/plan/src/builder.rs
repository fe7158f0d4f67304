//! Building plans from pushes.
//!
//! - Reads: resources of the five types a proxy subscribes to, as `Any`.
//! - Rule: good resources of a push are applied; a bad one keeps its last good version, and is reported.
//! - Rule: a resource whose bytes did not change keeps its identity, so that workers can compare by pointer.
//! - Not here: the protocol (`xds`), what is subscribed to (`proxy`).

use crate::any::{type_name, unpack};
use crate::names::{Name, NameMap};
use crate::plan::Plan;
use crate::rejected::{Invalid, Rejected};
use lateen_envoy_api::Any;
use lateen_envoy_api::envoy::config::cluster::v3::Cluster as XCluster;
use lateen_envoy_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use lateen_envoy_api::envoy::config::listener::v3::Listener as XListener;
use lateen_envoy_api::envoy::config::route::v3::RouteConfiguration;
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3::Secret as XSecret;
use prost::{Message, Name as _};
use std::sync::Arc;
use xxhash_rust::xxh64::xxh64;

/// Makes each plan out of the one before.
#[derive(Debug, Default)]
pub struct PlanBuilder {
    plan: Arc<Plan>,
    seen: [NameMap<u64>; 5],
}

/// One resource of a push.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its name; empty: the name inside counts.
    pub name: String,
    /// Its version, for reports only.
    pub version: String,
    /// Its body.
    pub body: Any,
}

/// What came of a push.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The plan now in force.
    pub plan: Arc<Plan>,
    /// What was refused; its last good version stays. Not empty: the push is answered by a NACK.
    pub rejected: Vec<Rejected>,
    /// Whether the plan differs from the one before.
    pub changed: bool,
}

impl Applied {
    /// The text of the NACK. `None`: the push is acknowledged.
    #[must_use]
    pub fn nack(&self) -> Option<String> {
        let lines: Vec<String> = self.rejected.iter().map(ToString::to_string).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

impl PlanBuilder {
    /// The plan now in force.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Applies a push of one type. A type that is not one of the five refuses the whole push.
    pub fn apply(&mut self, type_url: &str, added: &[Resource], removed: &[String]) -> Applied {
        let kind = type_name(type_url);
        let [listeners, routes, clusters, endpoints, secrets] = &mut self.seen;
        let mut next = Plan::clone(&self.plan);
        let mut push = Push { type_url, added, removed, rejected: Vec::new(), changed: false };
        if kind == XListener::full_name() {
            push.run(&mut next.listeners, listeners, |m: &XListener| crate::listener::listener(m), |m| &m.name);
        } else if kind == RouteConfiguration::full_name() {
            push.run(&mut next.routes, routes, crate::route::route_table, |m: &RouteConfiguration| &m.name);
        } else if kind == XCluster::full_name() {
            push.run(&mut next.clusters, clusters, crate::cluster::cluster, |m: &XCluster| &m.name);
        } else if kind == ClusterLoadAssignment::full_name() {
            push.run(&mut next.endpoints, endpoints, crate::cluster::cluster_endpoints, |m: &ClusterLoadAssignment| &m.cluster_name);
        } else if kind == XSecret::full_name() {
            push.run(&mut next.secrets, secrets, crate::cluster::secret, |m: &XSecret| &m.name);
        } else {
            push.rejected.push(Invalid::unsupported("type_url", kind).of(type_url, ""));
        }
        let Push { rejected, changed, .. } = push;
        if changed {
            next.generation += 1;
            self.plan = Arc::new(next);
        }
        Applied { plan: Arc::clone(&self.plan), rejected, changed }
    }

    /// Applies one message of a type known at compile time: for a bootstrap's static resources and tests.
    pub fn apply_message<T: Message + prost::Name>(&mut self, message: &T) -> Applied {
        let body = Any { type_url: format!("type.googleapis.com/{}", T::full_name()), value: message.encode_to_vec().into() };
        let type_url = body.type_url.clone();
        self.apply(&type_url, &[Resource { name: String::new(), version: String::new(), body }], &[])
    }
}

/// A push in progress.
struct Push<'a> {
    type_url: &'a str,
    added: &'a [Resource],
    removed: &'a [String],
    rejected: Vec<Rejected>,
    changed: bool,
}

impl Push<'_> {
    fn run<M: Message + prost::Name + Default, V>(
        &mut self,
        map: &mut Arc<NameMap<Arc<V>>>,
        seen: &mut NameMap<u64>,
        read: impl Fn(&M) -> Result<V, Invalid>,
        name_of: impl Fn(&M) -> &str,
    ) {
        for resource in self.added {
            let hash = xxh64(&resource.body.value, 0);
            if !resource.name.is_empty() && seen.get(resource.name.as_str()) == Some(&hash) && map.contains_key(resource.name.as_str()) {
                continue;
            }
            let message = match unpack::<M>(&resource.body) {
                Ok(message) => message,
                Err(why) => {
                    self.rejected.push(why.of(self.type_url, &resource.name));
                    continue;
                }
            };
            match self.check(resource, &message, &read, &name_of) {
                Ok((name, value)) => {
                    // Copies the map once per push, and only when something changes.
                    Arc::make_mut(map).insert(name.clone(), Arc::new(value));
                    seen.insert(name, hash);
                    self.changed = true;
                }
                Err(why) => self.rejected.push(why.of(self.type_url, if resource.name.is_empty() { name_of(&message) } else { &resource.name })),
            }
        }
        for name in self.removed {
            if map.contains_key(name.as_str()) {
                Arc::make_mut(map).remove(name.as_str());
                seen.remove(name.as_str());
                self.changed = true;
            }
        }
    }

    fn check<M, V>(
        &self,
        resource: &Resource,
        message: &M,
        read: &impl Fn(&M) -> Result<V, Invalid>,
        name_of: &impl Fn(&M) -> &str,
    ) -> Result<(Name, V), Invalid> {
        let name = name_of(message);
        if name.is_empty() {
            return Err(Invalid::new("name", "is empty"));
        }
        if !resource.name.is_empty() && resource.name != name {
            return Err(Invalid::new("name", format!("`{name}` arrived under the name `{}`", resource.name)));
        }
        Ok((name.into(), read(message)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_envoy_api::envoy::config::core::v3::HealthCheck;

    fn cluster(name: &str) -> XCluster {
        XCluster { name: name.into(), ..XCluster::default() }
    }

    fn resource(message: &XCluster) -> Resource {
        let body = Any { type_url: format!("type.googleapis.com/{}", XCluster::full_name()), value: message.encode_to_vec().into() };
        Resource { name: message.name.clone(), version: "1".into(), body }
    }

    fn type_url() -> String {
        format!("type.googleapis.com/{}", XCluster::full_name())
    }

    #[test]
    fn a_bad_resource_does_not_stop_the_good_ones() {
        let mut builder = PlanBuilder::default();
        let bad = XCluster { health_checks: vec![HealthCheck::default()], ..cluster("bad") };
        let applied = builder.apply(&type_url(), &[resource(&cluster("good")), resource(&bad)], &[]);
        assert!(applied.plan.clusters.contains_key("good") && !applied.plan.clusters.contains_key("bad"));
        assert_eq!(applied.nack().unwrap(), "Cluster bad: health_checks: active health checking is not supported by this proxy");
    }

    #[test]
    fn the_last_good_version_stays() {
        let mut builder = PlanBuilder::default();
        let first = builder.apply(&type_url(), &[resource(&cluster("c"))], &[]).plan;
        let bad = XCluster { health_checks: vec![HealthCheck::default()], ..cluster("c") };
        let second = builder.apply(&type_url(), &[resource(&bad)], &[]).plan;
        assert!(Arc::ptr_eq(&first.clusters["c"], &second.clusters["c"]));
    }

    #[test]
    fn equal_bytes_change_nothing() {
        let mut builder = PlanBuilder::default();
        let first = builder.apply(&type_url(), &[resource(&cluster("c"))], &[]);
        let second = builder.apply(&type_url(), &[resource(&cluster("c"))], &[]);
        assert!(first.changed && !second.changed);
    }

    #[test]
    fn what_did_not_change_is_shared() {
        let mut builder = PlanBuilder::default();
        let first = builder.apply(&type_url(), &[resource(&cluster("a"))], &[]).plan;
        let second = builder.apply(&type_url(), &[resource(&cluster("b"))], &[]).plan;
        assert!(Arc::ptr_eq(&first.clusters["a"], &second.clusters["a"]));
        assert!(Arc::ptr_eq(&first.listeners, &second.listeners));
    }

    #[test]
    fn a_removed_resource_is_gone() {
        let mut builder = PlanBuilder::default();
        builder.apply(&type_url(), &[resource(&cluster("a"))], &[]);
        assert!(builder.apply(&type_url(), &[], &["a".into()]).plan.clusters.is_empty());
    }

    #[test]
    fn an_unknown_type_is_refused_by_name() {
        let applied = PlanBuilder::default().apply("type.googleapis.com/moon.Phase", &[], &[]);
        assert!(applied.nack().unwrap().contains("moon.Phase"));
    }
}
