//! The rows of the tutorials, run on one shared mesh as each kind of user, and the mesh-wide ones on meshes of their own.
//!
//! - Reads: `LATEEN_E2E_AS` = `caller`, `ordinary` or `both` (default; `ordinary` needs root to step down from).
//! - Rule: the last line is the test runner's own count.

#![forbid(unsafe_code)]

mod badinput;
mod dataplane;
mod edge;
mod lifecycle;
mod observe;
mod resilience;
mod routing;
mod security;
mod swap;

use anyhow::Result;
use lateen_e2e::{Mesh, Person, yaml};
use libtest_mimic::{Arguments, Failed, Trial};
use std::sync::{Arc, OnceLock};

/// A mesh that many tests share; started by the first that needs it.
struct Lab {
    person: Person,
    mesh: OnceLock<Result<Mesh, String>>,
}

impl Lab {
    fn mesh(&self) -> Result<&Mesh> {
        let started = self.mesh.get_or_init(|| Mesh::start(self.person, &[("base.yaml", &yaml::namespace("default"))], &[]).map_err(|e| format!("{e:#}")));
        started.as_ref().map_err(|e| anyhow::anyhow!("the shared mesh did not start: {e}"))
    }
}

/// A test on the shared mesh: it gets the mesh and a namespace of its own.
type Shared = fn(&Mesh, &str) -> Result<()>;
/// A test that starts what it needs.
type Own = fn(Person) -> Result<()>;

fn main() {
    let arguments = Arguments::from_args();
    let root = std::process::Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    let wish = std::env::var("LATEEN_E2E_AS").unwrap_or_else(|_| "both".into());
    let persons: Vec<Person> = match (wish.as_str(), root) {
        ("caller", _) | (_, false) => vec![Person::Caller],
        ("ordinary", true) => vec![Person::Ordinary],
        _ => vec![Person::Caller, Person::Ordinary],
    };
    let labs: Vec<Arc<Lab>> = persons.iter().map(|p| Arc::new(Lab { person: *p, mesh: OnceLock::new() })).collect();
    let mut trials = Vec::new();
    for lab in &labs {
        let who = if lab.person == Person::Ordinary { "user" } else { "root" };
        let shared = [routing::SHARED, resilience::SHARED, security::SHARED, edge::SHARED, observe::SHARED, dataplane::SHARED].concat();
        for (name, test) in shared {
            let lab = Arc::clone(lab);
            let namespace = name.split("::").last().unwrap_or(name).replace('_', "-").chars().take(40).collect::<String>().trim_end_matches('-').to_owned();
            let label = format!("{who}::{name}");
            trials.push(Trial::test(label.clone(), move || {
                let mesh = lab.mesh().map_err(failed)?;
                let once = |namespace: &str| {
                    let outcome = test(mesh, namespace);
                    // A test gives its pods back, so that the machine is free for the next.
                    let _ = mesh.run(&["delete", "Namespace", namespace]);
                    outcome
                };
                twice(&label, || once(&namespace), || once(&format!("{namespace}-again")))
            }));
        }
        let own = [security::OWN, lifecycle::OWN, swap::OWN, badinput::OWN, observe::OWN, edge::OWN].concat();
        for (name, test) in own {
            let person = lab.person;
            let label = format!("{who}::{name}");
            trials.push(Trial::test(label.clone(), move || twice(&label, || test(person), || test(person))));
        }
    }
    let arguments = Arguments { test_threads: arguments.test_threads.or(Some(2)), ..arguments };
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(labs);
    conclusion.exit();
}

/// Runs a test, and once more if it failed, saying so: not every cause of unsteadiness on a busy machine is known to be gone
/// (docs/known-weaknesses.md). A test that fails twice fails.
fn twice(label: &str, first: impl FnOnce() -> Result<()>, second: impl FnOnce() -> Result<()>) -> Result<(), Failed> {
    let Err(error) = first() else { return Ok(()) };
    eprintln!("UNSTEADY {label}: failed, runs once more: {error:#}");
    second().map_err(failed)
}

fn failed(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}
