//! The store: create, apply, update, delete, list and watch.
//!
//! - Rule: objects are shared (`Arc`) and never changed in place.

use crate::apply::{merge, same_but_for_source, spec_differs, user_part};
use crate::key::Key;
use crate::selector::Filter;
use crate::watch::{Event, EventKind, Fanout, Watcher};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use time::format_description::well_known::Rfc3339;

/// What an apply did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object is new.
    Created,
    /// It changed.
    Configured,
    /// It was that way already.
    Unchanged,
}

impl Outcome {
    /// The word that `kubectl apply` prints.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Unchanged => "unchanged",
        }
    }
}

/// Why the store refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No `apiVersion`, `kind` or `metadata.name`.
    #[error("an object needs apiVersion, kind and metadata.name")]
    Nameless,
    /// There is no such object.
    #[error("{0} not found")]
    NotFound(Key),
    /// It exists already.
    #[error("{0} already exists")]
    Exists(Key),
}

/// All objects. Clones share them.
#[derive(Clone)]
pub struct Store {
    state: Arc<Mutex<State>>,
    clock: fn() -> SystemTime,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Entry>,
    version: u64,
    fanout: Fanout,
}

struct Entry {
    object: Arc<Value>,
    /// What the user gave last; `None` for objects that controllers made.
    applied: Option<Value>,
}

impl Store {
    /// An empty store; `clock` gives creation times.
    #[must_use]
    pub fn new(clock: fn() -> SystemTime) -> Self {
        Self { state: Arc::default(), clock }
    }

    /// Makes the object as a user wants it, creating it if need be.
    ///
    /// # Errors
    /// [`StoreError::Nameless`].
    pub fn apply(&self, object: Value) -> Result<(Outcome, Arc<Value>), StoreError> {
        let key = Key::of(&object).ok_or(StoreError::Nameless)?;
        let wanted = with_namespace(user_part(object), &key);
        let mut state = self.lock();
        let Some(entry) = state.objects.get(&key) else {
            let made = state.insert(key, wanted.clone(), Some(wanted), (self.clock)());
            return Ok((Outcome::Created, made));
        };
        let before = Arc::clone(&entry.object);
        let mut after = (*before).clone();
        merge(&mut after, entry.applied.as_ref(), &wanted);
        let outcome = if same_but_for_source(&before, &after) { Outcome::Unchanged } else { Outcome::Configured };
        let stored = state.replace(&key, after, Some(wanted));
        Ok((outcome, stored))
    }

    /// Adds an object of a controller.
    ///
    /// # Errors
    /// [`StoreError::Nameless`], [`StoreError::Exists`].
    pub fn create(&self, object: Value) -> Result<Arc<Value>, StoreError> {
        let key = Key::of(&object).ok_or(StoreError::Nameless)?;
        let object = with_namespace(object, &key);
        let mut state = self.lock();
        if state.objects.contains_key(&key) {
            return Err(StoreError::Exists(key));
        }
        Ok(state.insert(key, object, None, (self.clock)()))
    }

    /// Changes an object in place, seen from outside as one step. `change` must not rename it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn update(&self, key: &Key, change: impl FnOnce(&mut Value)) -> Result<Arc<Value>, StoreError> {
        let mut state = self.lock();
        let entry = state.objects.get(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        let mut after = (*entry.object).clone();
        change(&mut after);
        Ok(state.replace(key, after, None))
    }

