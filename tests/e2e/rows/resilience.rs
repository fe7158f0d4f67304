//! Rows S33–S38: retries, timeouts, circuit breaking, ejection, faults: status, body, flags and number of attempts.

use crate::Shared;
use anyhow::{Result, ensure};
use lateen_e2e::{Mesh, wait_until, yaml};
use std::time::{Duration, Instant};

pub const SHARED: &[(&str, Shared)] = &[
    ("resilience::s33_retries_as_istio_reads_them", s33),
    ("resilience::s34_timeout", s34),
    ("resilience::s35_circuit_breaker", s35),
    ("resilience::s36_outlier_ejection", s36),
    ("resilience::s37_delay_outside_the_timeout", s37),
    ("resilience::s38_abort", s38),
];

const CLIENT: &str = "deploy/client-v1";

/// httpbin as `backend` on port 80, and a client.
fn backend(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(ns, &yaml::join(&[yaml::namespace(ns), yaml::service_port(ns, "backend", "http", 80, 80), yaml::httpbin(ns, "backend", "v1"), yaml::client(ns, "client")]))
}

/// A VirtualService whose only route has `settings` (indented by four), marked so that its being in force can be seen.
fn rule(mesh: &Mesh, ns: &str, mark: &str, settings: &str) -> Result<()> {
    mesh.apply(&yaml::virtual_service(
        ns,
        "backend",
        &format!("  - match:\n    - uri: {{exact: /mark}}\n    directResponse: {{status: 200, body: {{string: {mark}}}}}\n  - route:\n    - destination: {{host: backend}}\n{settings}"),
    ))?;
    wait_until("the rule in force", Duration::from_secs(5), || Ok(mesh.get(ns, CLIENT, &["http://backend/mark"])?.body == mark))
}

/// Requests that reached the backend's sidecar for `path`.
fn attempts(mesh: &Mesh, ns: &str, path: &str) -> Result<usize> {
    Ok(mesh.logs(ns, "deploy/backend-v1", "istio-proxy")?.lines().filter(|l| l.contains(path) && l.contains("inbound|")).count())
}

fn s33(mesh: &Mesh, ns: &str) -> Result<()> {
    backend(mesh, ns)?;
    let get = |path: &str| mesh.get(ns, CLIENT, &[&format!("http://backend{path}")]);
    rule(mesh, ns, "literal", "    retries: {attempts: 3, perTryTimeout: 2s}\n    timeout: 5s\n")?;
    for status in [503, 500, 504] {
        let path = format!("/status/{status}?literal");
        let answer = get(&path)?;
        ensure!(answer.status == status, "{answer:?}");
        mesh.log_line(ns, "deploy/backend-v1", "istio-proxy", &[&path])?;
        ensure!(attempts(mesh, ns, &path)? == 1, "a {status} from the application is passed on after one attempt");
    }
    let answer = get("/delay/3?literal")?;
    ensure!(answer.status == 504 && (1.9..2.4).contains(&answer.seconds), "{answer:?}");
    mesh.log_line(ns, CLIENT, "istio-proxy", &["/delay/3?literal", " 504 ", "UT", "upstream_per_try_timeout"])?;
    rule(mesh, ns, "with-retry-on", "    retries: {attempts: 3, perTryTimeout: 2s, retryOn: 5xx}\n    timeout: 5s\n")?;
    let answer = get("/status/503?retried")?;
    ensure!(answer.status == 503, "{answer:?}");
    mesh.log_line(ns, CLIENT, "istio-proxy", &["/status/503?retried", " 503 URX via_upstream"])?;
    wait_until("four attempts in the log", Duration::from_secs(5), || Ok(attempts(mesh, ns, "/status/503?retried")? == 4))?;
    let answer = get("/delay/3?retried")?;
    ensure!(answer.status == 504 && (4.9..5.5).contains(&answer.seconds), "{answer:?}");
    mesh.log_line(ns, CLIENT, "istio-proxy", &["/delay/3?retried", " 504 UT response_timeout"])?;
    wait_until("three attempts in the log", Duration::from_secs(5), || Ok(attempts(mesh, ns, "/delay/3?retried")? == 3))?;
    // A port nobody listens on, reached without a sidecar at the other end.
    mesh.apply(&format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: closed, namespace: {ns}}}\nspec:\n  hosts: [closed.example]\n  addresses: [240.1.1.1]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  endpoints: [{{address: 127.0.0.1, ports: {{http: 9}}}}]\n---\n\
apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: closed, namespace: {ns}}}\nspec:\n  hosts: [closed.example]\n  http:\n  - retries: {{attempts: 3, perTryTimeout: 2s}}\n    route:\n    - destination: {{host: closed.example}}\n"
    ))?;
    wait_until("the refused port", Duration::from_secs(5), || {
        let answer = mesh.get(ns, CLIENT, &["-H", "Host: closed.example", "http://240.1.1.1/refused"])?;
        Ok(answer.status == 503 && answer.body.contains("retried and the latest reset reason: remote connection failure"))
    })?;
    mesh.log_line(ns, CLIENT, "istio-proxy", &["/refused", " 503 URX,UF "])?;
    Ok(())
}

