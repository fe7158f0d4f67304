//! Row S14 and its neighbours: interception of programs that know nothing, whatever they speak.

use crate::Shared;
use anyhow::{Result, ensure};
use lateen_e2e::{Mesh, wait_until, yaml};
use std::process::Command;
use std::time::Duration;

pub const SHARED: &[(&str, Shared)] = &[
    ("dataplane::s14_a_static_program_is_intercepted", s14),
    ("dataplane::excluded_ports_are_left_alone", excluded),
    ("dataplane::dns_names", dns),
    ("dataplane::tcp_and_unnamed_ports", tcp),
    ("dataplane::s16_s18_images_and_pod_surroundings", surroundings),
    ("dataplane::a_killed_proxy_comes_back", killed_proxy),
];

const CLIENT: &str = "deploy/client-v1";

/// A C program that asks for one URL by plain system calls; linked statically.
const STATIC_C: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/socket.h>
int main(int argc, char **argv) {
    struct sockaddr_in a = {0};
    char buf[4096];
    int n, s = socket(AF_INET, SOCK_STREAM, 0);
    a.sin_family = AF_INET;
    a.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &a.sin_addr);
    if (connect(s, (struct sockaddr *)&a, sizeof a)) { perror("connect"); return 1; }
    snprintf(buf, sizeof buf, "GET /static HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", argv[3]);
    if (write(s, buf, strlen(buf)) < 0) return 1;
    while ((n = read(s, buf, sizeof buf)) > 0) fwrite(buf, 1, n, stdout);
    return 0;
}
"#;

fn s14(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(ns, &yaml::join(&[yaml::namespace(ns), yaml::service(ns, "backend"), yaml::echo(ns, "backend", "v1", "hello", 1), yaml::client(ns, "client")]))?;
    let dir = lateen_e2e::mesh::scratch("static")?;
    std::fs::write(dir.join("get.c"), STATIC_C)?;
    let built = Command::new("cc").args(["-static", "-O1", "-o"]).arg(dir.join("get")).arg(dir.join("get.c")).output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let service = mesh.run(&["get", "Service", "backend", "-n", ns, "-o", "json"])?.ok()?;
    let service: serde_json::Value = serde_json::from_str(&service)?;
    let service = service["items"].get(0).unwrap_or(&service).clone();
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let program = dir.join("get").display().to_string();
    let answer = mesh.exec(ns, CLIENT, &[&program, &address, "80", "backend"])?.ok()?;
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains("hello") && answer.contains("x-envoy-upstream-service-time"), "{answer}");
    mesh.log_line(ns, CLIENT, "istio-proxy", &["/static", " 200 "])?;
    mesh.log_line(ns, "deploy/backend-v1", "istio-proxy", &["/static", " 200 "])?;
    Ok(())
}

fn excluded(mesh: &Mesh, ns: &str) -> Result<()> {
    let annotated = yaml::client(ns, "client").replace("      labels: {app: client, version: v1}\n    spec", "      labels: {app: client, version: v1}\n      annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: \"81\"}\n    spec");
    ensure!(annotated.contains("excludeOutboundPorts"));
    mesh.deploy(
        ns,
        &yaml::join(&[
            yaml::namespace(ns),
            format!("apiVersion: v1\nkind: Service\nmetadata: {{name: backend, namespace: {ns}}}\nspec:\n  selector: {{app: backend}}\n  ports:\n  - {{name: http, port: 80, targetPort: 5678}}\n  - {{name: http-raw, port: 81, targetPort: 5678}}\n"),
            yaml::echo(ns, "backend", "v1", "hello", 1),
            annotated,
        ]),
    )?;
    let meshed = mesh.get(ns, CLIENT, &["http://backend:80/"])?;
    ensure!(meshed.status == 200 && meshed.head.contains("x-envoy-upstream-service-time"), "{meshed:?}");
    let pods = mesh.run(&["get", "Pod", "-n", ns, "-o", "json"])?.ok()?;
    let pods: serde_json::Value = serde_json::from_str(&pods)?;
    let ip = pods["items"].as_array().into_iter().flatten().find(|p| p["metadata"]["labels"]["app"] == "backend").map(|p| p["status"]["podIP"].as_str().unwrap_or_default().to_owned()).unwrap_or_default();
    let before = mesh.logs(ns, CLIENT, "istio-proxy")?.lines().count();
    // The virtual address has no meaning outside the proxy, so the pod's own; its port 81 is refused there, and not by a proxy.
    let answer = mesh.get(ns, CLIENT, &[&format!("http://{ip}:81/")])?;
    ensure!(answer.status == 0 || answer.status == 503, "{answer:?}");
    let after = mesh.logs(ns, CLIENT, "istio-proxy")?;
    ensure!(!after.lines().skip(before).any(|l| l.contains(":81")), "the excluded port went through the sidecar: {after}");
    Ok(())
}

