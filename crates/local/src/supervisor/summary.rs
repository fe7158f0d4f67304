//! What the user sees while the mesh starts, and when it is up.
//!
//! - Reads: pods of the store, published ports.
//! - Rule: the summary comes when every pod is ready; after [`PATIENCE`] it comes all the same and says what is missing.

use super::Context;
use super::api::rows;
use lateen_base::names;
use lateen_dashboard::Pod;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than a mesh of some dozens of pods takes to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shows progress until all pods are ready, and then the summary.
pub(crate) async fn announce(context: Arc<Context>) {
    let start = Instant::now();
    let mut watcher = context.store.watch();
    let mut shown = BTreeSet::new();
    loop {
        let pods = rows(&context);
        for pod in pods.iter().filter(|pod| pod.ready) {
            if shown.insert((pod.namespace.clone(), pod.name.clone())) {
                context.host.progress(format!("  {:>5} ms  {}/{} ready ({})", start.elapsed().as_millis(), pod.namespace, pod.name, pod.containers)).await;
            }
        }
        let left = PATIENCE.saturating_sub(start.elapsed());
        if is_up(&context, &pods) || left.is_zero() {
            context.host.ready(lines(&context, &pods, start.elapsed())).await;
            return;
        }
        tokio::select! {
            event = watcher.next() => if event.is_none() { watcher = context.store.watch() },
            () = tokio::time::sleep(left) => {}
        }
        while watcher.try_next().is_some() {}
    }
}

/// Whether every Deployment has all its pods and every pod is ready.
fn is_up(context: &Context, pods: &[Pod]) -> bool {
    let complete = context.store.all("Deployment").iter().all(|deployment| {
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
        deployment["status"]["readyReplicas"].as_u64().unwrap_or(0) >= wanted
    });
    complete && pods.iter().all(|pod| pod.ready || matches!(pod.status.as_str(), "Completed" | "Terminating"))
}

fn lines(context: &Context, pods: &[Pod], took: Duration) -> Vec<String> {
    let options = &context.start.options;
    let ports = context.start.ports;
    let waiting: Vec<&Pod> = pods.iter().filter(|pod| !pod.ready && pod.status != "Completed").collect();
    let mut lines = vec![String::new()];
    if waiting.is_empty() {
        lines.push(format!("mesh `{}` is up: {} pods ready in {:.2} s", options.mesh, pods.len(), took.as_secs_f64()));
    } else {
        lines.push(format!("mesh `{}` runs, but {} of {} pods are not ready after {} s:", options.mesh, waiting.len(), pods.len(), took.as_secs()));
        for pod in &waiting {
            lines.push(format!("  {}/{}  {} {}   why: lateen logs {} -n {}", pod.namespace, pod.name, pod.containers, pod.status, pod.name, pod.namespace));
        }
    }
    lines.push(String::new());
    for pod in pods.iter().filter(|pod| pod.namespace != names::ROOT_NAMESPACE) {
        let sidecar = if pod.injected { "with sidecar" } else { "no sidecar" };
        lines.push(format!("  {:<40} {:<10} {}", format!("{}/{}", pod.namespace, pod.workload), pod.version, sidecar));
    }
    let flag = if options.mesh == "default" { String::new() } else { format!(" --name {}", options.mesh) };
    let example = pods.iter().find(|pod| pod.namespace != names::ROOT_NAMESPACE).map_or("POD", |pod| pod.workload.as_str());
    lines.extend([
        String::new(),
        format!("  look     http://127.0.0.1:{}/", ports.dashboard),
        format!("  call     curl -i http://127.0.0.1:{}/          (the ingress gateway; a Gateway and a VirtualService decide)", ports.ingress),
        format!("  try      lateen{flag} ps   ·   lateen{flag} logs deploy/{example} -c {}   ·   lateen{flag} apply -f FILE", names::PROXY_CONTAINER),
        format!("  change   edit the YAML: it is applied as you save   ({} watched)", if options.watch { "files are" } else { "files are not" }),
        format!("  stop     {}", if options.detach { format!("lateen{flag} down") } else { "Ctrl-C".to_owned() }),
    ]);
    lines
}
