//! What comes from the environment: folders, colour, log level.
//!
//! - Reads: `LATEEN_HOME`, `XDG_STATE_HOME`, `HOME`, `NO_COLOR`, `LATEEN_LOG`, `BROWSER`.
//! - Rule: the only file that reads environment variables; the rest gets values.

use std::{collections::BTreeMap, io::IsTerminal as _, path::PathBuf};

/// Folder of one mesh: keys, sockets, logs.
///
/// `LATEEN_HOME` decides, else `$XDG_STATE_HOME/lateen`, else `~/.local/state/lateen`.
pub(crate) fn state_dir(mesh: &str) -> PathBuf {
    let base = variable("LATEEN_HOME").map(PathBuf::from).unwrap_or_else(|| {
        let state = variable("XDG_STATE_HOME").map(PathBuf::from);
        let home = || variable("HOME").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from).join(".local/state");
        state.unwrap_or_else(home).join("lateen")
    });
    base.join(mesh)
}

/// A variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// All variables, for the built-in programs.
pub(crate) fn all() -> BTreeMap<String, String> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())).collect()
}

/// Whether to colour what goes to standard error.
pub(crate) fn colour() -> bool {
    variable("NO_COLOR").is_none() && std::io::stderr().is_terminal()
}

/// Sends the program's own log to standard error; `filter` is the level where `LATEEN_LOG` says nothing.
pub(crate) fn start_log(filter: &str) {
    let filter = variable("LATEEN_LOG").unwrap_or_else(|| filter.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // A second call in one process is harmless: the first log stays.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour()).try_init();
}
