//! One file per subcommand.
//!
//! - Rule: a subcommand is a function from its flags and a [`Context`] to an exit code.

mod analyze;
mod app;
mod apply;
mod dashboard;
mod delete;
mod discovery;
mod down;
mod exec;
mod get;
mod logs;
mod pilot_agent;
mod proxy;
mod proxy_config;
mod proxy_status;
mod ps;
mod sidecar;
mod up;
mod validate;
mod version;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use crate::{
    args::{Cli, Command},
    client::Client,
    environment,
};

/// What every subcommand may need.
pub(crate) struct Context {
    /// Name of the mesh.
    pub(crate) mesh: String,
    /// Folder with its keys and sockets.
    pub(crate) state_dir: PathBuf,
}

impl Context {
    fn new(mesh: &str) -> Self {
        Self { mesh: mesh.to_owned(), state_dir: environment::state_dir(mesh) }
    }

    /// A client of the running mesh.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.mesh, &self.state_dir)
    }
}

/// Exit code where findings fail a command, as istioctl's.
pub(crate) const EXIT_FINDINGS: u8 = 79;

/// Names by which pods find the built-in programs.
const LINKS: &[&str] = &["http-echo", "curl", "httpbin", "fake-service", "fortio", "nginx", "helloworld", "tcp-echo", "pilot-agent", "lateen"];

/// A second start of this binary inside the sandbox; `None` on an ordinary start.
pub(crate) fn stage(argv: &[String]) -> Option<ExitCode> {
    lateen_local::dispatch(argv, &lateen_local::Hooks { image: lateen_apps::lookup, programs: LINKS })
}

/// The program that `argv[0]` names, where it is a link.
pub(crate) fn by_program_name(argv: &[String]) -> Option<ExitCode> {
    let name = argv.first()?.rsplit('/').next()?;
    match name {
        "pilot-agent" => Some(pilot_agent::run(argv.get(1..).unwrap_or_default())),
        "envoy" => {
            let mut proxy = vec!["lateen".to_owned(), "proxy".to_owned()];
            proxy.extend(argv.iter().skip(1).cloned());
            Some(main(&proxy))
        }
        _ => {
            let program = lateen_apps::program(name)?;
            let mut app = vec![program.name.to_owned()];
            app.extend(argv.iter().skip(1).cloned());
            Some(app::run(&app))
        }
    }
}

/// Everything else.
pub(crate) fn main(argv: &[String]) -> ExitCode {
    // Programs take their arguments as they are, `--help` included.
    if argv.get(1).is_some_and(|word| word == "app") {
        return app::run(argv.get(2..).unwrap_or_default());
    }
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(error) => {
            // Printing fails only where nobody reads.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let context = Context::new(&cli.mesh);
    match cli.command {
        Command::Up(flags) => up::run(&context, flags),
        Command::Down(flags) => down::run(&context, &flags),
        Command::Ps(flags) => block_on(ps::run(&context, &flags)),
        Command::Logs(flags) => block_on(logs::run(&context, &flags)),
        Command::Exec(flags) => block_on(exec::run(&context, &flags)),
        Command::Apply(flags) => block_on(apply::run(&context, &flags)),
        Command::Delete(flags) => block_on(delete::run(&context, &flags)),
        Command::Get(flags) => block_on(get::run(&context, &flags)),
        Command::Analyze(flags) => block_on(analyze::run(&context, &flags)),
        Command::Validate(flags) => validate::run(&flags),
        Command::ProxyStatus(flags) => block_on(proxy_status::run(&context, &flags)),
        Command::ProxyConfig(flags) => block_on(proxy_config::run(&context, &flags)),
        Command::Dashboard(flags) => block_on(dashboard::run(&context, &flags)),
        Command::Version(flags) => block_on(version::run(&context, &flags)),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "lateen", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Proxy(flags) => proxy::run(flags),
        Command::Sidecar(flags) => sidecar::run(&flags),
        Command::Discovery(flags) => discovery::run(flags),
        Command::App { argv } => Ok(app::run(&argv)),
    }
}

/// Runs a client command on one thread.
fn block_on(future: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// A Go duration from the place called `name`.
///
/// # Errors
/// Names the place and the form wanted.
pub(crate) fn duration(name: &str, text: &str) -> Result<std::time::Duration> {
    lateen_base::go_duration::parse(text).map_err(|_| anyhow::anyhow!("{name}: `{text}` is no duration; write it like 24h, 90s or 500ms"))
}

/// Namespace on the command line, or `default`.
pub(crate) fn namespace(given: Option<&String>) -> &str {
    given.map_or(lateen_base::names::DEFAULT_NAMESPACE, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linked_program_has_a_link() {
        for program in lateen_apps::PROGRAMS {
            assert_eq!(LINKS.contains(&program.name), program.linked, "{}", program.name);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
