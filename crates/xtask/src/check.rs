//! The checks that need no build: the dependency law, purity, and tidiness.
//!
//! - Reads: `cargo metadata`, and `[package.metadata.lateen]` of each crate.
//! - Rule: the law itself is in ARCHITECTURE.md, «Layers».

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates whose presence in a dependency tree means I/O: sockets, event loops, TLS, netlink, file watching.
const IO_CRATES: &[&str] = &["mio", "tokio", "socket2", "hyper", "h2", "rustls", "tonic", "axum", "nix", "rustix", "notify", "rtnetlink", "hickory-server", "getrandom", "time"];

/// Longest body of a source file, in lines without its tests.
const FILE_LINES_MAX: usize = 600;

/// What a crate says of itself.
struct Place {
    layer: u64,
    half: String,
    pure: bool,
    dependencies: Vec<String>,
}

/// Fails when a crate depends on one of its own or a higher layer, when the halves meet, when a pure crate can do I/O,
/// or when a crate other than `sys` allows unsafe code.
pub fn layers() -> Result<()> {
    let metadata = metadata()?;
    let places = places(&metadata)?;
    let mut wrong = Vec::new();
    for (name, place) in &places {
        for dependency in &place.dependencies {
            let Some(other) = places.get(dependency) else { continue };
            if other.layer >= place.layer {
                wrong.push(format!("{name} (layer {}) depends on {dependency} (layer {})", place.layer, other.layer));
            }
        }
        let reached = reach(&places, name);
        for half in ["control", "data"] {
            let other = if half == "control" { "data" } else { "control" };
            if place.half == half && reached.iter().any(|r| places.get(r).is_some_and(|p| p.half == other)) {
                wrong.push(format!("{name} is of the {half} half and reaches the {other} half"));
            }
        }
        if place.half == "shared" && reached.iter().any(|r| places.get(r).is_some_and(|p| p.half == "control" || p.half == "data")) {
            wrong.push(format!("{name} is shared and reaches one of the halves"));
        }
    }
    let all = resolve(&metadata)?;
    for (name, _) in places.iter().filter(|(_, p)| p.pure) {
        for found in all_reached(&all, name).iter().filter(|d| IO_CRATES.contains(&d.as_str())) {
            wrong.push(format!("{name} is pure and has {found} in its dependency tree"));
        }
    }
    for (name, directory) in crates(&metadata)? {
        let root = ["src/lib.rs", "src/main.rs"].iter().map(|f| directory.join(f)).find(|p| p.exists()).context("a crate root")?;
        let text = std::fs::read_to_string(&root)?;
        if name != "lateen-sys" && !text.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("{name} does not say #![forbid(unsafe_code)]"));
        }
    }
    report("layers", &wrong)
}

/// Fails on a source file without its module doc, a file far too long, a port or well-known name outside `base`,
/// a path in docs/where.md that is not there, or a `Twin:` that does not exist or does not point back.
pub fn tidy() -> Result<()> {
    let mut wrong = Vec::new();
    let files = rust_files(Path::new("crates"))?;
    for file in &files {
        let shown = file.display().to_string();
        if shown.contains("/gen/") {
            continue;
        }
        let text = std::fs::read_to_string(file)?;
        if !text.trim_start().starts_with("//!") {
            wrong.push(format!("{shown}: no module doc"));
        }
        let body = text.split("#[cfg(test)]\nmod ").next().unwrap_or(&text);
        let lines = body.lines().count();
        if lines > FILE_LINES_MAX && !shown.contains("/tests/") {
            wrong.push(format!("{shown}: {lines} lines; at most {FILE_LINES_MAX}"));
        }
        let constants_live_here = shown.starts_with("crates/base/") || shown.contains("/tests/") || shown.contains("/examples/") || shown.starts_with("crates/xtask");
        if !constants_live_here {
            for (number, line) in body.lines().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                for literal in ["15000", "15001", "15006", "15010", "15012", "15014", "15020", "15021", "15090", "\"istio-injection\"", "\"security.istio.io/tlsMode\""] {
                    // A quoted number is text for somebody else, such as the value of a sysctl.
                    let quoted = !literal.starts_with('"') && code.contains(&format!("\"{literal}\""));
                    if code.contains(literal) && !quoted && !code.trim_start().starts_with('*') {
                        wrong.push(format!("{shown}:{}: {literal} belongs to a constant in base", number + 1));
                    }
                }
            }
        }
    }
    wrong.extend(twins(&files)?);
    for path in backticked_paths(Path::new("docs/where.md"))? {
        if !Path::new(&path).exists() {
            wrong.push(format!("docs/where.md: {path} does not exist"));
        }
    }
    report("tidy", &wrong)
}

/// Twins that do not exist, or that do not point back: a file must be named by its twin, by its folder or by a folder above.
fn twins(files: &[PathBuf]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for file in files {
        let shown = file.strip_prefix("crates")?.display().to_string();
        for named in twins_of(&std::fs::read_to_string(file)?) {
            let target = Path::new("crates").join(&named);
            if !target.exists() {
                wrong.push(format!("crates/{shown}: its twin {named} does not exist"));
            } else if !points_back(&target, &shown)? {
                wrong.push(format!("crates/{shown}: its twin {named} does not point back"));
            }
        }
    }
    Ok(wrong)
}

