//! One container: start, probe, restart, stop.
//!
//! ```text
//! Waiting(ContainerCreating) → Running ─ended→ policy says again → Waiting(CrashLoopBackOff) → Running …
//!                                  └─ended, done→ Terminated
//! ```
//!
//! - Rule: on a stop the program gets SIGTERM, and SIGKILL when the pod's grace is over; both reach everything in its session.

use super::backoff::{Backoff, Patience};
use super::environment::{self, Program, Sources};
use super::probe::{self, Counter, Eager, Question, Verdict};
use super::{PodRun, StopLevel};
use crate::supervisor::logs;
use lateen_base::names;
use lateen_kube_api::{Container, Probe};
use lateen_sys::process::{Exit, Privilege, Running, signal_group};
use nix::sys::signal::Signal;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// When a container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Whenever it ends.
    Always,
    /// When it fails.
    OnFailure,
    /// Not at all.
    Never,
}

impl Restart {
    /// The pod's `restartPolicy`.
    pub(crate) fn of(policy: &str) -> Self {
        match policy {
            "Never" => Restart::Never,
            "OnFailure" => Restart::OnFailure,
            _ => Restart::Always,
        }
    }

    fn again(self, exit: Exit) -> bool {
        match self {
            Restart::Always => true,
            Restart::OnFailure => exit != Exit::Code(0),
            Restart::Never => false,
        }
    }
}

/// How long to wait before trying again to start what cannot be started (a missing ConfigMap, say).
const RETRY: Duration = Duration::from_secs(1);

/// Runs a container until it is done or stopped; returns how it ended last.
pub(crate) async fn run(pod: Arc<PodRun>, container: Container, restart: Restart, mut stop: watch::Receiver<StopLevel>) -> Option<Exit> {
    let patience = if is_mesh(&container) { Patience::Mesh } else { Patience::Application };
    let mut backoff = Backoff::new(patience);
    let mut runs = 0_u32;
    let mut last = None;
    while *stop.borrow() == StopLevel::Run {
        let running = match start(&pod, &container, runs) {
            Ok(running) => running,
            Err(failure) => {
                pod.wait(&container.name, failure.reason, failure.message);
                if pause(failure.retry.unwrap_or_else(|| backoff.after(Duration::ZERO).max(RETRY)), &mut stop).await {
                    break;
                }
                continue;
            }
        };
        runs += 1;
        let began = Instant::now();
        let exit = attend(&pod, &container, running, &mut stop).await;
        last = Some(exit);
        let stopping = *stop.borrow() != StopLevel::Run;
        if stopping || !restart.again(exit) {
            pod.ended(&container.name, exit);
            return last;
        }
        let wait = backoff.after(began.elapsed());
        pod.restarting(&container.name, exit, wait);
        if pause(wait, &mut stop).await {
            break;
        }
    }
    if let Some(exit) = last {
        pod.ended(&container.name, exit);
    }
    last
}

/// Whether the container is part of the mesh rather than the user's.
pub(crate) fn is_mesh(container: &Container) -> bool {
    container.name == names::PROXY_CONTAINER || container.image == lateen_inject::sidecar::OWN_IMAGE
}

/// Waits; true when told to stop meanwhile.
async fn pause(wait: Duration, stop: &mut watch::Receiver<StopLevel>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(wait) => false,
        _ = stop.wait_for(|level| *level != StopLevel::Run) => true,
    }
}

struct Failure {
    reason: &'static str,
    message: String,
    /// `None`: wait as for a crash.
    retry: Option<Duration>,
}

