//! Stand-ins for the images of mesh tutorials: small programs with the flags of the originals.
//!
//! - Reads: an image name with `command` and `args` ([`lookup`]), or a program name with its arguments ([`run`]).
//! - Rule: a stand-in behaves towards the network as its original does; it knows nothing of the mesh.
//! - Limits: only the flags listed in each program; an unknown flag is refused as the original refuses it.
//! - Not here: starting programs in pods (`local`), reading the environment (`cli` passes it in).
#![forbid(unsafe_code)]

mod cli_args;
mod curl;
mod fake_service;
mod fortio;
mod helloworld;
mod http_echo;
mod httpbin;
mod images;
mod net;
mod nginx;
mod server;
mod sleep;
mod tcp_echo;
mod tls;

use std::{collections::BTreeMap, process::ExitCode};

pub use images::{Image, IMAGES, lookup};

/// Environment variables a stand-in was started with, name to value.
pub type Environment = BTreeMap<String, String>;

/// One built-in program.
pub struct Program {
    /// Name after `lateen app`, and the file name under which a link to the binary starts it.
    pub name: &'static str,
    /// One line for the list that `lateen app` prints.
    pub about: &'static str,
    /// Whether pods get a link of this name in their `PATH`. False where the machine's own program serves as well.
    pub linked: bool,
    entry: fn(&[String], &Environment) -> ExitCode,
}

/// All built-in programs.
pub const PROGRAMS: &[Program] = &[
    Program { name: "http-echo", about: "answers every request with one text (hashicorp/http-echo)", linked: true, entry: http_echo::run },
    Program { name: "curl", about: "transfers a URL (curlimages/curl)", linked: true, entry: curl::run },
    Program { name: "httpbin", about: "HTTP request and response service (kennethreitz/httpbin)", linked: true, entry: httpbin::run },
    Program { name: "fake-service", about: "calls its upstreams on every request (nicholasjackson/fake-service)", linked: true, entry: fake_service::run },
    Program { name: "fortio", about: "HTTP load generator and echo server (fortio/fortio)", linked: true, entry: fortio::run },
    Program { name: "nginx", about: "serves a welcome page on port 80 (nginx)", linked: true, entry: nginx::run },
    Program { name: "helloworld", about: "answers /hello with its version (istio/examples-helloworld)", linked: true, entry: helloworld::run },
    Program { name: "tcp-echo", about: "echoes lines of text with a prefix (istio/tcp-echo-server)", linked: true, entry: tcp_echo::run },
    Program { name: "sleep", about: "waits for a time, or `infinity`", linked: false, entry: sleep::run },
];

/// The program called `name`, or `None`.
pub fn program(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}

/// Runs the program `argv[0]` with the arguments that follow and returns its exit code.
///
/// `env` is what the program may know of its environment. Blocks until the program ends.
pub fn run(argv: &[String], env: &Environment) -> ExitCode {
    let Some((name, args)) = argv.split_first() else {
        eprintln!("usage: lateen app PROGRAM [ARGUMENT]...\n\nprograms:");
        for program in PROGRAMS {
            eprintln!("  {:<14} {}", program.name, program.about);
        }
        return ExitCode::from(2);
    };
    match program(name) {
        Some(program) => (program.entry)(args, env),
        None => {
            let names: Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
            eprintln!("lateen app: no built-in program `{name}`; there are {}", names.join(", "));
            ExitCode::from(127)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_names_are_unique() {
        for (index, program) in PROGRAMS.iter().enumerate() {
            assert!(PROGRAMS.iter().skip(index + 1).all(|other| other.name != program.name), "{} twice", program.name);
        }
    }

    #[test]
    fn every_image_names_a_program() {
        for image in IMAGES {
            assert!(program(image.program).is_some(), "{} names {}", image.repository, image.program);
        }
    }
}
