//! One running mesh and what a user does to it.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Who runs the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Person {
    /// Whoever runs the tests; root on CI.
    Caller,
    /// An ordinary user without any privilege; needs the caller to be root.
    Ordinary,
}

impl Person {
    /// `setpriv …` in front of a command, or nothing.
    fn prefix(self) -> &'static [&'static str] {
        match self {
            Person::Caller => &[],
            Person::Ordinary => &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"],
        }
    }
}

/// What a command printed.
#[derive(Debug)]
pub struct Output {
    /// Exit code; 128 + signal where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output, or an error with everything that was printed.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "exit code {}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }

    /// Both streams together.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// Status, 0 where none came.
    pub status: u16,
    /// The head as received, lower-cased names not guaranteed.
    pub head: String,
    /// The body.
    pub body: String,
    /// Exit code of curl: 0, or 56 for a reset and so on.
    pub curl: i32,
    /// Time until the last byte.
    pub seconds: f64,
}

/// What a load run counted.
#[derive(Debug)]
pub struct Load {
    /// Requests by status; -1 counts those without answer.
    pub codes: BTreeMap<i32, u64>,
    /// Answers by body.
    pub bodies: BTreeMap<String, u64>,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
}

impl Load {
    /// Requests answered with `status`.
    #[must_use]
    pub fn code(&self, status: i32) -> u64 {
        self.codes.get(&status).copied().unwrap_or(0)
    }

    /// Answers whose body is `text`.
    #[must_use]
    pub fn body(&self, text: &str) -> u64 {
        self.bodies.get(text).copied().unwrap_or(0)
    }

    /// Requests not answered with 200.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.codes.iter().filter(|(code, _)| **code != 200).map(|(_, n)| n).sum()
    }
}

/// A mesh started for tests; ends when dropped.
pub struct Mesh {
    /// Its name, given to every command.
    pub name: String,
    /// Folder that `up` watches.
    pub dir: PathBuf,
    /// Port of the ingress gateway on 127.0.0.1.
    pub ingress: u16,
    /// Port of its TLS listener.
    pub ingress_tls: u16,
    /// Port of the page.
    pub page: u16,
    /// How long `up` took to be ready.
    pub ready_after: Duration,
    /// Process id of `lateen up`.
    pub pid: u32,
    person: Person,
    binary: PathBuf,
    child: Child,
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The binary under test: `LATEEN`, or the one built beside the tests, copied where every user may run it.
pub fn binary() -> Result<PathBuf> {
    static COPY: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    if let Some(copy) = COPY.get() {
        return Ok(copy.clone());
    }
    let built = match std::env::var_os("LATEEN") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.parent().and_then(Path::parent).context("a target folder")?.join("lateen"),
    };
    ensure!(built.exists(), "{} is not there; run `cargo build --workspace` first", built.display());
    let dir = scratch("bin")?;
    let copy = dir.join("lateen");
    std::fs::copy(&built, &copy)?;
    Ok(COPY.get_or_init(|| copy).clone())
}

