//! Rows S40–S45: mutual TLS on the wire, STRICT, identities, rotation, authorization.

use crate::{Own, Shared};
use anyhow::{Context, Result, ensure};
use lateen_e2e::{Mesh, Person, wait_until, yaml};
use std::process::{Command, Stdio};
use std::time::Duration;

pub const SHARED: &[(&str, Shared)] = &[
    ("security::s40_mutual_tls_without_configuration", s40),
    ("security::s41_strict_in_a_namespace_refuses_plain_programs", s41),
    ("security::s42_wildcard_istio_mutual_breaks_plain_pods_and_is_warned_of", s42),
    ("security::s44_a_wrong_identity_is_refused", s44),
    ("security::s45_only_frontend_may_call_payments", s45),
    ("security::policy_reaches_idle_connections", idle_connections),
];

pub const OWN: &[(&str, Own)] = &[("security::s41_mesh_wide_strict", s41_mesh), ("security::s43_certificates_rotate_under_load", s43)];

const CLIENT: &str = "deploy/client-v1";

fn pair(ns: &str) -> String {
    yaml::join(&[yaml::namespace(ns), yaml::service(ns, "backend"), yaml::echo(ns, "backend", "v1", "secret-plaintext-marker", 1), yaml::client(ns, "client")])
}

/// The first answer may come before the client's sidecar has heard of a pod that has just become ready.
fn serving(mesh: &Mesh, ns: &str, pod: &str, url: &str) -> Result<()> {
    wait_until(&format!("{url} answering"), Duration::from_secs(10), || Ok(mesh.status(ns, pod, url)? == 200))
}

/// Writes every frame to or from an address, on any link of the namespace, to a file. A raw socket, because a capture
/// program would want to change its user, which a namespace with one user cannot.
const CAPTURE: &str = r#"
import socket, sys
target = socket.inet_aton(sys.argv[2])
packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
with open(sys.argv[1], "wb", buffering=0) as out:
    while True:
        frame = packets.recv(65535)
        if target in (frame[26:30], frame[30:34]):
            out.write(frame)
"#;

fn pod_ip(mesh: &Mesh, ns: &str, app: &str) -> Result<String> {
    let pods = mesh.run(&["get", "Pod", "-n", ns, "-o", "json"])?.ok()?;
    let pods: serde_json::Value = serde_json::from_str(&pods)?;
    let pod = pods["items"].as_array().into_iter().flatten().find(|p| p["metadata"]["labels"]["app"] == app && p["metadata"]["deletionTimestamp"].is_null());
    Ok(pod.context("a pod")?["status"]["podIP"].as_str().context("its address")?.to_owned())
}

fn s40(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(ns, &pair(ns))?;
    // The supervisor is pid 1 of the namespaces; its network namespace holds the bridge and the pods' links.
    let supervisor = lateen_e2e::mesh::descendants(mesh.pid).get(1).copied().context("the supervisor")?;
    let capture = lateen_e2e::mesh::scratch("capture")?.join("mesh.pcap");
    let target = pod_ip(mesh, ns, "backend")?;
    // Root may look into any namespace as it is; anybody else must enter the user namespace that owns it.
    let root = Command::new("id").arg("-u").output()?.stdout == b"0\n";
    let mut packets = Command::new("nsenter")
        .args(["--target", &supervisor.to_string()])
        .args(if root { &["--net"][..] } else { &["--user", "--net", "--preserve-credentials"][..] })
        .args(["python3", "-c", CAPTURE])
        .arg(&capture)
        .arg(&target)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    wait_until("the capture to begin", Duration::from_secs(5), || Ok(capture.exists()))?;
    serving(mesh, ns, CLIENT, "http://backend/")?;
    for _ in 0..5 {
        ensure!(mesh.get(ns, CLIENT, &["http://backend/secret-path-marker"])?.status == 200);
    }
    wait_until("packets", Duration::from_secs(5), || Ok(capture.metadata()?.len() > 2000)).with_context(|| format!("captured {:?} bytes", capture.metadata().map(|m| m.len())))?;
    Command::new("kill").args(["-TERM", &packets.id().to_string()]).status()?;
    packets.wait()?;
    let bytes = std::fs::read(&capture)?;
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
    ensure!(!holds(b"secret-plaintext-marker") && !holds(b"secret-path-marker"), "plaintext on the pod's link");
    // supported_versions of a ServerHello that chose TLS 1.3: extension 43, length 2, 0x0304.
    ensure!(holds(&[0x00, 0x2b, 0x00, 0x02, 0x03, 0x04]), "no TLS 1.3 ServerHello in the capture");
    let metrics = mesh.exec(ns, "deploy/backend-v1", &["curl", "-s", "http://127.0.0.1:15090/stats/prometheus"])?.ok()?;
    ensure!(
        metrics.lines().any(|l| l.starts_with("istio_requests_total{") && l.contains("reporter=\"destination\"") && l.contains("connection_security_policy=\"mutual_tls\"")),
        "{metrics}"
    );
    // What the application is told of its caller.
    mesh.deploy(ns, &yaml::join(&[yaml::service_port(ns, "bin", "http", 80, 80), yaml::httpbin(ns, "bin", "v1")]))?;
    serving(mesh, ns, CLIENT, "http://bin/headers")?;
    let seen = mesh.get(ns, CLIENT, &["http://bin/headers"])?.body;
    ensure!(seen.contains(&format!("URI=spiffe://cluster.local/ns/{ns}/sa/client")), "{seen}");
    Ok(())
}