    /// Sets the `status` of an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn set_status(&self, key: &Key, status: Value) -> Result<Arc<Value>, StoreError> {
        self.update(key, |object| object["status"] = status)
    }

    /// Marks an object as being deleted, with the time; its owner removes it when it has finished. Marking twice changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn mark_deleted(&self, key: &Key, grace_seconds: i64) -> Result<Arc<Value>, StoreError> {
        let now = timestamp((self.clock)());
        self.update(key, |object| {
            let metadata = &mut object["metadata"];
            if metadata.get("deletionTimestamp").is_none() {
                metadata["deletionTimestamp"] = json!(now);
                metadata["deletionGracePeriodSeconds"] = json!(grace_seconds);
            }
        })
    }

    /// Removes an object and returns its last form.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn delete(&self, key: &Key) -> Result<Arc<Value>, StoreError> {
        let mut state = self.lock();
        let entry = state.objects.remove(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        state.version += 1;
        let mut last = (*entry.object).clone();
        last["metadata"]["resourceVersion"] = json!(state.version.to_string());
        Ok(state.publish(EventKind::Deleted, last))
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.lock().objects.get(key).map(|entry| Arc::clone(&entry.object))
    }

    /// Whether a user applied the object, rather than a controller making it.
    #[must_use]
    pub fn is_applied(&self, key: &Key) -> bool {
        self.lock().objects.get(key).is_some_and(|entry| entry.applied.is_some())
    }

    /// The objects that a filter asks for, ordered by kind, namespace and name.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Vec<Arc<Value>> {
        let wants = |wanted: &str, actual: &str| wanted.is_empty() || wanted == actual;
        let state = self.lock();
        let chosen = state.objects.iter().filter(|(key, entry)| {
            wants(&filter.kind, &key.kind) && wants(&filter.namespace, &key.namespace) && wants(&filter.name, &key.name) && filter.selector.matches(&entry.object)
        });
        chosen.map(|(_, entry)| Arc::clone(&entry.object)).collect()
    }

    /// All objects of a kind.
    #[must_use]
    pub fn all(&self, kind: &str) -> Vec<Arc<Value>> {
        self.list(&Filter { kind: kind.to_owned(), ..Filter::default() })
    }

    /// Watches from now on; the objects of now come as `initial`.
    #[must_use]
    pub fn watch(&self) -> Watcher {
        let mut state = self.lock();
        let (initial, version) = (state.objects.values().map(|entry| Arc::clone(&entry.object)).collect(), state.version);
        state.fanout.subscribe(initial, version)
    }

    /// Watches what came after version `since`; `None` when that is too long ago, or not from this store.
    #[must_use]
    pub fn watch_since(&self, since: u64) -> Option<Watcher> {
        let mut state = self.lock();
        let version = state.version;
        state.fanout.replay(since, version)
    }

    /// The version after the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave the state half changed: every change ends in one insert.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, key: Key, mut object: Value, applied: Option<Value>, now: SystemTime) -> Arc<Value> {
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(unique_id());
        metadata["creationTimestamp"] = json!(timestamp(now));
        metadata["generation"] = json!(1);
        metadata["resourceVersion"] = json!(self.version.to_string());
        let object = self.publish(EventKind::Added, object);
        self.objects.insert(key, Entry { object: Arc::clone(&object), applied });
        object
    }

    /// Stores a changed form; nothing happens when it is the same. `applied` replaces what the user gave last, if given.
    fn replace(&mut self, key: &Key, mut after: Value, applied: Option<Value>) -> Arc<Value> {
        let Some(entry) = self.objects.get_mut(key) else { return Arc::new(after) };
        let before = Arc::clone(&entry.object);
        if applied.is_some() {
            entry.applied = applied;
        }
        if *before == after {
            return before;
        }
        self.version += 1;
        let generation = before.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(1);
        let metadata = &mut after["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        let generation = generation + i64::from(spec_differs(&before, &after));
        after["metadata"]["generation"] = json!(generation);
        let after = self.publish(EventKind::Modified, after);
        if let Some(entry) = self.objects.get_mut(key) {
            entry.object = Arc::clone(&after);
        }
        after
    }

    fn publish(&mut self, kind: EventKind, object: Value) -> Arc<Value> {
        let object = Arc::new(object);
        self.fanout.publish(&Event { kind, version: self.version, object: Arc::clone(&object) });
        object
    }
}

fn with_namespace(mut object: Value, key: &Key) -> Value {
    if !key.namespace.is_empty() {
        object["metadata"]["namespace"] = json!(key.namespace);
    }
    object
}

/// RFC 3339 in seconds, as Kubernetes writes times.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    let time = time::OffsetDateTime::from(time);
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}

