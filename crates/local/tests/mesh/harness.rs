//! Starting meshes, asking them, waiting for what they say, and comparing the machine before and after.

use lateen_local::{UpOptions, api_socket, exec_socket};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// One fact: its name and its test.
pub(crate) type Fact = (&'static str, fn());

/// Runs every fact whose name contains `filter`, one after another: they compare the machine before and after.
pub(crate) fn run_all(filter: Option<&str>, facts: &[Fact]) -> ExitCode {
    if !sandbox_allowed() {
        println!("skipped: this machine or user may not make user namespaces (see `lateen up` for the setting)");
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    let chosen = facts.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter)));
    for (name, test) in chosen {
        let outcome = std::panic::catch_unwind(test);
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        if outcome.is_err() {
            failed.push(*name);
        }
    }
    println!("\nmesh: {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sandbox_allowed() -> bool {
    Command::new("unshare").args(["--user", "--map-root-user", "--net", "--mount", "true"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The child that holds a mesh: `up OPTIONS-AS-JSON`.
pub(crate) fn up_here(args: &[String]) -> ExitCode {
    let options: UpOptions = serde_json::from_str(args.get(2).expect("options")).expect("options");
    lateen_local::up(&options).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// A mesh of one test. Stopped when dropped.
pub(crate) struct Mesh {
    pub(crate) folder: PathBuf,
    pub(crate) output: String,
    pub(crate) success: bool,
}

impl Mesh {
    /// Starts a mesh with this YAML and returns when it is up or has failed.
    pub(crate) fn start(name: &str, yaml: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("lateen-mesh-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("yaml")).expect("a folder");
        fs::write(folder.join("yaml/all.yaml"), yaml).expect("a file");
        Self::start_in(&folder, 0)
    }

    /// Starts the mesh of a folder that has its YAML.
    pub(crate) fn start_in(folder: &Path, ingress: u16) -> Self {
        let options = UpOptions {
            mesh: "test".into(),
            state_dir: folder.join("state"),
            paths: vec![folder.join("yaml")],
            namespace: "default".into(),
            ingress,
            ingress_tls: Some(0),
            dashboard: 0,
            detach: true,
            watch: true,
            concurrency: 1,
            envoy: None,
            cert_ttl: String::new(),
            environment: BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]),
        };
        let text = serde_json::to_string(&options).expect("options");
        let child = Command::new(std::env::current_exe().expect("a path")).args(["up", &text]).output().expect("a child");
        let output = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
        Self { folder: folder.to_owned(), output, success: child.status.success() }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    pub(crate) fn yaml(&self) -> PathBuf {
        self.folder.join("yaml/all.yaml")
    }

    /// Process id of the host stage.
    pub(crate) fn host(&self) -> i32 {
        lateen_local::running(&self.state()).expect("a state folder").expect("a running mesh")
    }

    /// An answer of the API.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = UnixStream::connect(api_socket(&self.state())).expect("the API's socket");
        let body = body.to_string();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        // In one piece: the server may answer and close before it has seen a body that it does not need.
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (_, body) = text.split_once("\r\n\r\n").expect("a head");
        serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()))
    }

    /// Objects of a kind, all namespaces.
    pub(crate) fn objects(&self, kind: &str) -> Vec<Value> {
        self.ask("GET", &format!("/objects?kind={kind}"), &Value::Null)["items"].as_array().cloned().unwrap_or_default()
    }

    /// Pods of an application that are not being deleted.
    pub(crate) fn pods(&self, app: &str) -> Vec<Value> {
        let living = |pod: &Value| pod["metadata"]["labels"]["app"] == app && pod["metadata"]["deletionTimestamp"].is_null();
        self.objects("Pod").into_iter().filter(living).collect()
    }

    /// The one pod of an application.
    pub(crate) fn pod(&self, app: &str) -> Value {
        self.pods(app).into_iter().next().unwrap_or_else(|| panic!("no pod of {app}: {}", self.output))
    }

    pub(crate) fn address(&self, app: &str) -> String {
        self.pod(app)["status"]["podIP"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until `check` says yes; looks again whenever an object changes.
    pub(crate) fn until(&self, what: &str, mut check: impl FnMut(&Self) -> bool) {
        let mut watch = UnixStream::connect(api_socket(&self.state())).expect("the API's socket");
        watch.write_all(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
        let mut lines = BufReader::new(watch).lines();
        loop {
            if check(self) {
                return;
            }
            assert!(matches!(lines.next(), Some(Ok(_))), "the mesh ended while waiting for: {what}");
        }
    }

    /// Blocks until the supervisor has gone.
    pub(crate) fn watch_until_gone(&self) -> impl FnOnce() {
        let mut watch = UnixStream::connect(api_socket(&self.state())).expect("the API's socket");
        watch.write_all(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
        move || drop(watch.read_to_end(&mut Vec::new()))
    }

    /// Runs one of this binary's programs in a pod; its output.
    pub(crate) fn exec(&self, app: &str, words: &[&str]) -> String {
        self.exec_in(&self.pod(app), words).1
    }

    /// Exit code and output of a program in a pod.
    pub(crate) fn exec_in(&self, pod: &Value, words: &[&str]) -> (i64, String) {
        self.exec_with(pod, None, words)
    }

    /// Likewise, with what a container of the pod may do.
    pub(crate) fn exec_with(&self, pod: &Value, container: Option<&str>, words: &[&str]) -> (i64, String) {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let null = fs::File::open("/dev/null").expect("/dev/null");
        let mut stream = UnixStream::connect(exec_socket(&self.state())).expect("the socket of exec");
        let request = json!({"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"], "container": container, "command": words});
        let line = format!("{request}\n");
        lateen_sys::fds::send(stream.as_fd(), line.as_bytes(), &[null.as_fd(), writer.as_fd(), writer.as_fd()]).expect("a request");
        drop(writer);
        let mut output = String::new();
        reader.read_to_string(&mut output).expect("output");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("answer `{answer}`"));
        assert!(answer["error"].is_null(), "{words:?}: {answer}");
        (answer["code"].as_i64().unwrap_or(-1), output)
    }

    /// Calls an address from a pod.
    pub(crate) fn call(&self, app: &str, address: &str) -> String {
        self.exec(app, &["lateen-test", "app", "call", address])
    }

    pub(crate) fn stop(&self) {
        lateen_local::down(&self.state()).expect("down works");
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("output of up:\n{}", self.output);
            eprintln!("supervisor:\n{}", fs::read_to_string(self.state().join("supervisor.log")).unwrap_or_default());
        }
        let _ = lateen_local::down(&self.state());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What a mesh might leave on the machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
    processes: BTreeSet<String>,
    tables: Vec<String>,
}

impl Traces {
    pub(crate) fn now() -> Self {
        let own = std::env::current_exe().expect("a path");
        let runs_this = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == own);
        let entries = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let pids = entries.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != std::process::id().to_string());
        Self {
            links: lateen_sys::link::names().expect("links").into_iter().collect(),
            mounts: fs::read_to_string("/proc/self/mounts").expect("mounts").lines().map(str::to_owned).collect(),
            processes: pids.filter(|pid| runs_this(pid)).collect(),
            // Only root may ask; for others the sandbox's tables are out of reach anyway.
            tables: lateen_sys::nft::tables().unwrap_or_default(),
        }
    }
}

/// Waits until no process of this binary but this one is left: the kernel takes a moment to take a namespace's processes away.
pub(crate) fn until_alone(before: &Traces) {
    while Traces::now() != *before {
        std::thread::yield_now();
    }
}
