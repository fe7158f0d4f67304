//! Upkeep of clusters on the main thread: the outlier detector's intervals.
//!
//! - Reads: `plan::outlier::OutlierDetection` of the clusters in force.
//! - Rule: each cluster is looked at once per its own interval; a change of health tells the workers to look again.
//! - Limits: looks happen no more often than [`LOOK`].
//! - Not here: ejecting at consecutive errors, which workers do at once (`mod.rs`).

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use lateen_plan::names::Name;

use super::outlier_detection::Record;
use crate::server::Server;

/// Shortest time between two looks; intervals are multiples of it, rounded up.
pub const LOOK: Duration = Duration::from_millis(100);
/// Time between looks while no cluster asks for any, so that an idle proxy stays asleep.
const NOTHING_TO_DO: Duration = Duration::from_secs(1);

/// Runs for ever.
pub async fn run(server: Rc<Server>) {
    let mut due: HashMap<Name, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(if due.is_empty() { NOTHING_TO_DO } else { LOOK }).await;
        let config = server.config();
        let now = Instant::now();
        let now_ms = u64::try_from(server.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        due.retain(|name, _| config.plan.clusters.contains_key(name));
        for (name, cluster) in config.plan.clusters.iter() {
            let Some(settings) = &cluster.outlier else { continue };
            let at = due.entry(Name::clone(name)).or_insert(now + settings.interval);
            if now < *at {
                continue;
            }
            *at = now + settings.interval;
            let shared = server.registry.cluster(name);
            let hosts = shared.hosts();
            let records: Vec<&Record> = hosts.iter().map(|(_, host)| &host.record).collect();
            if shared.detector.interval(&records, settings, now_ms) {
                shared.health_changed();
            }
        }
    }
}