fn strict(ns: &str, mode: &str) -> String {
    format!("apiVersion: security.istio.io/v1beta1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: {ns}}}\nspec:\n  mtls:\n    mode: {mode}\n")
}

fn s41(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(ns, &pair(ns))?;
    let plain = format!("{ns}-plain");
    mesh.deploy(&plain, &yaml::join(&[yaml::plain_namespace(&plain), yaml::client(&plain, "client")]))?;
    let url = format!("http://backend.{ns}/");
    serving(mesh, &plain, CLIENT, &url)?;
    mesh.apply(&strict(ns, "STRICT"))?;
    wait_until("STRICT to refuse", Duration::from_secs(5), || {
        let answer = mesh.get(&plain, CLIENT, &[&url])?;
        Ok(answer.status == 0 && answer.curl == 56 && answer.head.is_empty())
    })?;
    ensure!(mesh.status(ns, CLIENT, "http://backend/")? == 200, "the mesh client goes on");
    mesh.apply(&format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: backend, namespace: {ns}}}\nspec:\n  selector: {{matchLabels: {{app: backend}}}}\n  mtls: {{mode: PERMISSIVE}}\n"
    ))?;
    wait_until("the workload's own policy to win", Duration::from_secs(5), || Ok(mesh.status(&plain, CLIENT, &url)? == 200))?;
    ensure!(mesh.run(&["ps", "-n", ns])?.ok()?.matches("2/2").count() == 2, "probes must go on passing");
    mesh.run(&["delete", "Namespace", &plain])?;
    Ok(())
}

fn s41_mesh(person: Person) -> Result<()> {
    let plain = yaml::join(&[yaml::plain_namespace("outside"), yaml::client("outside", "client")]);
    let mesh = Mesh::start(person, &[("app.yaml", &pair("default")), ("plain.yaml", &plain)], &[])?;
    mesh.ready("default")?;
    mesh.ready("outside")?;
    serving(&mesh, "outside", CLIENT, "http://backend.default/")?;
    mesh.apply(&strict("istio-system", "STRICT"))?;
    wait_until("mesh-wide STRICT", Duration::from_secs(5), || Ok(mesh.get("outside", CLIENT, &["http://backend.default/"])?.curl == 56))?;
    ensure!(mesh.status("default", CLIENT, "http://backend/")? == 200);
    mesh.stop()?;
    Ok(())
}

fn s42(mesh: &Mesh, ns: &str) -> Result<()> {
    let naked = yaml::echo(ns, "naked", "v1", "naked", 1).replace("      labels: {app: naked, version: v1}", "      labels: {app: naked, version: v1, sidecar.istio.io/inject: \"false\"}");
    mesh.deploy(ns, &yaml::join(&[pair(ns), yaml::service(ns, "naked"), naked]))?;
    serving(mesh, ns, CLIENT, "http://naked/")?;
    let rule = format!("apiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata: {{name: all, namespace: {ns}}}\nspec:\n  host: \"*.{ns}.svc.cluster.local\"\n  trafficPolicy:\n    tls:\n      mode: ISTIO_MUTUAL\n");
    mesh.apply(&rule)?;
    wait_until("the plain pod to be cut off", Duration::from_secs(5), || Ok(mesh.status(ns, CLIENT, "http://naked/")? == 503))?;
    mesh.log_line(ns, CLIENT, "istio-proxy", &["naked", " 503 ", "UF"])?;
    ensure!(mesh.status(ns, CLIENT, "http://backend/")? == 200);
    let found = mesh.run(&["analyze", "-n", ns])?.text();
    ensure!(found.contains("naked") && found.contains("ISTIO_MUTUAL"), "analyze: {found}");
    mesh.apply(&yaml::policy(ns, "naked", "{tls: {mode: DISABLE}}"))?;
    wait_until("the more specific rule to replace it", Duration::from_secs(5), || Ok(mesh.status(ns, CLIENT, "http://naked/")? == 200))
}

