//! What a pod says about itself: `status` of the object, and its row in `lateen ps`.
//!
//! - Reads: the state of each container.
//! - Rule: pure. A pod is ready when every container is; a pod that is being deleted is not.
//! - Source: Kubernetes' «Pod Lifecycle».

use lateen_base::{annotations, labels};
use lateen_dashboard::Pod as Row;
use lateen_kube_api::{ContainerStatus, ObjectMeta, Pod, PodCondition, PodStatus};
use lateen_sys::process::Exit;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not running; a reason in one word and a message.
    Waiting(&'static str, String),
    /// Running since this time (RFC 3339).
    Running(String),
    /// Ended for good, at this time.
    Terminated(Exit, String),
}

/// One container's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerState {
    /// Name in the specification.
    pub name: String,
    /// Image in the specification.
    pub image: String,
    /// What it does.
    pub phase: Phase,
    /// Whether it passes its probes.
    pub ready: bool,
    /// Whether its startup probe has passed.
    pub started: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// How its last run ended, and when.
    pub last: Option<(Exit, String)>,
}

impl ContainerState {
    pub(crate) fn new(name: &str, image: &str) -> Self {
        let phase = Phase::Waiting("ContainerCreating", String::new());
        Self { name: name.into(), image: image.into(), phase, ready: false, started: false, restarts: 0, last: None }
    }

    fn to_status(&self) -> ContainerStatus {
        let ended = |(exit, at): &(Exit, String)| json!({"terminated": {"exitCode": exit.code(), "reason": reason_of(*exit), "finishedAt": at}});
        let state = match &self.phase {
            Phase::Waiting(reason, message) if message.is_empty() => json!({"waiting": {"reason": reason}}),
            Phase::Waiting(reason, message) => json!({"waiting": {"reason": reason, "message": message}}),
            Phase::Running(since) => json!({"running": {"startedAt": since}}),
            Phase::Terminated(exit, at) => ended(&(*exit, at.clone())),
        };
        ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: self.image.clone(),
            ready: self.ready,
            started: Some(self.started),
            restart_count: i32::try_from(self.restarts).unwrap_or(i32::MAX),
            state: Some(state),
            last_state: self.last.as_ref().map(ended),
            ..ContainerStatus::default()
        }
    }
}

fn reason_of(exit: Exit) -> &'static str {
    match exit {
        Exit::Code(0) => "Completed",
        Exit::Code(_) => "Error",
        Exit::Signal(9) => "Killed",
        Exit::Signal(_) => "Error",
    }
}

/// A pod's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodState {
    /// Address; `None` before there is one.
    pub ip: Option<Ipv4Addr>,
    /// Containers in the order of the specification.
    pub containers: Vec<ContainerState>,
    /// Init containers, likewise.
    pub init: Vec<ContainerState>,
    /// Whether it is being stopped.
    pub stopping: bool,
    /// Why it cannot be prepared, in one word and a message.
    pub blocked: Option<(&'static str, String)>,
    /// When it was started.
    pub start_time: String,
}

impl PodState {
    pub(crate) fn new(pod: &Pod, start_time: String) -> Self {
        let of = |containers: &[lateen_kube_api::Container]| containers.iter().map(|c| ContainerState::new(&c.name, &c.image)).collect();
        Self { ip: None, containers: of(&pod.spec.containers), init: of(&pod.spec.init_containers), stopping: false, blocked: None, start_time }
    }

    /// The `status` of the object. `previous` keeps the time of conditions that have not changed; `now` is RFC 3339.
    pub(crate) fn to_status(&self, previous: Option<&PodStatus>, now: &str) -> PodStatus {
        let ready = !self.stopping && !self.containers.is_empty() && self.containers.iter().all(|container| container.ready);
        let initialized = self.init.iter().all(|container| matches!(container.phase, Phase::Terminated(Exit::Code(0), _)));
        let conditions = [("PodScheduled", true), ("Initialized", initialized), ("ContainersReady", ready), ("Ready", ready)];
        let ip = self.ip.map(|ip| ip.to_string()).unwrap_or_default();
        let (reason, message) = self.blocked.clone().unwrap_or_default();
        PodStatus {
            phase: self.phase().into(),
            pod_i_ps: if ip.is_empty() { vec![] } else { vec![json!({"ip": ip})] },
            pod_ip: ip,
            host_ip: lateen_base::ports::BRIDGE_ADDRESS.to_string(),
            start_time: Some(self.start_time.clone()),
            conditions: conditions.iter().map(|(name, truth)| condition(name, *truth, previous, now)).collect(),
            container_statuses: self.containers.iter().map(ContainerState::to_status).collect(),
            init_container_statuses: self.init.iter().map(ContainerState::to_status).collect(),
            reason: reason.into(),
            message,
            ..PodStatus::default()
        }
    }

    fn phase(&self) -> &'static str {
        let ended: Vec<Exit> = self.containers.iter().filter_map(|c| if let Phase::Terminated(exit, _) = &c.phase { Some(*exit) } else { None }).collect();
        let started = self.containers.iter().any(|container| !matches!(container.phase, Phase::Waiting("ContainerCreating" | "PodInitializing", _)));
        match ended.len() == self.containers.len() && !ended.is_empty() {
            true if ended.iter().all(|exit| *exit == Exit::Code(0)) => "Succeeded",
            true => "Failed",
            false if started => "Running",
            false => "Pending",
        }
    }
}

