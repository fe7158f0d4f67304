//! Pods: one task each, from its namespaces to its removal.
//!
//! ```text
//! prepare (address, namespaces, files, rules) → sidecar → ready? → init containers → applications
//! stop: not ready any more → peers hear of it → preStop → SIGTERM … SIGKILL → the sidecar likewise → namespaces closed
//! ```
//!
//! - Twin: `kube-api/src/pod.rs`.
//! - Rule: applications start when the sidecar is ready, and the sidecar ends after them, so that a program always has its network.
//! - Rule: `istio-init` is not run: the rules it stands for are set while the pod is prepared.

pub(crate) mod backoff;
pub(crate) mod container;
pub(crate) mod environment;
pub(crate) mod filesystem;
pub(crate) mod probe;
pub(crate) mod status;
pub(crate) mod volumes;

use super::network::BRIDGE;
use super::{Context, interception};
use container::Restart;
use environment::Sources;
use filesystem::View;
use lateen_base::ports::BRIDGE_ADDRESS;
use lateen_base::{Code, Finding, annotations, names};
use lateen_kube_api::{Container, LifecycleHandler, Pod};
use lateen_store::Key;
use lateen_sys::namespace::Namespaces;
use lateen_sys::process::{Exit, kill_all_in};
use lateen_sys::{link, nft};
use serde_json::Value;
use status::{Phase, PodState};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use volumes::Content;

/// What a pod's containers are told. Only ever rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StopLevel {
    /// Run.
    Run,
    /// End in order.
    Terminate,
    /// End now.
    Kill,
}

/// The order to stop a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Keep running.
    No,
    /// Stop within this many seconds; 0 is at once.
    Within(u64),
}

/// Time for every proxy to hear that a pod takes no new traffic before its application hears of its end: store → control plane → proxies takes
/// some tens of milliseconds, several times that on a busy machine.
const PROPAGATION: Duration = Duration::from_millis(600);
/// A sidecar drains this long at most after its application has ended, whatever grace is left.
const SIDECAR_GRACE: Duration = Duration::from_secs(6);
/// How long to wait before preparing a pod again that could not be.
const PREPARE_RETRY: Duration = Duration::from_secs(1);
/// How often files of volumes are compared with their objects.
const REFRESH: Duration = Duration::from_secs(10);
/// How long to wait for a pod's link. The programs start in any case then; their first packets may be lost.
const LINK_MAX: Duration = Duration::from_secs(2);
/// Kubernetes' default.
const GRACE_DEFAULT: u64 = 30;

/// A prepared pod.
pub(crate) struct PodRun {
    pub(crate) context: Arc<Context>,
    pub(crate) key: Key,
    pub(crate) pod: Pod,
    pub(crate) ip: Ipv4Addr,
    pub(crate) namespaces: Arc<Namespaces>,
    state: Mutex<PodState>,
    changed: Notify,
}

