//! The world: follows the store and turns what changes into complete states of the mesh.
//!
//! - Reads: the store's watch, through `source`.
//! - Rule: a state is published only when all objects were read once; after a break of the watch the old state stays until all were read again.
//! - Rule: changes that come close together become one state: after `debounce_quiet` without another, at the latest after `debounce_max`.
//! - Rule: a refused object keeps its last good version (`source::snapshot`); reporting it never delays a push, it runs beside, on the
//!   newest state only.
//! - Not here: what objects mean (`kinds`), who gets what (`hub`).

use crate::ControlOptions;
use crate::hub::{Hub, State};
use crate::metrics::Metrics;
use crate::report::{Reporter, identity_of};
use lateen_base::Finding;
use lateen_kinds::decode::object_name;
use lateen_mesh::Snapshot;
use lateen_source::watch::{self as store, Update};
use lateen_source::{Applied, Event, SnapshotBuilder};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

/// Identities of the objects whose status is ours to write, by the name findings use (`Kind namespace/name`).
type Identities = BTreeMap<String, Value>;

/// How long a state has to settle before it is analysed; reports are for people.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// What the reporting task looks at.
struct Report {
    snapshot: Snapshot,
    refused: Vec<Finding>,
    identities: Identities,
}

/// Everything read so far.
#[derive(Default)]
struct World {
    builder: SnapshotBuilder,
    identities: Identities,
    /// All objects were read once.
    complete: bool,
}

/// What has to follow from a change.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Due {
    push: bool,
    report: bool,
}

impl World {
    fn apply(&mut self, update: Update, metrics: &Metrics) -> Due {
        match update {
            Update::Complete(objects) => {
                self.builder.replace(&objects);
                self.identities = objects.iter().filter_map(|o| Some((object_name(o), identity_of(o)?))).collect();
                // After a reconnect the proxies hold the same state; equal resources are not sent again.
                self.complete = true;
                Due { push: true, report: true }
            }
            Update::Change(event) => {
                let (word, object) = match &event {
                    Event::Upsert(object) => ("put", object),
                    Event::Delete(object) => ("delete", object),
                };
                metrics.add("pilot_inbound_updates", &format!("type=\"{word}\""), 1);
                let name = object_name(object);
                match (&event, identity_of(object)) {
                    (Event::Upsert(_), Some(identity)) => drop(self.identities.insert(name, identity)),
                    (Event::Delete(_), _) => drop(self.identities.remove(&name)),
                    (Event::Upsert(_), None) => {}
                }
                match self.builder.apply(&event) {
                    Applied::Changed => Due { push: true, report: true },
                    Applied::Refused(_) => Due { push: false, report: true },
                    // A refused object that is put right to what it was before changes nothing but the findings.
                    Applied::Unchanged => Due { push: false, report: true },
                }
            }
        }
    }
}

impl std::ops::BitOrAssign for Due {
    fn bitor_assign(&mut self, other: Self) {
        self.push |= other.push;
        self.report |= other.report;
    }
}

/// Follows the store for ever.
pub async fn follow(options: ControlOptions, hub: Arc<Hub>, metrics: Arc<Metrics>) {
    let (reports, newest) = watch::channel(None);
    tokio::spawn(report(newest, Reporter::new(options.store_socket.clone(), Arc::clone(&metrics))));
    let (mut updates, _following) = store::spawn(options.store_socket.clone());
    let mut world = World::default();
    let mut snapshot = Snapshot::default();
    let mut counter = 0_u64;
    while let Some(update) = updates.recv().await {
        let changed_at = Instant::now();
        let mut due = world.apply(update, &metrics);
        let latest = tokio::time::Instant::from_std(changed_at + options.debounce_max);
        let quiet = || latest.min(tokio::time::Instant::now() + options.debounce_quiet);
        // `recv` is cancel-safe.
        while let Ok(Some(update)) = tokio::time::timeout_at(quiet(), updates.recv()).await {
            due |= world.apply(update, &metrics);
        }
        if !world.complete {
            continue;
        }
        if due.push {
            metrics.observe("pilot_debounce_time", changed_at.elapsed());
            counter += 1;
            // A large mesh takes a while to index; the connections are served meanwhile.
            snapshot = tokio::task::block_in_place(|| world.builder.build());
            let version = format!("{}/{counter}", OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default());
            hub.publish(State { snapshot: snapshot.clone(), version, changed_at }).await;
        }
        if due.report {
            let report = Report { snapshot: snapshot.clone(), refused: world.builder.refused(), identities: world.identities.clone() };
            reports.send_replace(Some(Arc::new(report)));
        }
    }
}

async fn report(mut newest: watch::Receiver<Option<Arc<Report>>>, mut reporter: Reporter) {
    while newest.changed().await.is_ok() {
        // While a mesh starts, much refers to what is not there yet for a moment.
        tokio::time::sleep(REPORT_AFTER).await;
        let Some(report) = newest.borrow_and_update().clone() else { continue };
        let looked_at = report.snapshot.clone();
        let Ok(analysis) = tokio::task::spawn_blocking(move || lateen_kinds::analyze(&looked_at)).await else {
            tracing::error!("analysis failed; findings of this state are incomplete");
            continue;
        };
        let findings = report.refused.iter().cloned().chain(analysis).collect();
        reporter.report(findings, |name| report.identities.get(name)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn gateway(port: u32, status: u32) -> Value {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "a", "generation": port},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]},
            "status": {"observedGeneration": status}})
    }

    fn put(object: Value) -> Update {
        Update::Change(Event::Upsert(object))
    }

    #[test]
    fn a_status_written_back_pushes_nothing() {
        let (mut world, metrics) = (World::default(), Metrics::default());
        assert!(world.apply(put(gateway(80, 1)), &metrics).push);
        assert!(!world.apply(put(gateway(80, 2)), &metrics).push);
        assert!(world.apply(put(gateway(81, 2)), &metrics).push);
    }

    #[test]
    fn a_refused_object_is_reported_and_its_last_good_version_stays() {
        let (mut world, metrics) = (World::default(), Metrics::default());
        world.apply(put(gateway(80, 1)), &metrics);
        assert_eq!(world.apply(put(gateway(99_999, 1)), &metrics), Due { push: false, report: true });
        assert_eq!(world.builder.build().gateways.len(), 1);
        assert!(!world.builder.refused().is_empty());
    }

    #[test]
    fn only_a_complete_read_makes_a_state() {
        let (mut world, metrics) = (World::default(), Metrics::default());
        world.apply(put(gateway(80, 1)), &metrics);
        assert!(!world.complete);
        world.apply(Update::Complete(vec![]), &metrics);
        assert!(world.complete && world.identities.is_empty() && world.builder.build().gateways.is_empty());
    }
}
