//! One sample a second while somebody looks, and the answer made from the last few.
//!
//! - Reads: [`Facts`] and the sidecars' metrics.
//! - Rule: without subscribers or requests nothing is scraped after [`LINGER`].
//! - Limits: [`WINDOW`] samples; [`SCRAPES_AT_ONCE`] sidecars at once; [`SIDECARS_MAX`] in all.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use tokio::sync::{Notify, watch};

use crate::{
    Facts,
    graph::{self, Sample},
    metrics, scrape,
};

/// Samples that rates are computed over: with one a second, five seconds.
pub(crate) const WINDOW: usize = 6;
/// Time between samples.
const INTERVAL: Duration = Duration::from_millis(900);
/// How long sampling goes on after the last look.
const LINGER: Duration = Duration::from_secs(10);
const SCRAPES_AT_ONCE: usize = 16;
const SIDECARS_MAX: usize = 1000;

/// The task's shared state.
pub(crate) struct Sampler {
    facts: Arc<dyn Facts>,
    latest: watch::Sender<Arc<String>>,
    wake: Notify,
    // Held for assignments only, never across an await.
    looked: Mutex<Instant>,
}

impl Sampler {
    /// Starts the sampling task. It lives as long as the returned value is held elsewhere.
    pub(crate) fn start(facts: Arc<dyn Facts>) -> Arc<Self> {
        let (latest, _) = watch::channel(Arc::new("{}".to_owned()));
        let sampler = Arc::new(Self { facts, latest, wake: Notify::new(), looked: Mutex::new(Instant::now()) });
        let weak = Arc::downgrade(&sampler);
        tokio::spawn(async move {
            let mut window = VecDeque::new();
            loop {
                let Some(sampler) = weak.upgrade() else { return };
                if sampler.idle() {
                    // Old samples would stretch the first rate after a pause.
                    window.clear();
                    sampler.wake.notified().await;
                }
                let begun = Instant::now();
                sampler.sample(&mut window).await;
                drop(sampler);
                tokio::time::sleep(INTERVAL.saturating_sub(begun.elapsed())).await;
            }
        });
        sampler
    }

    fn idle(&self) -> bool {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        self.latest.receiver_count() == 0 && looked.elapsed() > LINGER
    }

    fn look(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = looked.elapsed() > LINGER;
        *looked = Instant::now();
        self.wake.notify_one();
        stale
    }

    /// A receiver of every sample, the last first.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<String>> {
        let receiver = self.latest.subscribe();
        self.look();
        receiver
    }

    /// The last sample; waits for a new one where nobody looked for a while.
    pub(crate) async fn fresh(&self) -> Arc<String> {
        let mut receiver = self.latest.subscribe();
        let stale = self.look() || receiver.borrow().len() <= 2;
        if stale {
            // The sender lives in `self`, so that waiting only ends with a sample.
            let _ = receiver.changed().await;
        }
        Arc::clone(&receiver.borrow_and_update())
    }

    async fn sample(&self, window: &mut VecDeque<Sample>) {
        let pods = self.facts.pods();
        let addresses: Vec<_> = pods.iter().filter(|pod| pod.injected || pod.gateway).filter_map(|pod| pod.ip).take(SIDECARS_MAX).collect();
        let texts: Vec<_> = stream::iter(addresses.into_iter().map(|ip| async move { (ip, scrape::fetch(ip).await) }))
            .buffer_unordered(SCRAPES_AT_ONCE)
            .collect()
            .await;
        let mut by_pod = HashMap::new();
        for (ip, text) in texts {
            if let Some(text) = text {
                let mut series = HashMap::new();
                metrics::read(&text, &mut series);
                by_pod.insert(ip, series);
            }
        }
        window.push_back(Sample { at: Instant::now(), by_pod });
        while window.len() > WINDOW {
            window.pop_front();
        }
        let answer = graph::Answer {
            mesh: self.facts.mesh(),
            gateway_url: self.facts.gateway_url(),
            graph: graph::build(window, &pods),
            problems: self.facts.problems(),
            pods,
        };
        if let Ok(text) = serde_json::to_string(&answer) {
            self.latest.send_replace(Arc::new(text));
        }
    }
}
