//! Pod objects to running pods: a task for each object, stopped when the object is deleted.
//!
//! - Rule: an object marked as deleted stays in the store until its pod has ended; so everybody sees it end.
//! - Rule: a pod whose specification changed is ended and started anew.

use crate::supervisor::Context;
use crate::supervisor::pod::{self, Stop};
use lateen_kube_api::Pod;
use lateen_store::Key;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Grace that a pod gets at most when everything stops: `down` should not take half a minute.
const GRACE_AT_END_MAX: u64 = 3;

/// The running pods.
pub(crate) struct Pods {
    context: Arc<Context>,
    running: HashMap<Key, Task>,
}

struct Task {
    uid: String,
    generation: Option<i64>,
    stop: watch::Sender<Stop>,
    task: JoinHandle<()>,
}

impl Pods {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, running: HashMap::new() }
    }

    /// Starts and stops pods as the objects say.
    pub(crate) fn reconcile(&mut self) {
        let mut objects: HashMap<Key, Pod> = HashMap::new();
        for object in self.context.store.all("Pod") {
            if let (Some(key), Ok(pod)) = (Key::of(&object), serde_json::from_value::<Pod>((*object).clone())) {
                objects.insert(key, pod);
            }
        }
        self.collect_finished(&objects);
        for (key, task) in &self.running {
            match objects.get(key) {
                Some(pod) if pod.metadata.deletion_timestamp.is_some() => task.order(Stop::Within(asked_grace(pod))),
                Some(pod) if pod.metadata.uid == task.uid && pod.metadata.generation == task.generation => {}
                Some(pod) => task.order(Stop::Within(pod::grace_of(pod))),
                None => task.order(Stop::Within(0)),
            }
        }
        for (key, pod) in objects {
            if self.running.contains_key(&key) {
                continue;
            }
            if pod.metadata.deletion_timestamp.is_some() {
                let _ = self.context.store.delete(&key);
                continue;
            }
            self.start(key, pod);
        }
    }

    fn start(&mut self, key: Key, pod: Pod) {
        let (stop, receiver) = watch::channel(Stop::No);
        let (uid, generation) = (pod.metadata.uid.clone(), pod.metadata.generation);
        let context = Arc::clone(&self.context);
        let running = pod::run(Arc::clone(&context), key.clone(), pod, receiver);
        let task = tokio::spawn(async move {
            running.await;
            context.wake.notify_one();
        });
        self.running.insert(key, Task { uid, generation, stop, task });
    }

    fn collect_finished(&mut self, objects: &HashMap<Key, Pod>) {
        let context = &self.context;
        self.running.retain(|key, task| {
            if !task.task.is_finished() {
                return true;
            }
            let is_same = |pod: &&Pod| pod.metadata.uid == task.uid && pod.metadata.deletion_timestamp.is_some();
            if objects.get(key).as_ref().is_some_and(is_same) {
                let _ = context.store.delete(key);
            }
            // A task waits for its end before it reports itself; the next round starts what is to be started.
            context.wake.notify_one();
            false
        });
    }

    /// Ends all pods at once and waits for them.
    pub(crate) async fn stop_all(mut self) {
        for (key, task) in &self.running {
            let grace = self.context.store.get(key).and_then(|object| serde_json::from_value::<Pod>((*object).clone()).ok());
            task.order(Stop::Within(grace.map_or(0, |pod| pod::grace_of(&pod)).min(GRACE_AT_END_MAX)));
        }
        for (_, task) in self.running.drain() {
            // A task that panicked has ended too.
            let _ = task.task.await;
        }
    }
}

impl Task {
    /// Tells the pod to stop. The first order counts.
    fn order(&self, stop: Stop) {
        self.stop.send_if_modified(|current| {
            let first = *current == Stop::No;
            if first {
                *current = stop;
            }
            first
        });
    }
}

fn asked_grace(pod: &Pod) -> u64 {
    pod.metadata.deletion_grace_period_seconds.map_or_else(|| pod::grace_of(pod), |seconds| u64::try_from(seconds).unwrap_or(0))
}
