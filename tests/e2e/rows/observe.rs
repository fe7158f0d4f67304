//! Rows S51, S52, S57 and the page: exact metrics, rates, access log lines, a real browser.

use crate::{Own, Shared};
use anyhow::{Context, Result, ensure};
use lateen_e2e::{Mesh, Person, wait_until, yaml};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;

pub const SHARED: &[(&str, Shared)] = &[("observe::s51_metrics_count_exactly", s51), ("observe::s57_access_log_in_istios_format", s57)];
pub const OWN: &[(&str, Own)] = &[("observe::the_page_in_a_browser", page)];

const CLIENT: &str = "deploy/client-v1";

fn metrics(mesh: &Mesh, ns: &str, pod: &str) -> Result<String> {
    mesh.exec(ns, pod, &["curl", "-s", "http://127.0.0.1:15020/stats/prometheus"])?.ok()
}

/// Sum of the series of `name` whose labels contain all of `labels`.
fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')) && labels.iter().all(|label| l.contains(label)))
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// S51 and S52: counts, latency and error rates as a load generator saw them.
fn s51(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(ns, &yaml::join(&[yaml::namespace(ns), yaml::service_port(ns, "backend", "http", 80, 80), yaml::httpbin(ns, "backend", "v1"), yaml::client(ns, "client")]))?;
    ensure!(mesh.load(ns, CLIENT, &["-c", "3", "-qps", "0", "-n", "90", "http://backend/get"])?.code(200) == 90);
    ensure!(mesh.load(ns, CLIENT, &["-c", "1", "-qps", "0", "-n", "7", "http://backend/status/404"])?.code(404) == 7);
    ensure!(mesh.load(ns, CLIENT, &["-c", "1", "-qps", "0", "-n", "3", "http://backend/status/500"])?.code(500) == 3);
    let to = format!("destination_service_namespace=\"{ns}\"");
    for (pod, reporter) in [("deploy/backend-v1", "reporter=\"destination\""), (CLIENT, "reporter=\"source\"")] {
        let text = metrics(mesh, ns, pod)?;
        let count = |code: &str| sum(&text, "istio_requests_total", &[reporter, "destination_service_name=\"backend\"", &to, code]);
        ensure!(count("response_code=\"") == 100.0, "{reporter}: {}\n{text}", count("response_code=\""));
        ensure!(count("response_code=\"404\"") == 7.0 && count("response_code=\"500\"") == 3.0, "{reporter}: {text}");
        let one = text.lines().find(|l| l.starts_with("istio_requests_total{") && l.contains(reporter) && l.contains("response_code=\"200\"") && l.contains("backend")).context("a series")?;
        for label in [
            "source_workload=\"client-v1\"".to_owned(),
            format!("source_workload_namespace=\"{ns}\""),
            format!("source_principal=\"spiffe://cluster.local/ns/{ns}/sa/client\""),
            "source_app=\"client\"".into(),
            "source_version=\"v1\"".into(),
            "source_canonical_service=\"client\"".into(),
            "destination_workload=\"backend-v1\"".into(),
            format!("destination_principal=\"spiffe://cluster.local/ns/{ns}/sa/backend\""),
            "destination_app=\"backend\"".into(),
            "destination_version=\"v1\"".into(),
            format!("destination_service=\"backend.{ns}.svc.cluster.local\""),
            "request_protocol=\"http\"".into(),
            "response_flags=\"-\"".into(),
            "connection_security_policy=".into(),
        ] {
            ensure!(one.contains(&label), "{reporter}: {label} is missing in {one}");
        }
        ensure!(sum(&text, "istio_request_duration_milliseconds_count", &[reporter, "destination_service_name=\"backend\"", &to]) == 100.0, "{text}");
    }
    Ok(())
}

fn s57(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(ns, &yaml::join(&[yaml::namespace(ns), yaml::service(ns, "backend"), yaml::echo(ns, "backend", "v1", "hello", 1), yaml::client(ns, "client")]))?;
    ensure!(mesh.get(ns, CLIENT, &["-A", "log-test/1.0", "http://backend/a%20path?x=1"])?.status == 200);
    let line = mesh.log_line(ns, CLIENT, "istio-proxy", &["log-test/1.0"])?;
    // [time] "GET path HTTP/1.1" 200 - via_upstream - "-" 0 6 3 2 "-" "log-test/1.0" "id" "backend" "ip:5678" outbound|80||… local remote - name
    ensure!(line.starts_with('[') && line.contains("Z] \"GET /a%20path?x=1 HTTP/1.1\" 200 - via_upstream - \"-\" 0 "), "{line}");
    let quoted: Vec<&str> = line.split('"').collect();
    ensure!(quoted.len() == 15, "seven quoted fields: {line}");
    ensure!(quoted.get(7) == Some(&"log-test/1.0") && quoted.get(11) == Some(&"backend"), "{line}");
    ensure!(quoted.get(9).is_some_and(|id| id.len() == 36), "a request id: {line}");
    ensure!(quoted.get(13).is_some_and(|host| host.ends_with(":5678")), "{line}");
    let tail: Vec<&str> = quoted.get(14).context("the tail")?.split_whitespace().collect();
    ensure!(tail.len() == 6 && tail.first() == Some(&format!("outbound|80||backend.{ns}.svc.cluster.local").as_str()), "{line}");
    let id = quoted.get(9).context("the id")?;
    let inbound = mesh.log_line(ns, "deploy/backend-v1", "istio-proxy", &[id])?;
    ensure!(inbound.contains("inbound|5678||") || inbound.contains("inbound|80||"), "{inbound}");
    ensure!(inbound.contains(&format!("outbound_.80_._.backend.{ns}.svc.cluster.local")), "the server name: {inbound}");
    Ok(())
}

