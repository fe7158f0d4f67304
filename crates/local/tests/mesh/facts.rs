//! The facts.

use crate::harness::{Fact, Mesh, Traces, until_alone};
use lateen_local::Down;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

/// All of them.
pub(crate) const ALL: &[Fact] = &[
    ("down_leaves_nothing", down_leaves_nothing),
    ("a_killed_host_stage_leaves_nothing", a_killed_host_stage_leaves_nothing),
    ("names_are_resolved_in_pods", names_are_resolved_in_pods),
    ("service_addresses_work_without_a_sidecar", service_addresses_work_without_a_sidecar),
    ("injected_pods_are_intercepted_both_ways", injected_pods_are_intercepted_both_ways),
    ("a_static_program_is_intercepted", a_static_program_is_intercepted),
    ("the_outside_is_reached_through_the_host", the_outside_is_reached_through_the_host),
    ("a_saved_file_is_applied_and_a_broken_one_is_not", a_saved_file_is_applied_and_a_broken_one_is_not),
    ("a_new_template_is_ready_before_the_old_one_goes", a_new_template_is_ready_before_the_old_one_goes),
    ("a_crashed_container_is_started_again", a_crashed_container_is_started_again),
    ("a_killed_sidecar_comes_back", a_killed_sidecar_comes_back),
    ("volumes_and_environment_reach_the_program", volumes_and_environment_reach_the_program),
    ("a_second_mesh_in_one_folder_is_refused", a_second_mesh_in_one_folder_is_refused),
    ("a_taken_port_is_named_with_its_flag", a_taken_port_is_named_with_its_flag),
    ("errors_in_files_start_nothing", errors_in_files_start_nothing),
];

fn deployment(name: &str, image: &str, args: &str, more: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}{more}}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - {{name: {name}, image: {image}, args: {args}}}\n---\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 5678}}]{spec}}}\n---\n")
}

const PLAIN: &str = ", sidecar.istio.io/inject: \"false\"";

fn plain_web() -> String {
    deployment("web", "test/serve", "[\"5678\", web]", PLAIN) + &deployment("client", "test/sleep", "[]", PLAIN) + &service("web", "")
}

fn down_leaves_nothing() {
    let before = Traces::now();
    let mesh = Mesh::start("down", &(plain_web() + &deployment("meshed", "test/serve", "[\"5678\", x]", "")));
    assert!(mesh.success, "{}", mesh.output);
    assert_ne!(Traces::now(), before);
    assert_eq!(lateen_local::down(&mesh.state()).unwrap(), Down::Stopped);
    until_alone(&before);
    assert!(!lateen_local::api_socket(&mesh.state()).exists());
    assert_eq!(lateen_local::down(&mesh.state()).unwrap(), Down::NotRunning);
}

fn a_killed_host_stage_leaves_nothing() {
    let before = Traces::now();
    let mesh = Mesh::start("killed", &plain_web());
    let gone = mesh.watch_until_gone();
    kill(Pid::from_raw(mesh.host()), Signal::SIGKILL).unwrap();
    gone();
    until_alone(&before);
}

fn names_are_resolved_in_pods() {
    let yaml = plain_web() + &service("headless", ", clusterIP: None").replace("app: headless", "app: web");
    let mesh = Mesh::start("names", &yaml);
    let resolve = |name: &str| mesh.exec("client", &["lateen-test", "app", "resolve", name]);
    let address = mesh.objects("Service").into_iter().find(|service| service["metadata"]["name"] == "web").unwrap()["spec"]["clusterIP"].clone();
    for name in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local"] {
        assert_eq!(json!(resolve(name)), address, "{name}");
    }
    assert_eq!(resolve("headless"), mesh.address("web"));
    assert_eq!(resolve("host.lateen.internal"), "198.18.0.1");
    assert_eq!(resolve("istiod.istio-system.svc").split('.').take(2).collect::<Vec<_>>(), ["10", "96"]);
    assert_eq!(resolve("nothing.default.svc.cluster.local"), "");
}