fn s34(mesh: &Mesh, ns: &str) -> Result<()> {
    backend(mesh, ns)?;
    let answer = mesh.get(ns, CLIENT, &["http://backend/delay/2"])?;
    ensure!(answer.status == 200, "without a timeout there is none: {answer:?}");
    rule(mesh, ns, "one-second", "    timeout: 1s\n")?;
    let answer = mesh.get(ns, CLIENT, &["http://backend/delay/2"])?;
    ensure!(answer.status == 504 && answer.body == "upstream request timeout" && (0.98..1.2).contains(&answer.seconds), "{answer:?}");
    mesh.log_line(ns, CLIENT, "istio-proxy", &["/delay/2", " 504 UT response_timeout"])?;
    Ok(())
}

fn s35(mesh: &Mesh, ns: &str) -> Result<()> {
    backend(mesh, ns)?;
    mesh.apply(&yaml::policy(ns, "backend", "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}}"))?;
    let mut seen = 0;
    wait_until("an overflow", Duration::from_secs(20), || {
        let load = mesh.load(ns, CLIENT, &["-c", "6", "-qps", "0", "-n", "60", "http://backend/delay/0.05"])?;
        ensure!(load.code(200) + load.code(503) == 60, "{load:?}");
        seen += load.code(503);
        Ok(load.code(503) > 0)
    })?;
    mesh.log_line(ns, CLIENT, "istio-proxy", &[" 503 UO ", "overflow"])?;
    let stats = mesh.exec(ns, CLIENT, &["curl", "-s", "http://127.0.0.1:15000/stats"])?.ok()?;
    let counted: u64 = stats
        .lines()
        .filter(|l| l.contains(&format!("backend.{ns}")) && l.contains("upstream_rq_pending_overflow"))
        .filter_map(|l| l.rsplit(": ").next()?.trim().parse::<u64>().ok())
        .sum();
    ensure!(counted == seen, "upstream_rq_pending_overflow is {counted}, clients saw {seen} refusals");
    Ok(())
}

fn s36(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(
        ns,
        &yaml::join(&[
            yaml::namespace(ns),
            yaml::service_port(ns, "backend", "http", 80, 80),
            yaml::httpbin(ns, "backend", "v1"),
            yaml::client(ns, "client"),
            yaml::policy(ns, "backend", "{outlierDetection: {consecutive5xxErrors: 5, interval: 1s, baseEjectionTime: 3s, maxEjectionPercent: 100}}"),
        ]),
    )?;
    std::thread::sleep(Duration::from_millis(500));
    let get = |path: &str| -> Result<u16> { mesh.status(ns, CLIENT, &format!("http://backend{path}")) };
    // The fifth error falls somewhere between these two moments.
    let eject = || -> Result<(Instant, Instant)> {
        let before = Instant::now();
        // One worker sees five in a row only if all ride one connection.
        let load = mesh.load(ns, CLIENT, &["-c", "1", "-qps", "0", "-n", "5", "http://backend/status/500"])?;
        ensure!(load.code(500) == 5, "{load:?}");
        Ok((before, Instant::now()))
    };
    for (number, seconds) in [(1, 3.0), (2, 6.0)] {
        let (before, after) = eject()?;
        let answer = mesh.get(ns, CLIENT, &["http://backend/get"])?;
        ensure!(answer.status == 503 && answer.body == "no healthy upstream", "ejection {number}: {answer:?}");
        let mut asked = Instant::now();
        wait_until("the pod back", Duration::from_secs(12), || {
            asked = Instant::now();
            Ok(get("/get")? == 200)
        })?;
        let answered = Instant::now();
        let (most, least) = (answered.duration_since(before).as_secs_f64(), asked.duration_since(after).as_secs_f64());
        ensure!(most >= seconds && least <= seconds + 1.6, "ejection {number}: back after {least:.2} to {most:.2} s, not {seconds}");
    }
    mesh.log_line(ns, CLIENT, "istio-proxy", &[" 503 UH no_healthy_upstream"])?;
    Ok(())
}

fn s37(mesh: &Mesh, ns: &str) -> Result<()> {
    backend(mesh, ns)?;
    rule(mesh, ns, "slow", "    fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}\n    timeout: 1s\n")?;
    let answer = mesh.get(ns, CLIENT, &["http://backend/get?delayed"])?;
    ensure!(answer.status == 200 && (2.0..2.4).contains(&answer.seconds), "{answer:?}");
    mesh.log_line(ns, CLIENT, "istio-proxy", &["/get?delayed", " 200 DI via_upstream"])?;
    Ok(())
}

fn s38(mesh: &Mesh, ns: &str) -> Result<()> {
    backend(mesh, ns)?;
    rule(mesh, ns, "all", "    fault: {abort: {httpStatus: 500, percentage: {value: 100}}}\n")?;
    let answer = mesh.get(ns, CLIENT, &["http://backend/get?aborted"])?;
    ensure!(answer.status == 500 && answer.body == "fault filter abort", "{answer:?}");
    mesh.log_line(ns, CLIENT, "istio-proxy", &["/get?aborted", " 500 FI fault_filter_abort"])?;
    ensure!(attempts(mesh, ns, "/get?aborted")? == 0, "the backend must not see it");
    rule(mesh, ns, "half", "    fault: {abort: {httpStatus: 503, percentage: {value: 50}}}\n")?;
    let load = mesh.load(ns, CLIENT, &["-c", "2", "-qps", "0", "-n", "1000", "http://backend/get"])?;
    ensure!(load.code(200) + load.code(503) == 1000 && (437..=563).contains(&load.code(503)), "{:?}", load.codes);
    Ok(())
}
