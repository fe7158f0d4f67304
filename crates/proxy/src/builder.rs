//! Building plans on the main thread: the plan's own builder, and secrets beside it.
//!
//! - Reads: resources by type, from xDS or the bootstrap.
//! - Rule: each resource is taken or refused by itself; a refused one keeps its last good version.
//! - Not here: what resources mean (`plan`), when a plan is put in force (`server`).

use std::sync::Arc;

use lateen_envoy_api::Any;
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3 as xtls;
use lateen_plan::{Plan, PlanBuilder, Resource};
use lateen_plan::listener::tls::{SdsRef, SdsSource};
use lateen_xds::types;

use crate::server::Refused;
use crate::transport::sds::{Material, Secrets};

/// One resource on its way in.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The resource.
    pub body: Any,
}

/// What one update changes.
#[derive(Debug, Clone)]
pub struct Change {
    /// Resource type.
    pub type_url: String,
    /// New or changed resources.
    pub added: Vec<Item>,
    /// Names that are gone.
    pub removed: Vec<String>,
    /// Who sent it, for secrets.
    pub source: SdsSource,
    /// It comes from the bootstrap.
    pub is_static: bool,
}

/// Makes plans.
#[derive(Default)]
pub struct Builder {
    plans: PlanBuilder,
}

impl Builder {
    /// Takes a change in; secrets go into `secrets`.
    pub fn apply(&mut self, change: &Change, secrets: &mut Secrets) -> Vec<Refused> {
        if change.type_url == types::SECRET {
            return apply_secrets(change, secrets);
        }
        let resource = |i: &Item| Resource { name: i.name.clone(), version: i.version.clone(), body: i.body.clone() };
        let added: Vec<Resource> = change.added.iter().map(resource).collect();
        let applied = self.plans.apply(&change.type_url, &added, &change.removed);
        applied.rejected.into_iter().map(|r| Refused { why: r.to_string(), name: r.name }).collect()
    }

    /// The newest plan.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(self.plans.plan())
    }
}

fn apply_secrets(change: &Change, secrets: &mut Secrets) -> Vec<Refused> {
    let mut refused = Vec::new();
    let key = |name: &str| SdsRef { name: name.into(), source: change.source.clone() };
    for item in &change.added {
        let decoded = lateen_envoy_api::unpack::<xtls::Secret>(&item.body).map_err(|error| format!("Secret {}: {error}", item.name));
        let parsed = decoded.and_then(|given| lateen_plan::cluster::secret(&given).map_err(|invalid| invalid.of(&change.type_url, &item.name).to_string()));
        let material = parsed.and_then(|secret| Material::from_plan(&secret.body).map_err(|why| format!("Secret {}: {why}", item.name)));
        match material {
            Ok(material) => secrets.insert(key(&item.name), material),
            Err(why) => refused.push(Refused { name: item.name.clone(), why }),
        }
    }
    for name in &change.removed {
        secrets.remove(&key(name));
    }
    refused
}
