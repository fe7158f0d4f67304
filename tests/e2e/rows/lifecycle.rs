//! Rows S08, S10 and the life of a mesh: nothing left behind, live edits, a dead control plane, deletes under load.

use crate::Own;
use anyhow::{Context, Result, ensure};
use lateen_e2e::{Mesh, Person, wait_until, yaml};
use std::process::Command;
use std::time::{Duration, Instant};

pub const OWN: &[(&str, Own)] = &[
    ("lifecycle::s10_nothing_is_left_behind", nothing_left),
    ("lifecycle::a_saved_file_is_in_force_and_a_broken_one_is_not", live_edit),
    ("lifecycle::s08_traffic_survives_the_control_plane", dead_control_plane),
    ("lifecycle::no_request_lost_while_weights_change_and_pods_come_and_go", no_loss),
    ("lifecycle::a_crashing_program_is_restarted_with_back_off", crashing),
    ("lifecycle::detached_and_down", detached),
];

const CLIENT: &str = "deploy/client-v1";

fn app() -> String {
    yaml::join(&[
        yaml::namespace("default"),
        yaml::service("default", "backend"),
        yaml::echo("default", "backend", "v1", "v1", 1),
        yaml::echo("default", "backend", "v2", "v2", 1),
        yaml::client("default", "client"),
        yaml::subsets("default", "backend", ""),
    ])
}

