//! The resources in force as they arrived, for the admin interface.
//!
//! - Reads: xDS updates and the bootstrap.
//! - Rule: kept on the main thread only; a refused resource leaves its last good version here and notes the refusal beside it.
//! - Not here: what they mean (`plan`).

use std::collections::BTreeMap;
use std::time::SystemTime;

use lateen_envoy_api::Any;

/// One resource as it arrived.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Version of the resource, or of the response that brought it.
    pub version: String,
    /// The resource.
    pub body: Any,
    /// When it was put in force.
    pub updated: SystemTime,
    /// True for resources of the bootstrap.
    pub is_static: bool,
}

/// A refusal that is still in effect.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What was refused.
    pub body: Any,
    /// Its version.
    pub version: String,
    /// When.
    pub at: SystemTime,
    /// Why.
    pub why: String,
}

/// All resources by type URL and name.
#[derive(Debug, Default)]
pub struct Resources {
    held: BTreeMap<String, BTreeMap<String, Raw>>,
    refused: BTreeMap<String, BTreeMap<String, Refusal>>,
}

impl Resources {
    /// A resource was put in force.
    pub fn accept(&mut self, type_url: &str, name: &str, raw: Raw) {
        self.held.entry(type_url.to_owned()).or_default().insert(name.to_owned(), raw);
        if let Some(refused) = self.refused.get_mut(type_url) {
            refused.remove(name);
        }
    }

    /// A resource was refused.
    pub fn refuse(&mut self, type_url: &str, name: &str, refusal: Refusal) {
        self.refused.entry(type_url.to_owned()).or_default().insert(name.to_owned(), refusal);
    }

    /// A resource is gone.
    pub fn remove(&mut self, type_url: &str, name: &str) {
        if let Some(map) = self.held.get_mut(type_url) {
            map.remove(name);
        }
        if let Some(refused) = self.refused.get_mut(type_url) {
            refused.remove(name);
        }
    }

    /// Resources of a type by name.
    pub fn of(&self, type_url: &str) -> impl Iterator<Item = (&String, &Raw)> {
        self.held.get(type_url).into_iter().flatten()
    }

    /// The refusal in effect for a resource.
    pub fn refusal(&self, type_url: &str, name: &str) -> Option<&Refusal> {
        self.refused.get(type_url)?.get(name)
    }

    /// Refused resources of a type that were never accepted.
    pub fn only_refused(&self, type_url: &str) -> impl Iterator<Item = (&String, &Refusal)> {
        let held = self.held.get(type_url);
        self.refused.get(type_url).into_iter().flatten().filter(move |(name, _)| held.is_none_or(|h| !h.contains_key(*name)))
    }
}