/// A fresh folder that every user may read and write.
pub fn scratch(what: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = std::env::temp_dir().join(format!("lateen-e2e-{}-{what}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&dir)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777))?;
    Ok(dir)
}

/// A TCP port on loopback that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Asks `done` every few milliseconds until it says yes; an error names `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    loop {
        if done()? {
            return Ok(());
        }
        if begin.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Mesh {
    /// Starts a mesh over a folder holding `files` (name, text), and waits until it says that it is ready.
    pub fn start(person: Person, files: &[(&str, &str)], options: &[&str]) -> Result<Self> {
        let dir = scratch("mesh")?;
        for (name, text) in files {
            std::fs::write(dir.join(name), text)?;
        }
        Self::start_in(person, &dir, options)
    }

    /// Starts a mesh over `dir`.
    pub fn start_in(person: Person, dir: &Path, options: &[&str]) -> Result<Self> {
        let name = format!("e2e-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let (ingress, ingress_tls, page) = (free_port()?, free_port()?, free_port()?);
        let binary = binary()?;
        let log = dir.with_extension("log");
        let file = std::fs::File::create(&log)?;
        let begin = Instant::now();
        let mut command = command(person, &binary);
        command.arg("up").arg(dir).args(["--name", &name, "--ingress", &ingress.to_string(), "--ingress-tls", &ingress_tls.to_string(), "--dashboard", &page.to_string()]);
        command.args(options).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut child = command.spawn().context("starting lateen up")?;
        let mut ready_after = Duration::ZERO;
        let waited = wait_until("the mesh to be ready", Duration::from_secs(60), || {
            if let Some(status) = child.try_wait()? {
                bail!("lateen up ended with {status}:\n{}", std::fs::read_to_string(&log)?);
            }
            ready_after = begin.elapsed();
            Ok(std::fs::read_to_string(&log)?.contains("ready in"))
        });
        if let Err(error) = waited {
            let _ = child.kill();
            bail!("{error:#}\n{}", std::fs::read_to_string(&log)?);
        }
        let pid = child.id();
        Ok(Self { name, dir: dir.to_owned(), ingress, ingress_tls, page, ready_after, pid, person, binary, child })
    }

    /// What `lateen up` has printed so far.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.with_extension("log"))?)
    }

    /// Runs `lateen ARGUMENTS` against this mesh.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run_with_input(arguments, "")
    }

    /// The same with text on standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let (subcommand, rest) = arguments.split_first().context("a subcommand")?;
        let mut command = command(self.person, &self.binary);
        command.arg(subcommand).args(["--name", &self.name]).args(rest);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("stdin")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        use std::os::unix::process::ExitStatusExt as _;
        let code = output.status.code().or_else(|| output.status.signal().map(|s| 128 + s)).unwrap_or(-1);
        Ok(Output { code, stdout: String::from_utf8_lossy(&output.stdout).into_owned(), stderr: String::from_utf8_lossy(&output.stderr).into_owned() })
    }

    /// `lateen apply -f -`; fails unless everything was accepted.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.run_with_input(&["apply", "-f", "-"], yaml)?.ok()
    }

    /// `lateen delete -f -`.
    pub fn delete(&self, yaml: &str) -> Result<String> {
        self.run_with_input(&["delete", "-f", "-"], yaml)?.ok()
    }

    /// Applies, and waits until every pod of the namespace is ready.
    pub fn deploy(&self, namespace: &str, yaml: &str) -> Result<()> {
        self.apply(yaml)?;
        self.ready(namespace)
    }

    /// Waits until every pod of the namespace is ready.
    pub fn ready(&self, namespace: &str) -> Result<()> {
        let mut last = String::new();
        wait_until(&format!("pods of {namespace} ready"), Duration::from_secs(40), || {
            last = self.run(&["ps", "-n", namespace])?.ok()?;
            let rows: Vec<&str> = last.lines().skip(1).filter(|l| !l.trim().is_empty()).collect();
            Ok(!rows.is_empty() && rows.iter().all(|row| row.split_whitespace().any(|c| c == "1/1" || c == "2/2") && row.contains("Running")))
        })
        .with_context(|| self.why_not_ready(namespace, &last))?;
        self.heard_of(namespace)
    }

    /// The rows, and what the sidecars of pods that are not ready say.
    fn why_not_ready(&self, namespace: &str, rows: &str) -> String {
        let mut text = rows.to_owned();
        for row in rows.lines().filter(|row| row.contains(" 0/")) {
            if let Some(pod) = row.split_whitespace().nth(1) {
                text.push_str(&format!("\n{pod}:\n{}", self.logs(namespace, pod, "istio-proxy").unwrap_or_default()));
            }
        }
        text
    }

    /// Waits until every sidecar of the namespace has heard of every pod behind its Services: a pod is ready a moment before the others
    /// know. Where a rule hides a pod from a sidecar, that never comes; the test then goes on after the time is up.
    fn heard_of(&self, namespace: &str) -> Result<()> {
        let items = |kind: &str| -> Result<Vec<Value>> {
            let list: Value = serde_json::from_str(&self.run(&["get", kind, "-n", namespace, "-o", "json"])?.ok()?)?;
            Ok(list["items"].as_array().cloned().unwrap_or_default())
        };
        let (pods, services) = (items("pods")?, items("services")?);
        let behind = |pod: &Value| {
            services.iter().any(|service| {
                let selector = service["spec"]["selector"].as_object();
                let headless = service["spec"]["clusterIP"] == "None";
                !headless && selector.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value))
            })
        };
        let wanted: Vec<String> = pods.iter().filter(|pod| behind(pod)).filter_map(|pod| Some(format!("{}:", pod["status"]["podIP"].as_str()?))).collect();
        let has_sidecar = |pod: &&Value| pod["spec"]["containers"].as_array().is_some_and(|all| all.iter().any(|container| container["name"] == "istio-proxy"));
        for pod in pods.iter().filter(has_sidecar) {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let ask = ["exec", "-n", namespace, name, "-c", "istio-proxy", "--", "curl", "-s", "http://127.0.0.1:15000/clusters"];
            let _ = wait_until("the sidecar to know the pods", Duration::from_secs(5), || {
                let known = self.run(&ask)?.stdout;
                Ok(wanted.iter().all(|address| known.contains(address)))
            });
        }
        Ok(())
    }

    /// Runs a program in a pod.
    pub fn exec(&self, namespace: &str, pod: &str, program: &[&str]) -> Result<Output> {
        let mut arguments = vec!["exec", "-n", namespace, pod, "--"];
        arguments.extend(program);
        self.run(&arguments)
    }

    /// One request from a pod; `options` are curl's.
    pub fn get(&self, namespace: &str, pod: &str, options: &[&str]) -> Result<Answer> {
        let mut program = vec!["curl", "-s", "-i", "--max-time", "20", "-w", "\n@@%{http_code} %{time_total}"];
        program.extend(options);
        let output = self.exec(namespace, pod, &program)?;
        let (page, trailer) = output.stdout.rsplit_once("\n@@").with_context(|| format!("curl printed {output:?}"))?;
        let (status, seconds) = trailer.split_once(' ').context("status and time")?;
        let (head, body) = page.split_once("\r\n\r\n").unwrap_or((page, ""));
        Ok(Answer { status: status.trim().parse()?, head: head.to_owned(), body: body.to_owned(), curl: output.code, seconds: seconds.trim().parse()? })
    }

    /// The status of one request from a pod.
    pub fn status(&self, namespace: &str, pod: &str, url: &str) -> Result<u16> {
        Ok(self.get(namespace, pod, &[url])?.status)
    }

    /// Many requests from a pod, with fortio's options.
    pub fn load(&self, namespace: &str, pod: &str, options: &[&str]) -> Result<Load> {
        let mut program = vec!["fortio", "load", "-bodies"];
        program.extend(options);
        let output = self.exec(namespace, pod, &program)?;
        let line = output.stdout.lines().rev().find(|l| l.starts_with('{')).with_context(|| format!("fortio printed {output:?}"))?;
        let summary: Value = serde_json::from_str(line)?;
        let counts = |key: &str| -> BTreeMap<String, u64> {
            summary[key].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.as_u64().unwrap_or(0))).collect()
        };
        let codes = counts("codes").into_iter().filter_map(|(k, v)| Some((k.parse().ok()?, v))).collect();
        Ok(Load { codes, bodies: counts("bodies"), p99_ms: summary["percentiles_ms"]["p99"].as_f64().unwrap_or(f64::NAN) })
    }

    /// A container's log.
    pub fn logs(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        self.run(&["logs", "-n", namespace, pod, "-c", container])?.ok()
    }

    /// Waits until a container's log has a line with all of `words`, and returns the newest such line.
    pub fn log_line(&self, namespace: &str, pod: &str, container: &str, words: &[&str]) -> Result<String> {
        let mut found = String::new();
        wait_until(&format!("a log line of {pod} with {words:?}"), Duration::from_secs(5), || {
            let text = self.logs(namespace, pod, container)?;
            if let Some(line) = text.lines().rev().find(|l| words.iter().all(|w| l.contains(w))) {
                line.clone_into(&mut found);
            }
            Ok(!found.is_empty())
        })
        .with_context(|| self.logs(namespace, pod, container).unwrap_or_default())?;
        Ok(found)
    }

    /// One request over loopback to the ingress gateway.
    pub fn ingress(&self, host: &str, path: &str) -> Result<Answer> {
        http_get(self.ingress, host, path)
    }

    /// Sends `signal` to the process running the command whose line contains all of `words`, found below this mesh.
    pub fn signal(&self, signal: &str, words: &[&str]) -> Result<u32> {
        let pid = self.find_process(words)?.with_context(|| format!("no process of the mesh has {words:?}"))?;
        let status = Command::new("kill").args([signal, &pid.to_string()]).status()?;
        ensure!(status.success(), "kill {signal} {pid}");
        Ok(pid)
    }

    /// The process below this mesh whose command line contains all of `words`.
    pub fn find_process(&self, words: &[&str]) -> Result<Option<u32>> {
        for pid in descendants(self.pid) {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
            if words.iter().all(|w| line.contains(w)) {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    }

    /// Ends the mesh as Ctrl-C would and waits.
    pub fn stop(mut self) -> Result<String> {
        self.end()?;
        self.log()
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        Command::new("kill").args(["-INT", &self.child.id().to_string()]).status()?;
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > Duration::from_secs(40) {
                self.child.kill()?;
                self.child.wait()?;
                bail!("lateen up did not end within 40 s of SIGINT");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

fn command(person: Person, binary: &Path) -> Command {
    let mut words = person.prefix().iter();
    match words.next() {
        Some(program) => {
            let mut command = Command::new(program);
            command.args(words).arg(binary).env("HOME", home()).env_remove("XDG_RUNTIME_DIR").env_remove("XDG_STATE_HOME");
            command
        }
        None => Command::new(binary),
    }
}

/// A home folder for the ordinary user.
fn home() -> &'static Path {
    static HOME: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    HOME.get_or_init(|| scratch("home").unwrap_or_else(|_| std::env::temp_dir()))
}

/// Runs `lateen` with no mesh in mind, as `person`.
pub fn lateen(person: Person, arguments: &[&str]) -> Result<Output> {
    let output = command(person, &binary()?).args(arguments).stdin(Stdio::null()).output()?;
    Ok(Output { code: output.status.code().unwrap_or(-1), stdout: String::from_utf8_lossy(&output.stdout).into_owned(), stderr: String::from_utf8_lossy(&output.stderr).into_owned() })
}

/// `pid` and everything below it.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
        }
    }
    all
}