fn dns(mesh: &Mesh, ns: &str) -> Result<()> {
    let headless = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: headless, namespace: {ns}}}\nspec:\n  clusterIP: None\n  selector: {{app: backend}}\n  ports: [{{name: http, port: 5678}}]\n");
    mesh.deploy(ns, &yaml::join(&[yaml::namespace(ns), yaml::service(ns, "backend"), headless, yaml::echo(ns, "backend", "v1", "hello", 2), yaml::client(ns, "client")]))?;
    for name in ["backend".to_owned(), format!("backend.{ns}"), format!("backend.{ns}.svc"), format!("backend.{ns}.svc.cluster.local"), format!("backend.{ns}.svc.cluster.local."), "headless:5678".into()] {
        let answer = mesh.get(ns, CLIENT, &[&format!("http://{name}/")])?;
        ensure!(answer.status == 200 && answer.body.trim() == "hello", "{name}: {answer:?}");
    }
    let lookup = mesh.exec(ns, CLIENT, &["getent", "ahostsv4", &format!("headless.{ns}.svc.cluster.local")])?.ok()?;
    let mut addresses: Vec<&str> = lookup.lines().filter_map(|l| l.split_whitespace().next()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    ensure!(addresses.len() == 2, "a headless name has its pods' addresses: {lookup}");
    let unknown = mesh.get(ns, CLIENT, &["http://no-such-service/"])?;
    ensure!(unknown.curl == 6, "an unknown name does not resolve: {unknown:?}");
    Ok(())
}

fn tcp(mesh: &Mesh, ns: &str) -> Result<()> {
    let echo = |name: &str, port: u16| yaml::deployment(ns, name, "v1", 1, &format!("image: istio/tcp-echo-server\n        args: [\"{port}\", \"{name}\"]\n        ports: [{{containerPort: {port}}}]\n"));
    let unnamed = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: {ns}}}\nspec:\n  selector: {{app: web}}\n  ports: [{{port: 80, targetPort: 5678}}]\n");
    mesh.deploy(
        ns,
        &yaml::join(&[
            yaml::namespace(ns),
            yaml::service_port(ns, "echo", "tcp", 9000, 9000),
            echo("echo", 9000),
            unnamed,
            yaml::echo(ns, "web", "v1", "sniffed", 1),
            yaml::client(ns, "client"),
        ]),
    )?;
    let script = "import socket,sys\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])),5)\ns.sendall(b'hello\\n')\nprint(s.recv(100).decode())\n";
    let answer = mesh.exec(ns, CLIENT, &["python3", "-c", script, "echo", "9000"])?.ok()?;
    ensure!(answer.trim() == "echo hello", "{answer}");
    mesh.log_line(ns, CLIENT, "istio-proxy", &["outbound|9000||echo"])?;
    let text = mesh.exec(ns, "deploy/echo-v1", &["curl", "-s", "http://127.0.0.1:15090/stats/prometheus"])?.ok()?;
    ensure!(text.lines().any(|l| l.starts_with("istio_tcp_connections_opened_total{") && l.contains("mutual_tls")), "{text}");
    let answer = mesh.get(ns, CLIENT, &["http://web/"])?;
    ensure!(answer.status == 200 && answer.body.trim() == "sniffed" && answer.head.contains("x-envoy-upstream-service-time"), "an unnamed port speaks HTTP all the same: {answer:?}");
    Ok(())
}

fn surroundings(mesh: &Mesh, ns: &str) -> Result<()> {
    let env = "image: curlimages/curl\n        command: [\"sh\", \"-c\", \"echo started as $ME in $SPACE with $FROM_MAP; exec sleep infinity\"]\n        env:\n        - {name: ME, value: \"$(SPACE)-me\"}\n        - name: SPACE\n          valueFrom: {fieldRef: {fieldPath: metadata.namespace}}\n        - name: FROM_MAP\n          valueFrom: {configMapKeyRef: {name: settings, key: color}}\n";
    let map = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: {ns}}}\ndata: {{color: blue}}\n");
    mesh.deploy(ns, &yaml::join(&[yaml::namespace(ns), map, yaml::deployment(ns, "client", "v1", 1, env)]))?;
    mesh.log_line(ns, CLIENT, "client", &["in", ns, "with blue"])?;
    let host = mesh.exec(ns, CLIENT, &["hostname"])?.ok()?;
    ensure!(host.trim().starts_with("client-v1-"), "{host}");
    let resolv = mesh.exec(ns, CLIENT, &["cat", "/etc/resolv.conf"])?.ok()?;
    ensure!(resolv.contains(&format!("{ns}.svc.cluster.local")) && resolv.contains("10.96.0.10"), "{resolv}");
    let code = mesh.exec(ns, CLIENT, &["sh", "-c", "exit 7"])?.code;
    ensure!(code == 7, "exec passes exit codes on: {code}");
    let unknown = yaml::deployment(ns, "mystery", "v1", 1, "image: example.com/never/heard-of:1\n");
    let said = mesh.run_with_input(&["apply", "-f", "-"], &unknown)?;
    let text = said.text();
    ensure!(said.code != 0 && text.contains("example.com/never/heard-of:1") && text.contains("command"), "{text}");
    Ok(())
}

fn killed_proxy(mesh: &Mesh, ns: &str) -> Result<()> {
    mesh.deploy(ns, &yaml::join(&[yaml::namespace(ns), yaml::service(ns, "backend"), yaml::echo(ns, "backend", "v1", "hello", 1), yaml::client(ns, "client")]))?;
    let killed = mesh.exec(ns, CLIENT, &["sh", "-c", "curl -s -X POST http://127.0.0.1:15000/quitquitquit"])?;
    ensure!(killed.code == 0, "{killed:?}");
    wait_until("the sidecar back", Duration::from_secs(5), || Ok(mesh.get(ns, CLIENT, &["--max-time", "2", "http://backend/"])?.status == 200))
}