/// The paths after `Twin:` in a module doc, without `crates/`.
fn twins_of(text: &str) -> Vec<String> {
    let mut named = Vec::new();
    let mut within = false;
    for line in text.lines().take_while(|line| line.starts_with("//!")) {
        within = line.starts_with("//! - Twin:") || (within && line.starts_with("//!   "));
        if within {
            named.extend(line.split('`').skip(1).step_by(2).filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()) && !word.contains(' ')).map(|word| word.trim_end_matches('/').to_owned()));
        }
    }
    // A word without a slash is a crate as a whole, which has no one file to point back.
    named.retain(|word| word.contains('/'));
    named
}

/// Whether a file of `target` names `shown` as its twin, or a folder that holds it.
fn points_back(target: &Path, shown: &str) -> Result<bool> {
    let files = if target.is_dir() { rust_files(target)? } else { vec![target.to_owned()] };
    for file in files {
        if twins_of(&std::fs::read_to_string(file)?).iter().any(|twin| Path::new(shown).starts_with(twin)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn report(what: &str, wrong: &[String]) -> Result<()> {
    if wrong.is_empty() {
        println!("xtask {what}: fine");
        return Ok(());
    }
    for line in wrong {
        eprintln!("xtask {what}: {line}");
    }
    bail!("xtask {what}: {} to mend", wrong.len())
}

fn metadata() -> Result<Value> {
    let output = Command::new("cargo").args(["metadata", "--format-version=1", "--offline"]).output()?;
    let output = if output.status.success() { output } else { Command::new("cargo").args(["metadata", "--format-version=1"]).output()? };
    serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn crates(metadata: &Value) -> Result<Vec<(String, PathBuf)>> {
    packages(metadata)
        .filter(|p| p["source"].is_null())
        .map(|p| {
            let manifest = Path::new(p["manifest_path"].as_str().context("manifest_path")?);
            Ok((p["name"].as_str().context("name")?.to_owned(), manifest.parent().context("a folder")?.to_owned()))
        })
        .filter(|found| found.as_ref().is_ok_and(|(_, dir)| dir.join("src").exists()) || found.is_err())
        .collect()
}

fn places(metadata: &Value) -> Result<BTreeMap<String, Place>> {
    let mut places = BTreeMap::new();
    for package in packages(metadata).filter(|p| p["source"].is_null()) {
        let name = package["name"].as_str().context("name")?;
        let lateen = &package["metadata"]["lateen"];
        let layer = lateen["layer"].as_u64().with_context(|| format!("{name}: [package.metadata.lateen] layer"))?;
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let dependencies = dependencies.filter(|d| d["kind"] != "dev").filter_map(|d| d["name"].as_str()).map(str::to_owned).collect();
        let half = lateen["half"].as_str().with_context(|| format!("{name}: half"))?.to_owned();
        places.insert(name.to_owned(), Place { layer, half, pure: lateen["pure"] == true, dependencies });
    }
    Ok(places)
}

fn reach(places: &BTreeMap<String, Place>, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(name) = open.pop() {
        for dependency in places.get(&name).map(|p| p.dependencies.as_slice()).unwrap_or_default() {
            if places.contains_key(dependency) && seen.insert(dependency.clone()) {
                open.push(dependency.clone());
            }
        }
    }
    seen
}

/// Package id → (name, ids of its ordinary dependencies), as cargo resolved them.
type Graph = BTreeMap<String, (String, Vec<String>)>;

fn resolve(metadata: &Value) -> Result<Graph> {
    let names: BTreeMap<&str, &str> = packages(metadata).filter_map(|p| Some((p["id"].as_str()?, p["name"].as_str()?))).collect();
    let mut graph = Graph::new();
    for node in metadata["resolve"]["nodes"].as_array().context("resolve")? {
        let id = node["id"].as_str().context("id")?;
        let ordinary = |d: &&Value| d["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k["kind"].is_null() && on_linux(&k["target"])));
        let dependencies = node["deps"].as_array().into_iter().flatten().filter(ordinary);
        let dependencies = dependencies.filter_map(|d| d["pkg"].as_str()).map(str::to_owned).collect();
        graph.insert(id.to_owned(), (names.get(id).copied().unwrap_or_default().to_owned(), dependencies));
    }
    Ok(graph)
}

/// Dependencies for other systems do not count.
fn on_linux(target: &Value) -> bool {
    target.as_str().is_none_or(|t| !t.contains("windows") && !t.contains("wasm") && !t.contains("wasi") && !t.contains("hermit"))
}

fn all_reached(graph: &Graph, name: &str) -> BTreeSet<String> {
    let mut open: Vec<&String> = graph.iter().filter(|(_, (n, _))| n == name).map(|(id, _)| id).collect();
    let (mut seen, mut names) = (BTreeSet::new(), BTreeSet::new());
    while let Some(id) = open.pop() {
        if let Some((name, dependencies)) = graph.get(id).filter(|_| seen.insert(id)) {
            names.insert(name.clone());
            open.extend(dependencies);
        }
    }
    names
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn backticked_paths(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(text.split('`').skip(1).step_by(2).filter(|t| t.contains('/') && !t.contains(' ')).map(|t| t.split(':').next().unwrap_or(t).to_owned()).collect())
}