fn start(pod: &PodRun, container: &Container, runs: u32) -> Result<Running, Failure> {
    let configuration = |message: String| Failure { reason: "CreateContainerConfigError", message, retry: Some(RETRY) };
    let command = command(pod, container).map_err(configuration)?;
    let log = logs::file_of(&pod.context.logs_dir(), &pod.key.namespace, &pod.key.name, &container.name);
    if runs > 0 {
        logs::keep_previous(&log);
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error: io::Error| {
        let remedy = if error.kind() == io::ErrorKind::NotFound { " (no such program or working directory on this machine; check command and workingDir)" } else { "" };
        Failure { reason: "RunContainerError", message: format!("{program}: {error}{remedy}"), retry: None }
    };
    let output = logs::collect(log).map_err(failed)?;
    let mut command = command;
    command.stdin(Stdio::null()).stdout(output.try_clone().map_err(failed)?).stderr(output);
    let privilege = if is_mesh(container) { Privilege::Full } else { Privilege::Container };
    let running = pod.context.reaper.start(command, Some(Arc::clone(&pod.namespaces)), privilege).map_err(failed)?;
    let ready = container.readiness_probe.is_none() && container.startup_probe.is_none();
    pod.started(&container.name, running.pid, ready);
    Ok(running)
}

/// The command of a container.
///
/// # Errors
/// What is missing, in words.
fn command(pod: &PodRun, container: &Container) -> Result<Command, String> {
    let variables = variables_of(pod, container)?;
    let program = environment::program(container, &variables, &pod.context.hooks).map_err(|finding| {
        pod.report(&container.name, finding.clone());
        finding.message
    })?;
    assemble(pod, container, program, variables)
}

/// The command of a program that runs in a container's place, as `exec` and probes have it: the built-in one where the machine has none.
///
/// # Errors
/// What is missing, in words.
pub(crate) fn exec_command(pod: &PodRun, container: &Container, words: &[String]) -> Result<Command, String> {
    let variables = variables_of(pod, container)?;
    assemble(pod, container, Program::Machine(words.to_vec()), variables)
}

fn variables_of(pod: &PodRun, container: &Container) -> Result<Vec<(String, String)>, String> {
    let (config_map, secret) = (pod.find("ConfigMap"), pod.find("Secret"));
    let sources = Sources { pod: &pod.pod, ip: pod.ip, config_map: &config_map, secret: &secret };
    environment::variables(container, &sources)
}

fn assemble(pod: &PodRun, container: &Container, program: Program, variables: Vec<(String, String)>) -> Result<Command, String> {
    let (first, args) = match program {
        Program::Own(args) => (pod.context.start.executable.clone(), args),
        Program::Machine(words) => {
            let (first, rest) = words.split_first().ok_or("the command is empty")?;
            (first.into(), rest.to_vec())
        }
    };
    let mut command = Command::new(first);
    command.args(args).env_clear().envs(pod.base_environment()).envs(variables);
    command.current_dir(if container.working_dir.is_empty() { "/" } else { &container.working_dir });
    Ok(command)
}

/// Watches a running container: its end, its probes, the order to stop.
async fn attend(pod: &Arc<PodRun>, container: &Container, mut running: Running, stop: &mut watch::Receiver<StopLevel>) -> Exit {
    tokio::select! {
        exit = &mut running.exit => return known(exit),
        reason = unhealthy(pod, container) => {
            pod.set_ready(&container.name, false);
            pod.note(&format!("{}: {reason}; starting it again", container.name));
            let grace = Duration::from_secs(pod.grace_seconds());
            return end(&mut running, tokio::time::sleep(grace)).await;
        }
        // The guard that it returns must not live on: it locks the channel.
        () = reached(stop, StopLevel::Terminate) => {}
    }
    end(&mut running, reached(stop, StopLevel::Kill)).await
}

/// Resolves when the order to stop is at least of this level.
async fn reached(stop: &mut watch::Receiver<StopLevel>, level: StopLevel) {
    // A sender that has gone has nothing more to order: as if it had ordered the end.
    let _ = stop.wait_for(|current| *current >= level).await;
}

/// Ends a program in order, and by force when `limit` resolves first.
async fn end(running: &mut Running, limit: impl Future<Output = ()>) -> Exit {
    signal_group(running.pid, Signal::SIGTERM);
    tokio::select! {
        exit = &mut running.exit => known(exit),
        () = limit => {
            signal_group(running.pid, Signal::SIGKILL);
            known((&mut running.exit).await)
        }
    }
}

fn known(exit: Result<Exit, oneshot::error::RecvError>) -> Exit {
    // The reaper lives as long as the supervisor.
    exit.unwrap_or(Exit::Signal(9))
}

/// Asks the probes; resolves when the container has to be started again, with the reason.
async fn unhealthy(pod: &Arc<PodRun>, container: &Container) -> String {
    if let Some(startup) = &container.startup_probe {
        if let Err(reason) = started(pod, container, startup).await {
            return reason;
        }
        pod.passed_startup(&container.name, container.readiness_probe.is_none());
    }
    let readiness = async {
        match &container.readiness_probe {
            Some(readiness) => watch_readiness(pod, container, readiness).await,
            None => std::future::pending().await,
        }
    };
    let liveness = async {
        match &container.liveness_probe {
            Some(liveness) => watch_liveness(pod, container, liveness).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = readiness => String::new(),
        reason = liveness => reason,
    }
}

async fn started(pod: &Arc<PodRun>, container: &Container, startup: &Probe) -> Result<(), String> {
    tokio::time::sleep(probe::initial_delay(startup)).await;
    let mut eager = Eager::default();
    let all = async {
        while !check(pod, container, startup).await {
            tokio::time::sleep(eager.next(probe::period(startup))).await;
        }
    };
    let limit = probe::startup_limit(startup);
    tokio::time::timeout(limit, all).await.map_err(|_| format!("its startup probe did not pass in {} s", limit.as_secs()))
}

async fn watch_readiness(pod: &Arc<PodRun>, container: &Container, readiness: &Probe) {
    tokio::time::sleep(probe::initial_delay(readiness)).await;
    let mut counter = Counter::new(readiness);
    let mut eager = Eager::default();
    let mut passed_once = false;
    loop {
        match counter.count(check(pod, container, readiness).await) {
            Verdict::Passed => {
                passed_once = true;
                pod.set_ready(&container.name, true);
            }
            Verdict::Failed => pod.set_ready(&container.name, false),
            Verdict::Undecided => {}
        }
        let period = probe::period(readiness);
        tokio::time::sleep(if passed_once { period } else { eager.next(period) }).await;
    }
}

async fn watch_liveness(pod: &Arc<PodRun>, container: &Container, liveness: &Probe) -> String {
    tokio::time::sleep(probe::initial_delay(liveness)).await;
    let mut counter = Counter::new(liveness);
    loop {
        // A period first: a program that was started this instant is given time to listen.
        tokio::time::sleep(probe::period(liveness)).await;
        if counter.count(check(pod, container, liveness).await) == Verdict::Failed {
            return "its liveness probe failed".into();
        }
    }
}

/// Asks a probe once.
async fn check(pod: &Arc<PodRun>, container: &Container, asked: &Probe) -> bool {
    let Some(question) = probe::question(asked, container, pod.ip) else { return false };
    let limit = probe::timeout(asked);
    match &question {
        Question::Exec(words) => exec_succeeds(pod, container, words, limit).await,
        _ => matches!(tokio::time::timeout(limit, probe::ask(&question)).await, Ok(Ok(true))),
    }
}

/// Runs a program in the container's place; true when it ends with 0 in time.
pub(crate) async fn exec_succeeds(pod: &Arc<PodRun>, container: &Container, words: &[String], limit: Duration) -> bool {
    let Ok(mut command) = exec_command(pod, container, words) else { return false };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut running) = pod.context.reaper.start(command, Some(Arc::clone(&pod.namespaces)), Privilege::Container) else { return false };
    match tokio::time::timeout(limit, &mut running.exit).await {
        Ok(exit) => exit == Ok(Exit::Code(0)),
        Err(_) => {
            signal_group(running.pid, Signal::SIGKILL);
            false
        }
    }
}