/// One HTTP/1.1 request over loopback by the machine's curl.
pub fn http_get(port: u16, host: &str, path: &str) -> Result<Answer> {
    curl(&["-H", &format!("Host: {host}"), &format!("http://127.0.0.1:{port}{path}")])
}

/// The machine's curl with these options.
pub fn curl(options: &[&str]) -> Result<Answer> {
    let output = Command::new("curl").args(["-s", "-i", "--max-time", "20", "-w", "\n@@%{http_code} %{time_total}"]).args(options).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (page, trailer) = text.rsplit_once("\n@@").with_context(|| format!("curl printed {output:?}"))?;
    let (status, seconds) = trailer.split_once(' ').context("status and time")?;
    let (head, body) = page.split_once("\r\n\r\n").unwrap_or((page, ""));
    Ok(Answer { status: status.trim().parse()?, head: head.to_owned(), body: body.to_owned(), curl: output.status.code().unwrap_or(-1), seconds: seconds.trim().parse()? })
}

/// Raw bytes over loopback; returns what came until the peer closed, was silent for a second, or the limit was reached.
pub fn raw(port: u16, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(bytes)?;
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while all.len() < 1 << 20 {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => all.extend_from_slice(buffer.get(..n).unwrap_or_default()),
        }
    }
    Ok(all)
}