fn service_addresses_work_without_a_sidecar() {
    let mesh = Mesh::start("service", &plain_web());
    assert_eq!(mesh.call("client", "web:80"), format!("web from {}", mesh.address("client")));
    // A Service without endpoints refuses.
    mesh.ask("POST", "/delete", &json!([{"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "default", "name": "web"}]));
    mesh.until("the last pod of web", |mesh| mesh.pods("web").is_empty());
    mesh.until("a refusal", |mesh| mesh.call("client", "web:80") != format!("web from {}", mesh.address("client")));
    assert!(mesh.call("client", "web:80").contains("Connection"), "reset or refused");
}

fn injected_pods_are_intercepted_both_ways() {
    let mesh = Mesh::start("intercept", &(plain_web() + &deployment("meshed", "test/serve", "[\"5678\", meshed]", "")));
    assert_eq!(mesh.pod("meshed")["status"]["containerStatuses"].as_array().unwrap().len(), 2);
    assert_eq!(mesh.call("meshed", "192.0.2.7:1234"), "outbound 192.0.2.7:1234");
    let inside = format!("{}:5678", mesh.address("meshed"));
    assert_eq!(mesh.call("client", &inside), format!("inbound {inside}"));
    // Loopback and the pod's own address are left alone, as Istio leaves them.
    assert_eq!(mesh.call("meshed", "127.0.0.1:5678"), "meshed from 127.0.0.1");
    assert!(mesh.call("meshed", &inside).starts_with("meshed from"));
}

fn a_static_program_is_intercepted() {
    let folder = std::env::temp_dir().join(format!("lateen-static-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (source, program) = (folder.join("call.c"), folder.join("call"));
    fs::write(&source, STATIC_CALLER).unwrap();
    let built = Command::new("cc").args(["-static", "-O1", "-o"]).arg(&program).arg(&source).status().expect("a C compiler");
    assert!(built.success());
    let mesh = Mesh::start("static", &deployment("meshed", "test/sleep", "[]", ""));
    let (code, output) = mesh.exec_in(&mesh.pod("meshed"), &[program.to_str().unwrap(), "192.0.2.9", "4321"]);
    assert_eq!((code, output.ends_with("outbound 192.0.2.9:4321")), (0, true), "{output}");
    fs::remove_dir_all(folder).unwrap();
}

/// Connects with system calls only and prints the answer.
const STATIC_CALLER: &str = r#"
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
    inet_pton(AF_INET, argv[1], &to.sin_addr);
    long s = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    if (syscall(SYS_connect, s, &to, sizeof to) != 0) return 1;
    syscall(SYS_write, s, "GET / HTTP/1.1\r\n\r\n", 18);
    char text[512]; long n;
    while ((n = syscall(SYS_read, s, text, sizeof text)) > 0) syscall(SYS_write, 1, text, n);
    return argc == 3 ? 0 : 2;
}
"#;

fn the_outside_is_reached_through_the_host() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\nhost saw {}", peer.ip()).as_bytes()).unwrap();
    });
    let mesh = Mesh::start("outside", &plain_web());
    assert_eq!(mesh.call("client", &format!("host.lateen.internal:{port}")), "host saw 127.0.0.1");
    server.join().unwrap();
    assert!(mesh.call("client", &format!("host.lateen.internal:{port}")).contains("Connection"), "a closed port is reset");
}

fn a_saved_file_is_applied_and_a_broken_one_is_not() {
    let mesh = Mesh::start("files", &plain_web());
    let good = fs::read_to_string(mesh.yaml()).unwrap();
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndata: {a: b}\n";
    let has_extra = |mesh: &Mesh| mesh.objects("ConfigMap").iter().any(|map| map["metadata"]["name"] == "extra");
    fs::write(mesh.yaml(), format!("{good}{config}")).unwrap();
    mesh.until("the new object", has_extra);
    fs::write(mesh.yaml(), format!("{good}{config}  wrong: [\n")).unwrap();
    let findings = |mesh: &Mesh| mesh.ask("GET", "/findings", &Value::Null)["items"].as_array().cloned().unwrap_or_default();
    while findings(&mesh).is_empty() {
        std::thread::yield_now();
    }
    let location = &findings(&mesh)[0]["location"];
    assert!(location["file"].as_str().unwrap().ends_with("all.yaml") && location["line"].as_u64().unwrap() > 1, "{location}");
    assert!(has_extra(&mesh), "the last good state stays");
    fs::write(mesh.yaml(), good).unwrap();
    mesh.until("the object's deletion", |mesh| !has_extra(mesh));
    assert!(findings(&mesh).is_empty());
}

fn a_new_template_is_ready_before_the_old_one_goes() {
    let mesh = Mesh::start("rolling", &plain_web());
    let old = mesh.pod("web")["metadata"]["name"].clone();
    let yaml = fs::read_to_string(mesh.yaml()).unwrap().replace("[\"5678\", web]", "[\"5678\", new]");
    fs::write(mesh.yaml(), yaml).unwrap();
    mesh.until("the new pod alone", |mesh| {
        let pods = mesh.pods("web");
        let ready = |pod: &&Value| pod["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
        assert!(pods.iter().any(|pod| ready(&pod)), "some pod is ready at every moment");
        pods.len() == 1 && pods[0]["metadata"]["name"] != old
    });
    mesh.until("the new answer", |mesh| mesh.call("client", "web:80").starts_with("new"));
}

fn a_crashed_container_is_started_again() {
    let mesh = Mesh::start("crash", &plain_web());
    let yaml = fs::read_to_string(mesh.yaml()).unwrap() + &deployment("crash", "test/exit", "[\"3\"]", PLAIN);
    fs::write(mesh.yaml(), yaml).unwrap();
    let status = |mesh: &Mesh| mesh.pods("crash").first().map(|pod| pod["status"]["containerStatuses"][0].clone()).unwrap_or_default();
    mesh.until("a crash loop", |mesh| status(mesh)["restartCount"] == 1 && status(mesh)["state"]["waiting"]["reason"] == "CrashLoopBackOff");
    assert_eq!(status(&mesh)["lastState"]["terminated"]["exitCode"], 3);
}

fn a_killed_sidecar_comes_back() {
    let mesh = Mesh::start("sidecar", &deployment("meshed", "test/serve", "[\"5678\", meshed]", ""));
    let sidecar = |mesh: &Mesh| {
        let pod = mesh.pod("meshed");
        let all = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|status| status["name"] == "istio-proxy").unwrap_or_default()
    };
    // From inside, where its number can be seen; only who may do as much as the sidecar may look at its environment.
    let script = "for p in /proc/[0-9]*; do if grep -q sidecar $p/cmdline && grep -q meshed $p/environ; then kill -9 ${p#/proc/} && exit 0; fi; done; exit 1";
    assert_eq!(mesh.exec_with(&mesh.pod("meshed"), Some("istio-proxy"), &["sh", "-c", script]).0, 0);
    mesh.until("the sidecar's return", |mesh| sidecar(mesh)["restartCount"] == 1 && sidecar(mesh)["ready"] == true);
    assert_eq!(mesh.call("meshed", "192.0.2.7:80"), "outbound 192.0.2.7:80");
}

fn volumes_and_environment_reach_the_program() {
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {app.conf: hello, LEVEL: debug}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {token: s3cret}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: app, labels: {app: app, sidecar.istio.io/inject: \"false\"}}\nspec:\n  terminationGracePeriodSeconds: 1\n  hostname: chosen\n  containers:\n  - name: app\n    image: test/sleep\n    env:\n    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n    - {name: BOTH, value: \"$(POD)-$(LEVEL)\"}\n    envFrom: [{configMapRef: {name: settings}}]\n    volumeMounts:\n    - {name: conf, mountPath: /lateen-test-only/conf}\n    - {name: conf, mountPath: /etc/lateen-test-only.conf, subPath: app.conf}\n    - {name: keys, mountPath: /var/run/keys}\n    - {name: scratch, mountPath: /opt/lateen-test-only}\n  volumes:\n  - {name: conf, configMap: {name: settings}}\n  - {name: keys, secret: {secretName: keys}}\n  - {name: scratch, emptyDir: {}}\n";
    let mesh = Mesh::start("volumes", yaml);
    let shell = |script: &str| mesh.exec("app", &["sh", "-c", script]);
    assert_eq!(shell("cat /lateen-test-only/conf/app.conf /etc/lateen-test-only.conf /var/run/keys/token"), "hellohellos3cret");
    assert_eq!(shell("echo $BOTH $(hostname); echo x > /opt/lateen-test-only/y && cat /opt/lateen-test-only/y"), "app-debug chosen\nx\n");
    assert!(!std::path::Path::new("/lateen-test-only").exists() && !std::path::Path::new("/opt/lateen-test-only").exists(), "the machine is left alone");
}

fn a_second_mesh_in_one_folder_is_refused() {
    let mesh = Mesh::start("twice", &plain_web());
    let folder = mesh.folder.clone();
    let second = std::mem::ManuallyDrop::new(Mesh::start_in(&folder, 0));
    assert!(!second.success && second.output.contains("is running already"), "{}", second.output);
    assert_eq!(mesh.call("client", "web:80"), format!("web from {}", mesh.address("client")), "the first one is unharmed");
}

fn a_taken_port_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = std::env::temp_dir().join(format!("lateen-mesh-{}-port", std::process::id()));
    fs::create_dir_all(folder.join("yaml")).unwrap();
    fs::write(folder.join("yaml/all.yaml"), plain_web()).unwrap();
    let mesh = Mesh::start_in(&folder, port);
    assert!(!mesh.success && mesh.output.contains(&port.to_string()) && mesh.output.contains("--ingress"), "{}", mesh.output);
}

fn errors_in_files_start_nothing() {
    let before = Traces::now();
    let mesh = Mesh::start("errors", &deployment("shop", "example.com/shop:1", "[]", ""));
    assert!(!mesh.success && mesh.output.contains("example.com/shop:1") && mesh.output.contains("all.yaml"), "{}", mesh.output);
    mesh.stop();
    until_alone(&before);
}
