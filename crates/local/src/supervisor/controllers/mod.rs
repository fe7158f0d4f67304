//! Controllers: they look at the objects and make the machine follow.
//!
//! ```text
//! Deployment → ReplicaSet → Pod objects   (deployment.rs)
//! Pod objects → running pods              (pods.rs)
//! Services + ready pods → addresses       (service.rs)
//! ```
//!
//! - Twin: `kube-api/src/workload.rs`.
//! - Rule: level-triggered: each round looks at everything as it is, so a missed or repeated event does no harm.

pub(crate) mod deployment;
pub(crate) mod pods;
pub(crate) mod service;

use super::Context;
use lateen_store::Watcher;
use pods::Pods;
use service::Services;
use std::sync::Arc;
use tokio::sync::watch;

/// Kinds whose changes start a round.
const WATCHED: &[&str] = &["Deployment", "ReplicaSet", "Pod", "Service", "EndpointSlice"];

/// Runs the controllers until `stop`, then ends all pods in order.
pub(crate) async fn run(context: Arc<Context>, mut stop: watch::Receiver<bool>) {
    let mut pods = Pods::new(Arc::clone(&context));
    let mut services = Services::default();
    let mut watcher = context.store.watch();
    loop {
        deployment::reconcile(&context);
        pods.reconcile();
        services.reconcile(&context).await;
        tokio::select! {
            () = changed(&context, &mut watcher) => {}
            () = context.wake.notified() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    pods.stop_all().await;
}

/// Waits for a change that matters, and takes those that came with it.
async fn changed(context: &Context, watcher: &mut Watcher) {
    loop {
        let Some(event) = watcher.next().await else {
            // Fell behind: everything is looked at anyway.
            *watcher = context.store.watch();
            return;
        };
        let mut matters = is_watched(&event.object);
        while let Some(event) = watcher.try_next() {
            matters |= is_watched(&event.object);
        }
        if matters {
            return;
        }
    }
}

fn is_watched(object: &serde_json::Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| WATCHED.contains(&kind))
}