/// What the kernel holds that a mesh could leave: processes of the binary, namespaces, links, nft tables, mounts, sockets.
fn census() -> Result<String> {
    let script = "ls -1 /proc | grep -E '^[0-9]+$' | while read p; do tr '\\0' ' ' < /proc/$p/cmdline 2>/dev/null | grep -E 'lateen-e2e-[0-9]+-bin' ; done | sort; \
        for k in net user mnt pid uts; do ls -l /proc/[0-9]*/ns/$k 2>/dev/null | sed 's/.*-> //' | sort -u | wc -l; done; ip -o link 2>/dev/null | sed 's/^[0-9]*: //; s/:.*//' || true; grep -c . /proc/self/mountinfo; ls /sys/class/net";
    let output = Command::new("sh").args(["-c", script]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn nothing_left(person: Person) -> Result<()> {
    // Other meshes of this run come and go meanwhile, so only what carries this mesh's name counts, besides links and mounts of the host.
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").map(|t| t.lines().count());
    let links = || std::fs::read_dir("/sys/class/net").map(|d| d.count());
    let (mounts_before, links_before) = (mounts()?, links()?);
    let mesh = Mesh::start(person, &[("app.yaml", &app())], &[])?;
    mesh.ready("default")?;
    let below = lateen_e2e::mesh::descendants(mesh.pid);
    ensure!(below.len() > 8, "a mesh has processes: {below:?}");
    let namespaces = |pids: &[u32]| -> std::collections::BTreeSet<String> {
        pids.iter().flat_map(|p| ["net", "user", "pid"].map(|k| std::fs::read_link(format!("/proc/{p}/ns/{k}")).map(|l| l.display().to_string()).unwrap_or_default())).collect()
    };
    let own: std::collections::BTreeSet<String> = namespaces(&below).difference(&namespaces(&[std::process::id()])).cloned().collect();
    ensure!(own.len() > 5, "each pod is a network namespace: {own:?}");
    let name = mesh.name.clone();
    mesh.stop()?;
    wait_until("every process of the mesh gone", Duration::from_secs(5), || Ok(!below.iter().any(|p| std::path::Path::new(&format!("/proc/{p}")).exists())))?;
    let all: Vec<u32> = std::fs::read_dir("/proc")?.flatten().filter_map(|e| e.file_name().to_string_lossy().parse().ok()).collect();
    let left: Vec<String> = own.intersection(&namespaces(&all)).filter(|n| !n.is_empty()).cloned().collect();
    ensure!(left.is_empty(), "namespaces still held by a process: {left:?}");
    ensure!(mounts()? == mounts_before && links()? == links_before, "mounts or links left on the host: {}", census()?);
    let unix = std::fs::read_to_string("/proc/net/unix")?;
    ensure!(!unix.contains(&name), "a socket is left: {name}");
    // The same after a kill that cannot be caught.
    let mesh = Mesh::start(person, &[("app.yaml", &app())], &[])?;
    let below = lateen_e2e::mesh::descendants(mesh.pid);
    Command::new("kill").args(["-KILL", &mesh.pid.to_string()]).status()?;
    wait_until("every process gone after SIGKILL", Duration::from_secs(10), || {
        Ok(!below.iter().filter(|p| **p != mesh.pid).any(|p| std::path::Path::new(&format!("/proc/{p}")).exists()))
    })?;
    Ok(())
}

fn live_edit(person: Person) -> Result<()> {
    let mesh = Mesh::start(person, &[("app.yaml", &app()), ("canary.yaml", &yaml::split("default", "backend", 100, 0))], &[])?;
    mesh.ready("default")?;
    let body = || -> Result<String> { Ok(mesh.get("default", CLIENT, &["http://backend/"])?.body.trim().to_owned()) };
    wait_until("v1", Duration::from_secs(5), || Ok(body()? == "v1"))?;
    let file = mesh.dir.join("canary.yaml");
    std::fs::write(&file, yaml::split("default", "backend", 0, 100))?;
    wait_until("v2 after saving", Duration::from_secs(5), || Ok(body()? == "v2"))?;
    std::fs::write(&file, yaml::split("default", "backend", 100, 0).replace("weight: 100", "wieght: 100"))?;
    wait_until("the mistake reported", Duration::from_secs(5), || {
        let log = mesh.log()?;
        Ok(log.contains("canary.yaml:") && log.contains("wieght"))
    })?;
    let log = mesh.log()?;
    let line = log.lines().find(|l| l.contains("canary.yaml:")).context("a line")?;
    let place: Vec<&str> = line.split("canary.yaml:").nth(1).unwrap_or("").split(|c: char| !c.is_ascii_digit()).collect();
    ensure!(place.len() >= 2 && place.iter().take(2).all(|n| n.parse::<u32>().is_ok_and(|n| n > 0)), "file:line:column in {line:?}");
    for _ in 0..20 {
        ensure!(body()? == "v2", "the last good configuration keeps serving");
    }
    std::fs::write(&file, yaml::split("default", "backend", 100, 0))?;
    wait_until("v1 after mending", Duration::from_secs(5), || Ok(body()? == "v1"))?;
    std::fs::remove_file(&file)?;
    wait_until("both after removing the rule", Duration::from_secs(5), || {
        let load = mesh.load("default", CLIENT, &["-c", "1", "-qps", "0", "-n", "50", "http://backend/"])?;
        Ok(load.body("v1") > 0 && load.body("v2") > 0)
    })?;
    mesh.stop()?;
    Ok(())
}

fn dead_control_plane(person: Person) -> Result<()> {
    let mesh = Mesh::start(person, &[("app.yaml", &app())], &[])?;
    mesh.ready("default")?;
    let load = std::thread::scope(|scope| -> Result<lateen_e2e::Load> {
        let running = scope.spawn(|| mesh.load("default", CLIENT, &["-c", "4", "-qps", "200", "-t", "8s", "http://backend/"]));
        std::thread::sleep(Duration::from_secs(1));
        let first = mesh.signal("-KILL", &["discovery"])?;
        wait_until("a new control plane", Duration::from_secs(10), || Ok(mesh.find_process(&["discovery"])?.is_some_and(|p| p != first)))?;
        running.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    })?;
    ensure!(load.failed() == 0 && load.code(200) > 1000, "{:?}", load.codes);
    mesh.apply(&yaml::split("default", "backend", 0, 100))?;
    wait_until("the new control plane to push", Duration::from_secs(10), || Ok(mesh.load("default", CLIENT, &["-c", "1", "-qps", "0", "-n", "20", "http://backend/"])?.body("v2") == 20))?;
    mesh.stop()?;
    Ok(())
}

/// 60 s at a fixed rate while weights change every second and one backend pod is deleted and recreated: no failed request.
fn no_loss(person: Person) -> Result<()> {
    let files = app().replace("metadata: {name: backend-v1, namespace: default}\nspec:\n  replicas: 1", "metadata: {name: backend-v1, namespace: default}\nspec:\n  replicas: 2");
    let mesh = Mesh::start(person, &[("app.yaml", &files), ("canary.yaml", &yaml::split("default", "backend", 90, 10))], &[])?;
    mesh.ready("default")?;
    let load = std::thread::scope(|scope| -> Result<lateen_e2e::Load> {
        let running = scope.spawn(|| mesh.load("default", CLIENT, &["-c", "8", "-qps", "300", "-t", "60s", "http://backend/"]));
        let begin = Instant::now();
        let mut second = 0u32;
        while !running.is_finished() {
            second += 1;
            let v2 = if second % 2 == 0 { 10 } else { 50 };
            std::fs::write(mesh.dir.join("canary.yaml"), yaml::split("default", "backend", 100 - v2, v2))?;
            if second % 20 == 10 {
                let pods = mesh.run(&["get", "Pod", "-n", "default", "-o", "json"])?.ok()?;
                let pods: serde_json::Value = serde_json::from_str(&pods)?;
                let one = pods["items"].as_array().into_iter().flatten().find(|p| p["metadata"]["labels"]["version"] == "v1" && p["metadata"]["labels"]["app"] == "backend" && p["metadata"]["deletionTimestamp"].is_null());
                let name = one.context("a backend pod")?["metadata"]["name"].as_str().context("a name")?.to_owned();
                mesh.run(&["delete", "Pod", &name, "-n", "default"])?.ok()?;
            }
            std::thread::sleep((begin + Duration::from_secs(second.into())).saturating_duration_since(Instant::now()));
        }
        running.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    })?;
    ensure!(load.failed() == 0 && load.code(200) > 15_000, "{:?}", load.codes);
    ensure!(load.body("v2") > 1000, "{:?}", load.bodies);
    mesh.stop()?;
    Ok(())
}

fn crashing(person: Person) -> Result<()> {
    let yaml = yaml::join(&[yaml::namespace("default"), yaml::deployment("default", "crash", "v1", 1, "image: curlimages/curl\n        command: [\"sh\", \"-c\", \"echo going down; exit 3\"]\n")]);
    let mesh = Mesh::start(person, &[("base.yaml", &yaml::namespace("default"))], &[])?;
    mesh.apply(&yaml)?;
    wait_until("restarts with back-off", Duration::from_secs(20), || {
        let rows = mesh.run(&["ps", "-n", "default"])?.ok()?;
        Ok(rows.contains("CrashLoopBackOff"))
    })?;
    mesh.log_line("default", "deploy/crash-v1", "crash", &["going down"])?;
    mesh.stop()?;
    Ok(())
}

fn detached(person: Person) -> Result<()> {
    use lateen_e2e::mesh::{free_port, http_get, lateen, scratch};
    let dir = scratch("detached")?;
    std::fs::write(dir.join("app.yaml"), app())?;
    let (ingress, page) = (free_port()?.to_string(), free_port()?.to_string());
    let tls = free_port()?.to_string();
    let dir = dir.display().to_string();
    let name = format!("e2e-detached-{}-{ingress}", std::process::id());
    let up = ["up", &dir, "--name", &name, "--ingress", &ingress, "--ingress-tls", &tls, "--dashboard", &page, "--detach"];
    let said = lateen(person, &up)?;
    ensure!(said.code == 0 && said.text().contains(&page), "{said:?}");
    ensure!(http_get(page.parse()?, "localhost", "/")?.status == 200);
    let second = lateen(person, &up)?;
    ensure!(second.code != 0 && second.text().contains(&name), "a second mesh of the same name must be refused: {second:?}");
    let down = lateen(person, &["down", "--name", &name])?;
    ensure!(down.code == 0, "{down:?}");
    wait_until("the page gone", Duration::from_secs(10), || Ok(http_get(page.parse()?, "localhost", "/")?.status == 0))?;
    let again = lateen(person, &["ps", "--name", &name])?;
    ensure!(again.code != 0, "{again:?}");
    Ok(())
}
