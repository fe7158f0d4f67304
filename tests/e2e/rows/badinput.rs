//! Bad input: each gives a non-zero exit code and an error with its place and a remedy; on a live mesh the last good state stays.

use crate::Own;
use anyhow::{Result, ensure};
use lateen_e2e::{Person, mesh, yaml};

pub const OWN: &[(&str, Own)] = &[("badinput::each_kind_of_bad_file_is_refused_with_its_place", files)];

/// (what, file content, words the message must have, whether line and column must be given)
fn cases() -> Vec<(&'static str, Vec<u8>, Vec<&'static str>, bool)> {
    let rule = |http: &str| yaml::virtual_service("default", "backend", http);
    let good = yaml::service("default", "backend");
    let text = |s: String| s.into_bytes();
    vec![
        ("unknown field", text(rule("  - route:\n    - destination: {host: backend, subsett: v1}\n")), vec!["subsett", "subset"], true),
        ("wrong type", text(rule("  - route:\n    - destination: {host: backend}\n      weight: many\n")), vec!["weight"], true),
        ("weight sum 0", text(rule("  - route:\n    - destination: {host: backend, subset: v1}\n      weight: 0\n    - destination: {host: backend, subset: v2}\n      weight: 0\n")), vec!["weight"], true),
        ("invalid regex", text(rule("  - match:\n    - uri: {regex: \"a(b\"}\n    route:\n    - destination: {host: backend}\n")), vec!["regex", "a(b"], true),
        ("invalid duration", text(rule("  - timeout: 5sec\n    route:\n    - destination: {host: backend}\n")), vec!["5sec"], true),
        ("negative retries", text(rule("  - retries: {attempts: -1}\n    route:\n    - destination: {host: backend}\n")), vec!["attempts"], true),
        ("two documents with one name", text(format!("{good}---\n{good}")), vec!["backend", "already defined"], true),
        ("duplicate key", text("apiVersion: v1\nkind: Service\nkind: Service\nmetadata: {name: x}\n".into()), vec!["kind"], true),
        ("unknown kind", text("apiVersion: example.com/v1\nkind: Gizmo\nmetadata: {name: x}\n".into()), vec!["Gizmo"], true),
        ("syntax", text("apiVersion: v1\nkind: [unclosed\n".into()), vec![], true),
        ("binary", (0u16..2048).map(|n| (n % 251) as u8).collect(), vec!["bad.yaml"], false),
        ("empty", Vec::new(), vec!["bad.yaml"], false),
        ("1 MiB of YAML", text(format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big, namespace: default}}\ndata:\n{}", "  k: \"0123456789012345678901234567890123456789\"\n".repeat(24_000))), vec!["bad.yaml"], false),
        (
            "alias bomb",
            text("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n".into()),
            vec!["bad.yaml"],
            false,
        ),
    ]
}

fn has_place(text: &str) -> bool {
    text.match_indices("bad.yaml:").any(|(at, found)| {
        let rest: Vec<&str> = text.get(at + found.len()..).unwrap_or("").splitn(3, ':').collect();
        let number = |s: Option<&&str>| s.is_some_and(|s| s.chars().take_while(char::is_ascii_digit).count() > 0);
        number(rest.first()) && rest.first().is_some_and(|s| s.chars().all(|c| c.is_ascii_digit())) && number(rest.get(1))
    })
}

fn files(person: Person) -> Result<()> {
    for (what, content, words, place) in cases() {
        let dir = mesh::scratch("bad")?;
        std::fs::write(dir.join("bad.yaml"), &content)?;
        let path = dir.display().to_string();
        let said = mesh::lateen(person, &["up", &path, "--name", "e2e-bad", "--ingress", &mesh::free_port()?.to_string(), "--dashboard", &mesh::free_port()?.to_string()])?;
        let text = said.text();
        ensure!(said.code != 0, "{what}: exit code 0\n{text}");
        ensure!(!text.contains("panicked"), "{what}: {text}");
        for word in &words {
            ensure!(text.contains(word), "{what}: no {word:?} in\n{text}");
        }
        ensure!(text.contains("bad.yaml"), "{what}: no file named in\n{text}");
        ensure!(!place || has_place(&text), "{what}: no line and column in\n{text}");
        ensure!(text.len() < 20_000, "{what}: {} bytes of message", text.len());
    }
    let missing = mesh::lateen(person, &["up", "/nonexistent/folder", "--name", "e2e-bad"])?;
    ensure!(missing.code != 0 && missing.text().contains("/nonexistent/folder"), "{missing:?}");
    let dir = mesh::scratch("unreadable")?;
    std::fs::write(dir.join("bad.yaml"), "x")?;
    if person == Person::Ordinary {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(dir.join("bad.yaml"), std::fs::Permissions::from_mode(0o000))?;
        let said = mesh::lateen(person, &["up", &dir.display().to_string(), "--name", "e2e-bad"])?;
        ensure!(said.code != 0 && said.text().contains("bad.yaml"), "{said:?}");
    }
    Ok(())
}