/// A version 4 UUID. Not secret; only unlikely to be given twice.
fn unique_id() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::Selector;
    use std::time::{Duration, UNIX_EPOCH};

    fn store() -> Store {
        Store::new(|| UNIX_EPOCH + Duration::from_secs(86_400))
    }

    fn deployment(replicas: u32) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"replicas": replicas}})
    }

    fn key() -> Key {
        Key::new("apps/v1", "Deployment", "default", "web")
    }

    fn generation(object: &Value) -> i64 {
        object["metadata"]["generation"].as_i64().unwrap()
    }

    #[test]
    fn apply_says_created_then_unchanged_then_configured() {
        let store = store();
        let outcomes = [deployment(1), deployment(1), deployment(2)].map(|object| store.apply(object).unwrap().0);
        assert_eq!(outcomes, [Outcome::Created, Outcome::Unchanged, Outcome::Configured]);
    }

    #[test]
    fn a_new_object_gets_its_metadata() {
        let (_, object) = store().apply(deployment(1)).unwrap();
        assert_eq!(object["metadata"]["creationTimestamp"], "1970-01-02T00:00:00Z");
        assert_eq!(object["metadata"]["namespace"], "default");
        assert_eq!(object["metadata"]["uid"].as_str().unwrap().len(), 36);
    }

    #[test]
    fn generation_rises_with_the_spec_and_not_with_labels_or_status() {
        let store = store();
        store.apply(deployment(1)).unwrap();
        store.set_status(&key(), json!({"ready": 1})).unwrap();
        let labelled = store.update(&key(), |object| object["metadata"]["labels"]["x"] = json!("y")).unwrap();
        assert_eq!(generation(&labelled), 1);
        assert_eq!(generation(&store.apply(deployment(2)).unwrap().1), 2);
    }

    #[test]
    fn apply_keeps_the_status_and_what_controllers_set() {
        let store = store();
        store.apply(deployment(1)).unwrap();
        store.set_status(&key(), json!({"ready": 1})).unwrap();
        let (_, object) = store.apply(deployment(3)).unwrap();
        assert_eq!(object["status"]["ready"], 1);
    }

    #[test]
    fn versions_rise_with_every_change_only() {
        let store = store();
        store.apply(deployment(1)).unwrap();
        store.apply(deployment(1)).unwrap();
        assert_eq!(store.version(), 1);
    }

    #[test]
    fn a_watcher_sees_the_present_and_then_every_change() {
        let store = store();
        store.apply(deployment(1)).unwrap();
        let mut watcher = store.watch();
        assert_eq!(watcher.initial.len(), 1);
        store.apply(deployment(2)).unwrap();
        store.delete(&key()).unwrap();
        let kinds = [watcher.try_next().unwrap().kind, watcher.try_next().unwrap().kind];
        assert_eq!(kinds, [EventKind::Modified, EventKind::Deleted]);
        assert!(watcher.try_next().is_none());
    }

    #[test]
    fn a_reconnecting_watcher_gets_what_it_missed() {
        let store = store();
        store.apply(deployment(1)).unwrap();
        store.apply(deployment(2)).unwrap();
        assert_eq!(store.watch_since(1).unwrap().try_next().unwrap().version, 2);
        assert!(store.watch_since(99).is_none());
    }

    #[tokio::test]
    async fn a_watcher_that_falls_behind_is_ended() {
        let store = store();
        let mut watcher = store.watch();
        for replicas in 0..=u32::try_from(crate::watch::QUEUE_MAX).unwrap() {
            store.apply(deployment(replicas)).unwrap();
        }
        let mut seen = 0;
        while watcher.next().await.is_some() {
            seen += 1;
        }
        assert_eq!(seen, crate::watch::QUEUE_MAX);
    }

    #[test]
    fn lists_select_by_namespace_and_label() {
        let store = store();
        store.apply(deployment(1)).unwrap();
        let count = |namespace: &str, selector: &str| {
            let filter = Filter { kind: "Deployment".into(), namespace: namespace.into(), selector: Selector::parse(selector).unwrap(), ..Filter::default() };
            store.list(&filter).len()
        };
        assert_eq!([count("", ""), count("default", "app=web"), count("other", ""), count("", "app=db")], [1, 1, 0, 0]);
    }

    #[test]
    fn deleting_what_is_not_there_is_an_error() {
        assert_eq!(store().delete(&key()), Err(StoreError::NotFound(key())));
    }
}