/// Runs a pod from its object until it is stopped.
pub(crate) async fn run(context: Arc<Context>, key: Key, pod: Pod, mut stop: watch::Receiver<Stop>) {
    let Some(prepared) = prepare_until_it_works(&context, &key, &pod, &mut stop).await else {
        return;
    };
    let run = Arc::new(prepared);
    context.register(&run);
    let writer = AbortOnDrop(tokio::spawn(Arc::clone(&run).write_status()));
    let refresher = AbortOnDrop(tokio::spawn(Arc::clone(&run).refresh_volumes()));
    let (apps, app_level) = Group::new();
    let (sidecars, sidecar_level) = Group::new();
    let mut groups = Groups { run: Arc::clone(&run), apps, sidecars };
    let grace = tokio::select! {
        () = groups.start(app_level, sidecar_level) => wait_for_stop(&mut stop).await,
        grace = wait_for_stop(&mut stop) => grace,
    };
    groups.stop(grace).await;
    drop((writer, refresher));
    run.store_status();
    context.unregister(&run);
    let ended = Arc::clone(&run);
    let cleaned = tokio::task::spawn_blocking(move || {
        // Programs that left their session.
        kill_all_in(&ended.namespaces);
        ended.context.network.release_pod_address(ended.ip);
    });
    // It ends; a panic in it is in the log.
    let _ = cleaned.await;
    context.findings.clear(&run.topic());
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn wait_for_stop(stop: &mut watch::Receiver<Stop>) -> u64 {
    match stop.wait_for(|stop| *stop != Stop::No).await.map(|stop| *stop) {
        Ok(Stop::Within(seconds)) => seconds,
        // The supervisor has forgotten the pod: end it.
        Ok(Stop::No) | Err(_) => 0,
    }
}

async fn prepare_until_it_works(context: &Arc<Context>, key: &Key, pod: &Pod, stop: &mut watch::Receiver<Stop>) -> Option<PodRun> {
    let topic = format!("pod {key}");
    loop {
        let (owned, own_key, own_pod) = (Arc::clone(context), key.clone(), pod.clone());
        let prepared = tokio::task::spawn_blocking(move || prepare(&owned, &own_key, &own_pod)).await;
        let message = match prepared {
            Ok(Ok(run)) => return Some(run),
            Ok(Err(message)) => message,
            Err(error) => error.to_string(),
        };
        let mut state = PodState::new(pod, context.now());
        state.blocked = Some(("CreatePodError", message.clone()));
        write_state(context, key, &state);
        let finding = Finding::new(Code::PodFailed, format!("the pod cannot be started: {message}")).with_object(key.to_string());
        context.findings.set(&topic, vec![finding.with_remedy("correct what the message names; it is tried again every second")]);
        tokio::select! {
            () = tokio::time::sleep(PREPARE_RETRY) => {}
            _ = wait_for_stop(stop) => {
                context.findings.clear(&topic);
                return None;
            }
        }
    }
}

/// Makes a pod's address, namespaces, files and rules. Blocks for some milliseconds.
fn prepare(context: &Arc<Context>, key: &Key, pod: &Pod) -> Result<PodRun, String> {
    let ip = context.network.take_pod_address().ok_or("all pod addresses are in use")?;
    let made = make_namespaces(context, key, pod, ip);
    if made.is_err() {
        context.network.release_pod_address(ip);
    }
    let namespaces = Arc::new(made?);
    let mut state = PodState::new(pod, context.now());
    state.ip = Some(ip);
    Ok(PodRun { context: Arc::clone(context), key: key.clone(), pod: pod.clone(), ip, namespaces, state: Mutex::new(state), changed: Notify::new() })
}

fn make_namespaces(context: &Arc<Context>, key: &Key, pod: &Pod, ip: Ipv4Addr) -> Result<Namespaces, String> {
    let volumes = volumes_of(context, key, pod, ip)?;
    let is_intercepted = pod.metadata.annotations.contains_key(annotations::STATUS);
    let rules = if is_intercepted { Some(interception::rules(&pod.metadata.annotations).map_err(|finding| finding.to_string())?) } else { None };
    let outer = outer_link(ip);
    let shown = context.shown_in(pod);
    let view = View { pod, ip, volumes: &volumes, executable: &context.start.executable, programs: context.hooks.programs, shown: &shown };
    let outside = context.network.root.net.as_fd();
    let made = Namespaces::create(|| {
        link::loopback_up()?;
        filesystem::build(&view)?;
        // Rules before the link: no packet passes without them.
        if let Some(table) = &rules {
            nft::replace(table)?;
        }
        link::pod_link(outside, &outer, ip, BRIDGE_ADDRESS)
    });
    let (namespaces, ()) = made.map_err(|error| error.to_string())?;
    let attached = context.network.root.run_in_network(|| {
        link::attach(&outer, BRIDGE)?;
        link::until_up(&outer, LINK_MAX)
    });
    attached.map_err(|error| format!("{outer}: {error}"))?;
    namespaces.run_in_network(|| link::until_up(link::POD_LINK, LINK_MAX)).map_err(|error| format!("{}: {error}", link::POD_LINK))?;
    Ok(namespaces)
}

/// Name of the outer end of a pod's link: unique as long as the address is.
fn outer_link(ip: Ipv4Addr) -> String {
    let [_, _, high, low] = ip.octets();
    format!("pod{high}-{low}")
}

fn volumes_of(context: &Arc<Context>, key: &Key, pod: &Pod, ip: Ipv4Addr) -> Result<BTreeMap<String, Content>, String> {
    let (config_map, secret) = (context.find("ConfigMap", &key.namespace), context.find("Secret", &key.namespace));
    let sources = Sources { pod, ip, config_map: &config_map, secret: &secret };
    let issue = |metadata: &lateen_kube_api::ObjectMeta, account: &str, audience: &str| {
        context.tokens.issue(metadata, account, audience, SystemTime::now()).map_err(|error| error.to_string())
    };
    pod.spec.volumes.iter().map(|volume| Ok((volume.name.clone(), volumes::content(volume, &sources, &issue)?))).collect()
}

/// Containers that start and stop together.
struct Group {
    level: watch::Sender<StopLevel>,
    tasks: Vec<JoinHandle<Option<Exit>>>,
}

impl Group {
    fn new() -> (Self, watch::Receiver<StopLevel>) {
        let (level, receiver) = watch::channel(StopLevel::Run);
        (Self { level, tasks: Vec::new() }, receiver)
    }

    fn add(&mut self, run: &Arc<PodRun>, container: &Container, restart: Restart, level: &watch::Receiver<StopLevel>) {
        self.tasks.push(tokio::spawn(container::run(Arc::clone(run), container.clone(), restart, level.clone())));
    }

    async fn finished(&mut self) {
        for task in &mut self.tasks {
            // A task that panicked has ended too.
            let _ = task.await;
        }
        self.tasks.clear();
    }

    /// Ends everything, in order for `grace` and then by force.
    async fn stop(&mut self, grace: Duration) {
        self.level.send_replace(if grace.is_zero() { StopLevel::Kill } else { StopLevel::Terminate });
        if tokio::time::timeout(grace, self.finished()).await.is_err() {
            self.level.send_replace(StopLevel::Kill);
            self.finished().await;
        }
    }
}

struct Groups {
    run: Arc<PodRun>,
    apps: Group,
    sidecars: Group,
}

impl Groups {
    /// Starts everything in order, and returns when all applications are done (which most never are).
    async fn start(&mut self, app_level: watch::Receiver<StopLevel>, sidecar_level: watch::Receiver<StopLevel>) {
        let run = Arc::clone(&self.run);
        let spec = &run.pod.spec;
        let restart = Restart::of(&spec.restart_policy);
        let native = |c: &&Container| c.restart_policy == "Always";
        let is_sidecar = |c: &&Container| c.name == names::PROXY_CONTAINER && spec.containers.len() > 1;
        let sidecars: Vec<&Container> = spec.containers.iter().filter(is_sidecar).chain(spec.init_containers.iter().filter(native)).collect();
        for sidecar in &sidecars {
            self.sidecars.add(&run, sidecar, Restart::Always, &sidecar_level);
        }
        for sidecar in &sidecars {
            run.until_ready(&sidecar.name).await;
        }
        if !self.initialize(spec.init_containers.iter().filter(|c| !native(c)), restart, &app_level).await {
            return;
        }
        for container in spec.containers.iter().filter(|c| !is_sidecar(c)) {
            self.apps.add(&run, container, restart, &app_level);
        }
        self.apps.finished().await;
    }

    /// Runs the init containers one after another; false when one failed for good.
    async fn initialize(&mut self, init: impl Iterator<Item = &Container>, restart: Restart, level: &watch::Receiver<StopLevel>) -> bool {
        let run = Arc::clone(&self.run);
        let again = if restart == Restart::Never { Restart::Never } else { Restart::OnFailure };
        for container in init {
            if container.name == names::INIT_CONTAINER {
                run.ended(&container.name, Exit::Code(0));
                continue;
            }
            let exit = container::run(Arc::clone(&run), container.clone(), again, level.clone()).await;
            if exit != Some(Exit::Code(0)) {
                return false;
            }
        }
        true
    }

    /// Stops the pod within `grace` seconds.
    async fn stop(&mut self, grace: u64) {
        self.run.lock().stopping = true;
        self.run.store_status();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(grace);
        if grace > 0 {
            // When everything stops nobody is left to be spared.
            let gone = if *self.run.context.stop.borrow() { Duration::ZERO } else { PROPAGATION.min(Duration::from_secs(grace)) };
            let hooks = self.run.pre_stop();
            let limit = tokio::time::timeout_at(deadline, async { tokio::join!(tokio::time::sleep(gone), hooks) });
            // A hook that takes too long is cut off by the grace, as in Kubernetes.
            let _ = limit.await;
        }
        let left = || deadline.saturating_duration_since(tokio::time::Instant::now());
        self.apps.stop(left()).await;
        self.sidecars.stop(left().min(SIDECAR_GRACE)).await;
    }
}

impl PodRun {
    fn lock(&self) -> MutexGuard<'_, PodState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, container: &str, change: impl FnOnce(&mut status::ContainerState)) {
        {
            let mut state = self.lock();
            let state = &mut *state;
            if let Some(found) = state.containers.iter_mut().chain(&mut state.init).find(|state| state.name == container) {
                change(found);
            }
        }
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    fn wait(&self, container: &str, reason: &'static str, message: String) {
        self.report(container, Finding::new(Code::PodFailed, message.clone()).with_remedy(format!("`lateen logs {} -c {container}` may say more", self.key.name)));
        self.change(container, |state| {
            state.phase = Phase::Waiting(reason, message);
            state.ready = false;
        });
    }

    fn started(&self, container: &str, _pid: i32, ready: bool) {
        let now = self.context.now();
        self.context.findings.clear(&self.topic_of(container));
        self.change(container, |state| {
            if state.last.is_some() {
                state.restarts += 1;
            }
            state.phase = Phase::Running(now);
            state.started = ready;
            state.ready = ready;
        });
    }

    fn restarting(&self, container: &str, exit: Exit, wait: Duration) {
        let now = self.context.now();
        let message = format!("back-off {} s after exit code {}", wait.as_secs(), exit.code());
        if wait >= Duration::from_secs(1) {
            let finding = Finding::new(Code::PodFailed, format!("container {container} keeps ending (exit code {}); started again in {} s", exit.code(), wait.as_secs()));
            self.report(container, finding.with_remedy(format!("see why: lateen logs {} -c {container} --previous", self.key.name)));
        }
        self.change(container, |state| {
            state.phase = Phase::Waiting("CrashLoopBackOff", message);
            state.ready = false;
            state.last = Some((exit, now));
        });
    }

    fn ended(&self, container: &str, exit: Exit) {
        let now = self.context.now();
        self.change(container, |state| {
            state.phase = Phase::Terminated(exit, now);
            state.ready = false;
        });
    }

    fn passed_startup(&self, container: &str, ready: bool) {
        self.change(container, |state| {
            state.started = true;
            state.ready = ready;
        });
    }

    fn set_ready(&self, container: &str, ready: bool) {
        let changes = self.lock().containers.iter().any(|state| state.name == container && state.ready != ready);
        if changes {
            self.change(container, |state| state.ready = ready);
        }
    }

    /// A line in the supervisor's log.
    fn note(&self, text: &str) {
        eprintln!("{}: {text}", self.key);
    }

    fn topic(&self) -> String {
        format!("pod {}", self.key)
    }

    fn topic_of(&self, container: &str) -> String {
        format!("pod {}/{container}", self.key)
    }

    /// Keeps a finding about a container until it runs.
    fn report(&self, container: &str, finding: Finding) {
        self.context.findings.set(&self.topic_of(container), vec![finding.with_object(self.key.to_string())]);
    }

    async fn until_ready(&self, container: &str) {
        loop {
            let changed = self.changed.notified();
            let ready = {
                let state = self.lock();
                state.containers.iter().chain(&state.init).any(|state| state.name == container && state.ready)
            };
            if ready {
                return;
            }
            changed.await;
        }
    }

    /// Keeps the object's status in step.
    async fn write_status(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            self.store_status();
            changed.await;
        }
    }

    fn store_status(&self) {
        let state = self.lock().clone();
        write_state(&self.context, &self.key, &state);
    }

    /// Writes changed ConfigMaps and Secrets, and tokens before they expire.
    async fn refresh_volumes(self: Arc<Self>) {
        if self.pod.spec.volumes.is_empty() {
            return;
        }
        let mut elapsed = Duration::ZERO;
        loop {
            tokio::time::sleep(REFRESH).await;
            elapsed += REFRESH;
            let with_tokens = elapsed >= super::tokens::TOKEN_TTL / 2;
            if with_tokens {
                elapsed = Duration::ZERO;
            }
            let run = Arc::clone(&self);
            let done = tokio::task::spawn_blocking(move || run.rewrite_volumes(with_tokens)).await;
            if let Ok(Err(message)) = done {
                self.note(&format!("volumes: {message}"));
            }
        }
    }

    fn rewrite_volumes(&self, with_tokens: bool) -> Result<(), String> {
        let mut all = volumes_of(&self.context, &self.key, &self.pod, self.ip)?;
        let with_token = |name: &str| self.pod.spec.volumes.iter().any(|volume| volume.name == name && volume.projected.is_some());
        all.retain(|name, _| with_tokens || !with_token(name));
        self.namespaces.run(|| filesystem::write_volumes(&all)).map_err(|error| error.to_string())
    }

    /// Finds the keys and values of a ConfigMap or Secret in the pod's namespace.
    fn find(&self, kind: &'static str) -> impl Fn(&str) -> Option<BTreeMap<String, Vec<u8>>> {
        self.context.find(kind, &self.key.namespace)
    }

    /// What every container of the pod inherits.
    fn base_environment(&self) -> Vec<(String, String)> {
        let given = &self.context.start.options.environment;
        let mut variables: Vec<(String, String)> =
            INHERITED.iter().filter_map(|name| given.get(*name).map(|value| ((*name).to_owned(), value.clone()))).collect();
        let path = given.get("PATH").map_or(PATH_DEFAULT, String::as_str);
        variables.push(("PATH".into(), format!("{path}:{}", filesystem::PROGRAMS_DIR)));
        variables.push(("HOSTNAME".into(), filesystem::host_name(&self.pod)));
        variables
    }

    fn grace_seconds(&self) -> u64 {
        grace_of(&self.pod)
    }

    /// Runs the `preStop` hooks of all containers at once.
    async fn pre_stop(self: &Arc<Self>) {
        let hooks = self.pod.spec.containers.iter().filter_map(|container| {
            let hook = container.lifecycle.as_ref()?.pre_stop.as_ref()?;
            Some(self.run_hook(container, hook))
        });
        futures::future::join_all(hooks).await;
    }

    async fn run_hook(self: &Arc<Self>, container: &Container, hook: &LifecycleHandler) {
        if let Some(exec) = &hook.exec {
            container::exec_succeeds(self, container, &exec.command, Duration::from_secs(self.grace_seconds())).await;
        }
        if let Some(get) = &hook.http_get
            && let Some(question) = get.port.port().and_then(|port| probe::http_question(get, port, self.ip))
        {
            // Kubernetes ignores the answer of a hook too.
            let _ = probe::ask(&question).await;
        }
        if let Some(seconds) = hook.sleep.as_ref().and_then(|sleep| sleep.get("seconds")).and_then(Value::as_u64) {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }
}

fn write_state(context: &Context, key: &Key, state: &PodState) {
    let now = context.now();
    // The object may be gone already; then nobody asks for its status.
    let _ = context.store.update(key, |object| {
        let previous = object.get("status").and_then(|status| serde_json::from_value(status.clone()).ok());
        if let Ok(status) = serde_json::to_value(state.to_status(previous.as_ref(), &now)) {
            object["status"] = status;
        }
    });
}

/// The pod's `terminationGracePeriodSeconds`.
pub(crate) fn grace_of(pod: &Pod) -> u64 {
    pod.spec.termination_grace_period_seconds.map_or(GRACE_DEFAULT, |seconds| u64::try_from(seconds).unwrap_or(0))
}

/// What containers inherit from whoever called `lateen up`.
const INHERITED: [&str; 6] = ["HOME", "LANG", "TERM", "TMPDIR", "LATEEN_LOG", "RUST_BACKTRACE"];
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The namespaces' folder for the control plane: where the mesh's folder is shown in its pod.
pub(crate) fn state_in_pod() -> PathBuf {
    PathBuf::from("/run/lateen-state")
}

impl Context {
    /// Folders of the machine that a pod sees under `/run`: the mesh's folder, for the control plane alone.
    fn shown_in(&self, pod: &Pod) -> Vec<(PathBuf, PathBuf)> {
        let is_control = pod.metadata.namespace == names::ROOT_NAMESPACE && pod.metadata.labels.get(lateen_base::labels::APP).is_some_and(|app| app == names::ISTIOD);
        if is_control { vec![(self.start.options.state_dir.clone(), state_in_pod())] } else { Vec::new() }
    }
}