fn s43(person: Person) -> Result<()> {
    let mesh = Mesh::start(person, &[("app.yaml", &pair("default"))], &["--cert-ttl", "10s"])?;
    mesh.ready("default")?;
    let serial = || -> Result<String> {
        let certs = mesh.exec("default", "deploy/backend-v1", &["curl", "-s", "http://127.0.0.1:15000/certs"])?.ok()?;
        let certs: serde_json::Value = serde_json::from_str(&certs)?;
        let mut serials = Vec::new();
        collect(&certs, "serial_number", &mut serials);
        Ok(serials.concat())
    };
    let mut seen = vec![serial()?];
    let load = std::thread::scope(|scope| -> Result<lateen_e2e::Load> {
        let running = scope.spawn(|| mesh.load("default", CLIENT, &["-c", "8", "-qps", "500", "-t", "60s", "http://backend/"]));
        while !running.is_finished() {
            std::thread::sleep(Duration::from_millis(500));
            let now = serial()?;
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        running.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    })?;
    ensure!(load.failed() == 0 && load.code(200) > 10_000, "{:?}", load.codes);
    ensure!(seen.len() > 5, "{} certificates in 60 s of a 10 s lifetime", seen.len());
    mesh.stop()?;
    Ok(())
}

fn collect(value: &serde_json::Value, key: &str, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (k, v) in map {
                if k == key {
                    into.push(v.to_string());
                }
                collect(v, key, into);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|v| collect(v, key, into)),
        _ => {}
    }
}

fn s44(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(ns, &pair(ns))?;
    serving(mesh, ns, CLIENT, "http://backend/")?;
    mesh.apply(&yaml::policy(ns, "backend", "{tls: {mode: ISTIO_MUTUAL, subjectAltNames: [\"spiffe://cluster.local/ns/default/sa/somebody-else\"]}}"))?;
    wait_until("the wrong identity to be refused", Duration::from_secs(5), || Ok(mesh.status(ns, CLIENT, "http://backend/")? == 503))?;
    mesh.log_line(ns, CLIENT, "istio-proxy", &[" 503 ", "UF"])?;
    mesh.apply(&yaml::policy(ns, "backend", &format!("{{tls: {{mode: ISTIO_MUTUAL, subjectAltNames: [\"spiffe://cluster.local/ns/{ns}/sa/backend\"]}}}}")))?;
    wait_until("the right identity to be accepted", Duration::from_secs(5), || Ok(mesh.status(ns, CLIENT, "http://backend/")? == 200))
}

fn s45(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(
        ns,
        &yaml::join(&[yaml::namespace(ns), yaml::service(ns, "payments"), yaml::echo(ns, "payments", "v1", "paid", 1), yaml::client(ns, "frontend"), yaml::client(ns, "other")]),
    )?;
    let policy = |action: &str, who: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: payments, namespace: {ns}}}\nspec:\n  selector: {{matchLabels: {{app: payments}}}}\n  action: {action}\n  rules:\n  - from:\n    - source:\n        principals: [\"cluster.local/ns/{ns}/sa/{who}\"]\n"
        )
    };
    let other = || mesh.get(ns, "deploy/other-v1", &["http://payments/"]);
    serving(mesh, ns, "deploy/other-v1", "http://payments/")?;
    serving(mesh, ns, "deploy/frontend-v1", "http://payments/")?;
    mesh.apply(&policy("ALLOW", "frontend"))?;
    wait_until("403 for everybody else", Duration::from_secs(5), || Ok(other()?.status == 403))?;
    let answer = other()?;
    ensure!(answer.body == "RBAC: access denied", "{answer:?}");
    ensure!(mesh.get(ns, "deploy/frontend-v1", &["http://payments/"])?.body.trim() == "paid");
    mesh.log_line(ns, "deploy/payments-v1", "istio-proxy", &[" 403 - rbac_access_denied_matched_policy[none]"])?;
    mesh.apply(&policy("DENY", "other"))?;
    wait_until("a denial by name", Duration::from_secs(5), || {
        Ok(other()?.status == 403 && mesh.logs(ns, "deploy/payments-v1", "istio-proxy")?.contains(&format!("rbac_access_denied_matched_policy[ns[{ns}]-policy[payments]-rule[0]]")))
    })?;
    ensure!(mesh.status(ns, "deploy/frontend-v1", "http://payments/")? == 200);
    Ok(())
}

/// A warm pool of idle connections carries no forbidden request after the policy is in force.
fn idle_connections(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(ns, &pair(ns))?;
    serving(mesh, ns, CLIENT, "http://backend/")?;
    ensure!(mesh.load(ns, CLIENT, &["-c", "16", "-qps", "0", "-n", "320", "http://backend/"])?.code(200) == 320);
    mesh.apply(&format!("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: nothing, namespace: {ns}}}\nspec: {{}}\n"))?;
    wait_until("the first refusal", Duration::from_secs(5), || Ok(mesh.status(ns, CLIENT, "http://backend/")? == 403))?;
    let load = mesh.load(ns, CLIENT, &["-c", "16", "-qps", "0", "-n", "320", "http://backend/"])?;
    ensure!(load.code(403) == 320, "idle connections let forbidden requests through: {:?}", load.codes);
    Ok(())
}