/// A WebDriver session of a real headless browser.
struct Browser {
    driver: std::process::Child,
    port: u16,
    session: String,
}

impl Browser {
    fn start() -> Result<Self> {
        let port = lateen_e2e::mesh::free_port()?;
        let driver = Command::new("chromedriver").arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("chromedriver")?;
        let mut browser = Self { driver, port, session: String::new() };
        wait_until("chromedriver", Duration::from_secs(15), || Ok(browser.call("GET", "/status", None).is_ok_and(|v| v["value"]["ready"] == true)))?;
        let profile = lateen_e2e::mesh::scratch("profile")?;
        let arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--window-size=1280,900", &format!("--user-data-dir={}", profile.display()),
        ]
        .map(str::to_owned);
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let made = browser.call("POST", "/session", Some(&wanted))?;
        made["value"]["sessionId"].as_str().with_context(|| made.to_string())?.clone_into(&mut browser.session);
        Ok(browser)
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let text = body.map(ToString::to_string).unwrap_or_default();
        let mut command = Command::new("curl");
        command.args(["-s", "--max-time", "30", "-X", method, "-H", "content-type: application/json"]);
        if body.is_some() {
            command.args(["--data-binary", &text]);
        }
        let output = command.arg(format!("http://127.0.0.1:{}{path}", self.port)).output()?;
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn open(&self, url: &str) -> Result<()> {
        self.call("POST", &format!("/session/{}/url", self.session), Some(&json!({"url": url}))).map(|_| ())
    }

    fn script(&self, script: &str) -> Result<Value> {
        Ok(self.call("POST", &format!("/session/{}/execute/sync", self.session), Some(&json!({"script": script, "args": []})))?["value"].clone())
    }

    fn errors(&self) -> Result<Vec<String>> {
        let log = self.call("POST", &format!("/session/{}/se/log", self.session), Some(&json!({"type": "browser"})))?;
        Ok(log["value"].as_array().into_iter().flatten().filter(|e| e["level"] == "SEVERE").map(|e| e["message"].to_string()).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.call("DELETE", &format!("/session/{}", self.session), None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn page(person: Person) -> Result<()> {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/mini-mesh");
    let dir = lateen_e2e::mesh::scratch("page")?;
    for entry in std::fs::read_dir(example)? {
        let path = entry?.path();
        std::fs::copy(&path, dir.join(path.file_name().context("a name")?))?;
    }
    let mesh = Mesh::start_in(person, &dir, &[])?;
    let browser = Browser::start()?;
    browser.open(&format!("http://127.0.0.1:{}/", mesh.page))?;
    for _ in 0..40 {
        ensure!(mesh.ingress("any", "/")?.status == 200);
    }
    let text = || -> Result<String> { Ok(browser.script("return document.body.innerText + ' ' + Array.from(document.querySelectorAll('svg text, svg title')).map(e => e.textContent).join(' ')")?.as_str().unwrap_or_default().to_owned()) };
    wait_until("all services on the page", Duration::from_secs(8), || {
        mesh.ingress("any", "/")?;
        let text = text()?;
        Ok(["frontend", "backend", "db"].iter().all(|name| text.contains(name)))
    })
    .with_context(|| text().unwrap_or_default())?;
    wait_until("edges drawn", Duration::from_secs(8), || {
        mesh.ingress("any", "/")?;
        Ok(browser.script("return document.querySelectorAll('svg path, svg line').length")?.as_u64().unwrap_or(0) >= 3)
    })?;
    // It lives: what it shows changes within a second or so of traffic, without a reload.
    let before = text()?;
    wait_until("the page to change by itself", Duration::from_secs(4), || {
        for _ in 0..20 {
            mesh.ingress("any", "/")?;
        }
        Ok(text()? != before)
    })?;
    let errors = browser.errors()?;
    ensure!(errors.is_empty(), "the page's console: {errors:?}");
    drop(browser);
    mesh.stop()?;
    Ok(())
}