fn condition(name: &str, truth: bool, previous: Option<&PodStatus>, now: &str) -> PodCondition {
    let status = if truth { "True" } else { "False" };
    let before = previous.and_then(|status| status.conditions.iter().find(|condition| condition.r#type == name));
    let since = before.filter(|before| before.status == status).and_then(|before| before.last_transition_time.clone());
    PodCondition { r#type: name.into(), status: status.into(), last_transition_time: Some(since.unwrap_or_else(|| now.into())), ..PodCondition::default() }
}

/// Whether a pod takes traffic: its condition `Ready` is true and nobody asked for its deletion.
#[must_use]
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    pod.pointer("/metadata/deletionTimestamp").is_none()
        && conditions.is_some_and(|all| all.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

/// The pod's row in `lateen ps` and on the page; `age_seconds` is since its creation.
pub(crate) fn row(pod: &Pod, age_seconds: u64) -> Row {
    let status = pod.status.clone().unwrap_or_default();
    let statuses = &status.container_statuses;
    let ready_count = statuses.iter().filter(|container| container.ready).count();
    let label = |names: &[&str]| names.iter().find_map(|name| pod.metadata.labels.get(*name)).cloned();
    let workload = lateen_inject::sidecar::workload_of(&pod.metadata);
    let injected = pod.metadata.annotations.contains_key(annotations::STATUS);
    Row {
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        app: label(&[labels::CANONICAL_NAME, labels::APP_KUBERNETES_NAME, labels::APP]).unwrap_or_else(|| workload.clone()),
        version: label(&[labels::CANONICAL_REVISION, labels::APP_KUBERNETES_VERSION, labels::VERSION]).unwrap_or_else(|| "latest".into()),
        workload,
        ip: status.pod_ip.parse().ok(),
        ready: pod.is_ready(),
        status: word(&pod.metadata, &status),
        containers: format!("{ready_count}/{}", pod.spec.containers.len()),
        restarts: statuses.iter().map(|container| u32::try_from(container.restart_count).unwrap_or(0)).sum(),
        age_seconds,
        injected,
        gateway: pod.metadata.labels.get(labels::GATEWAY).is_some_and(|value| value == labels::GATEWAY_INGRESS),
    }
}

/// The STATUS column: as kubectl words it.
fn word(metadata: &ObjectMeta, status: &PodStatus) -> String {
    if metadata.deletion_timestamp.is_some() {
        return "Terminating".into();
    }
    if !status.reason.is_empty() {
        return status.reason.clone();
    }
    let reason = |container: &ContainerStatus| {
        let state = container.state.as_ref()?;
        let waiting = state.pointer("/waiting/reason").and_then(Value::as_str).filter(|reason| *reason != "ContainerCreating" || status.phase == "Pending");
        waiting.or_else(|| state.pointer("/terminated/reason").and_then(Value::as_str)).map(str::to_owned)
    };
    let all = status.container_statuses.iter();
    all.filter_map(reason).find(|reason| reason != "Completed" || status.phase != "Running").unwrap_or_else(|| status.phase.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}})).unwrap()
    }

    fn state(phases: [Phase; 2], ready: [bool; 2]) -> PodState {
        let mut state = PodState::new(&pod(), "2026-01-01T00:00:00Z".into());
        for ((container, phase), ready) in state.containers.iter_mut().zip(phases).zip(ready) {
            container.phase = phase;
            container.ready = ready;
        }
        state
    }

    fn running() -> Phase {
        Phase::Running("2026-01-01T00:00:00Z".into())
    }

    fn shown(state: &PodState) -> Row {
        let mut pod = pod();
        pod.status = Some(state.to_status(None, "now"));
        row(&pod, 0)
    }

    #[test]
    fn a_pod_is_ready_when_all_containers_are() {
        let row = shown(&state([running(), running()], [true, false]));
        assert_eq!((row.ready, row.containers.as_str(), row.status.as_str()), (false, "1/2", "Running"));
        assert!(shown(&state([running(), running()], [true, true])).ready);
    }

    #[test]
    fn a_stopping_pod_is_not_ready() {
        let mut state = state([running(), running()], [true, true]);
        state.stopping = true;
        assert!(!shown(&state).ready);
    }

    #[test]
    fn a_crash_loop_is_called_by_its_name() {
        let waiting = Phase::Waiting("CrashLoopBackOff", "back-off 10s".into());
        assert_eq!(shown(&state([waiting, running()], [false, true])).status, "CrashLoopBackOff");
    }

    #[test]
    fn all_containers_ended_well_is_success() {
        let done = || Phase::Terminated(Exit::Code(0), "t".into());
        let row = shown(&state([done(), done()], [false, false]));
        assert_eq!(row.status, "Completed");
    }

    #[test]
    fn a_condition_keeps_its_time_while_it_does_not_change() {
        let state = state([running(), running()], [true, true]);
        let first = state.to_status(None, "t1");
        let second = state.to_status(Some(&first), "t2");
        assert_eq!(second.conditions[3].last_transition_time.as_deref(), Some("t1"));
    }
}
