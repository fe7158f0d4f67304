//! Either half can be swapped: real Envoy as one pod's sidecar under our control plane.

use crate::Own;
use anyhow::{Context, Result, ensure};
use lateen_e2e::{Mesh, Person, wait_until, yaml};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const OWN: &[(&str, Own)] = &[("swap::real_envoy_as_a_sidecar", envoy)];

const CLIENT: &str = "deploy/client-v1";

/// Envoy as `cargo xtask setup` installs it, or `ENVOY`.
fn envoy_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY") {
        return Ok(path.into());
    }
    fn find(dir: &Path) -> Option<PathBuf> {
        for entry in std::fs::read_dir(dir).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                if let Some(found) = find(&path) {
                    return Some(found);
                }
            } else if path.file_name().is_some_and(|n| n == "envoy") && path.metadata().is_ok_and(|m| m.len() > 1 << 20) {
                return Some(path);
            }
        }
        None
    }
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers")).context("no Envoy; run `cargo xtask setup`")
}

fn envoy(person: Person) -> Result<()> {
    let copy = lateen_e2e::mesh::scratch("envoy")?.join("envoy");
    std::fs::copy(envoy_binary()?, &copy)?;
    let with_envoy = |text: String, app: &str| text.replace(&format!("      labels: {{app: {app}, version: v1}}\n    spec"), &format!("      labels: {{app: {app}, version: v1}}\n      annotations: {{sidecar.istio.io/proxyImage: envoyproxy/envoy}}\n    spec"));
    let backend = with_envoy(yaml::echo("default", "backend", "v1", "v1", 1), "backend");
    let client = with_envoy(yaml::client("default", "client"), "client");
    ensure!(backend.contains("proxyImage") && client.contains("proxyImage"));
    let files = yaml::join(&[
        yaml::namespace("default"),
        yaml::service("default", "backend"),
        backend,
        yaml::echo("default", "backend", "v2", "v2", 1),
        client,
        yaml::client("default", "ours"),
        yaml::subsets("default", "backend", ""),
        yaml::split("default", "backend", 50, 50),
    ]);
    let mesh = Mesh::start(person, &[("app.yaml", &files)], &["--envoy", &copy.display().to_string()])?;
    mesh.ready("default")?;
    let info = mesh.exec("default", CLIENT, &["curl", "-s", "http://127.0.0.1:15000/server_info"])?.ok()?;
    ensure!(info.contains("1.40") && info.to_ascii_lowercase().contains("envoy"), "it is real Envoy that answers: {info}");
    // The same routes through Envoy at the client and through ours, to a pod with Envoy (v1) and one with ours (v2).
    for pod in [CLIENT, "deploy/ours-v1"] {
        let load = mesh.load("default", pod, &["-c", "4", "-qps", "0", "-n", "1000", "http://backend/"])?;
        ensure!(load.code(200) == 1000 && (437..=563).contains(&load.body("v2")), "{pod}: {load:?}");
    }
    mesh.apply(&yaml::virtual_service(
        "default",
        "backend",
        "  - match:\n    - headers: {end-user: {exact: jason}}\n    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}\n    route:\n    - destination: {host: backend}\n  - route:\n    - destination: {host: backend, subset: v2}\n",
    ))?;
    for pod in [CLIENT, "deploy/ours-v1"] {
        wait_until("the new rule", Duration::from_secs(5), || Ok(mesh.get("default", pod, &["-H", "end-user: jason", "http://backend/"])?.status == 418))?;
        let load = mesh.load("default", pod, &["-c", "2", "-qps", "0", "-n", "100", "http://backend/"])?;
        ensure!(load.body("v2") == 100, "{pod}: {load:?}");
    }
    mesh.apply("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}\n")?;
    mesh.apply(&yaml::split("default", "backend", 50, 50))?;
    for pod in [CLIENT, "deploy/ours-v1"] {
        wait_until("both subsets under STRICT", Duration::from_secs(5), || {
            let load = mesh.load("default", pod, &["-c", "2", "-qps", "0", "-n", "40", "http://backend/"])?;
            Ok(load.code(200) == 40 && load.body("v1") > 0 && load.body("v2") > 0)
        })?;
    }
    let stats = mesh.exec("default", CLIENT, &["curl", "-s", "http://127.0.0.1:15000/stats?filter=update_rejected"])?.ok()?;
    let rejected: u64 = stats.lines().filter_map(|l| l.rsplit(": ").next()?.trim().parse::<u64>().ok()).sum();
    ensure!(rejected == 0, "Envoy refused something: {stats}");
    mesh.stop()?;
    Ok(())
}
