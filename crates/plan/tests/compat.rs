//! docs/compat/envoy.md is what the readers say: the types that are understood, and each field that is read, refused or not looked at.
//!
//! - Reads: [`TYPES`]; the fields of the generated messages in `envoy-api/src/gen`; the sources of this crate for `.field` in a file
//!   that names the message, and for `Invalid::unsupported` in a function that takes it.
//! - Rule: `cargo xtask compat` writes the file; otherwise the test fails when it is out of date.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use lateen_plan::understood::TYPES;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const FILE: &str = "docs/compat/envoy.md";

/// The messages that carry most of a configuration: generated file, and struct in it.
const MESSAGES: &[(&str, &str)] = &[
    ("envoy.config.listener.v3", "Listener"),
    ("envoy.config.listener.v3", "FilterChain"),
    ("envoy.config.listener.v3", "FilterChainMatch"),
    ("envoy.extensions.filters.network.http_connection_manager.v3", "HttpConnectionManager"),
    ("envoy.extensions.filters.network.tcp_proxy.v3", "TcpProxy"),
    ("envoy.config.route.v3", "RouteConfiguration"),
    ("envoy.config.route.v3", "VirtualHost"),
    ("envoy.config.route.v3", "Route"),
    ("envoy.config.route.v3", "RouteMatch"),
    ("envoy.config.route.v3", "RouteAction"),
    ("envoy.config.route.v3", "RetryPolicy"),
    ("envoy.config.route.v3", "RedirectAction"),
    ("envoy.config.route.v3", "DirectResponseAction"),
    ("envoy.config.cluster.v3", "Cluster"),
    ("envoy.config.cluster.v3", "OutlierDetection"),
    ("envoy.extensions.upstreams.http.v3", "HttpProtocolOptions"),
    ("envoy.config.endpoint.v3", "ClusterLoadAssignment"),
    ("envoy.config.endpoint.v3", "LocalityLbEndpoints"),
    ("envoy.config.endpoint.v3", "LbEndpoint"),
    ("envoy.extensions.transport_sockets.tls.v3", "DownstreamTlsContext"),
    ("envoy.extensions.transport_sockets.tls.v3", "UpstreamTlsContext"),
    ("envoy.extensions.transport_sockets.tls.v3", "CommonTlsContext"),
    ("envoy.extensions.transport_sockets.tls.v3", "CertificateValidationContext"),
    ("envoy.extensions.filters.http.fault.v3", "HttpFault"),
    ("envoy.extensions.filters.http.cors.v3", "CorsPolicy"),
    ("envoy.extensions.filters.http.router.v3", "Router"),
    ("envoy.config.rbac.v3", "Rbac"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// This crate's sources without tests.
fn sources() -> Vec<String> {
    let all = rust_files(&root().join("crates/plan/src"));
    all.iter().map(|file| fs::read_to_string(file).unwrap().split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()).collect()
}

/// Fields of a generated message at the top level of its file, as the proto names them.
fn fields(file: &str, message: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(format!("crates/envoy-api/src/gen/{file}.rs"))).unwrap();
    let begin = text.find(&format!("\npub struct {message} {{")).unwrap_or_else(|| panic!("{file} has no {message}"));
    let body = text[begin..].split("\n}").next().unwrap();
    Regex::new(r"(?m)^ {4}pub (?:r#)?(\w+):").unwrap().captures_iter(body).map(|f| f[1].to_owned()).collect()
}

/// What is refused: message that the refusing function takes (or nothing) → (field, why).
fn refusals(sources: &[String]) -> BTreeMap<String, BTreeSet<(String, String)>> {
    let taken = Regex::new(r"\bfn \w+\([^)]*: &(?:\w+::)+(\w+)").unwrap();
    let refusal = Regex::new(r#"(?:unsupported\(|refuse\(.*?, )"([\w.]+)"(?:, (?:format!\()?"([^"]*)")?"#).unwrap();
    let variable = Regex::new(r"\{[^}]*\}").unwrap();
    let mut refused: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for text in sources {
        let mut message = String::new();
        for line in text.lines() {
            if line.contains("fn ") {
                message = taken.captures(line).map(|found| found[1].to_owned()).unwrap_or_default();
            }
            for found in refusal.captures_iter(line) {
                let why = found.get(2).map(|why| variable.replace_all(why.as_str(), "…").replace('`', "")).unwrap_or_default();
                refused.entry(message.clone()).or_default().insert((found[1].to_owned(), why));
            }
        }
    }
    refused
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ") }
}

fn reasons(page: &mut String, refused: &BTreeSet<(String, String)>) {
    for (field, why) in refused {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        writeln!(page, "  - `{field}`{why}").unwrap();
    }
}

#[test]
fn the_support_matrix_is_what_the_readers_say() {
    let sources = sources();
    let mut refused = refusals(&sources);
    let mut page = String::from(
        "# What the proxy understands of Envoy's configuration\n\n\
         Written by `cargo xtask compat`; do not edit. A type that is not in the first table is refused with a NACK, and so is every\n\
         field under *refused*; the text of the NACK names the field. Fields that are *not looked at* are accepted and change nothing:\n\
         statistics, tuning of Envoy's own machinery, and features that Istio's control plane does not ask for.\n\n\
         ## Types\n\n| Where | Type |\n|---|---|\n",
    );
    for (place, name) in TYPES {
        writeln!(page, "| {place} | `{name}` |").unwrap();
    }
    page.push_str("\n## Fields\n");
    for (file, message) in MESSAGES {
        let named = Regex::new(&format!(r"::{message}\b")).unwrap();
        let text: String = sources.iter().filter(|text| named.is_match(text)).map(String::as_str).collect();
        let why = refused.remove(*message).unwrap_or_default();
        let no = |field: &String| why.iter().any(|(refused, _)| refused == field);
        let yes = |field: &String| Regex::new(&format!(r"\.(?:r#)?{field}\b")).unwrap().is_match(&text);
        let all = fields(file, message);
        let read: Vec<String> = all.iter().filter(|f| !no(f) && yes(f)).cloned().collect();
        let unread: Vec<String> = all.iter().filter(|f| !no(f) && !yes(f)).cloned().collect();
        writeln!(page, "\n### {message}\n\n`{file}`\n\n- Read: {}\n- Not looked at: {}\n- Refused:{}", list(&read), list(&unread), if why.is_empty() { " nothing" } else { "" }).unwrap();
        reasons(&mut page, &why);
    }
    page.push_str("\n### Elsewhere\n\nRefused in other messages:\n\n");
    for (message, why) in &refused {
        writeln!(page, "- {}", if message.is_empty() { "inside several messages" } else { message }).unwrap();
        reasons(&mut page, why);
    }
    let path = root().join(FILE);
    if std::env::var_os("UPDATE_COMPAT").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == page, "{FILE} is out of date; run cargo xtask compat");
}
