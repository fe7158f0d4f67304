//! What comes from the environment: folders, colour, log level.
//!
//! - Reads: `LATEEN_HOME`, `XDG_STATE_HOME`, `HOME`, `NO_COLOR`, `LATEEN_LOG`, `BROWSER`.
//! - Rule: the only file that reads environment variables; the rest gets values.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

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
///
/// A proxy in this process may change the levels afterwards, at its admin interface's `/logging`.
pub(crate) fn start_log(filter: &str) {
    let filter = variable("LATEEN_LOG").unwrap_or_else(|| filter.to_owned());
    let parsed = EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new("warn"));
    let (layer, handle) = reload::Layer::new(parsed);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour());
    // A second call in one process is harmless: the first log stays.
    let _ = tracing_subscriber::registry().with(layer).with(lines).try_init();
    let levels = Mutex::new(Levels { all: filter, parts: BTreeMap::new() });
    lateen_proxy::admin::logging::install(Box::new(move |part, level| {
        let mut levels = levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.change(part, level)?;
        let text = levels.text();
        let filter = EnvFilter::try_new(&text).map_err(|error| format!("{error}\n"))?;
        handle.reload(filter).map_err(|error| format!("{error}\n"))?;
        Ok(text)
    }));
}

/// Parts of the proxy whose level can be set alone: its modules.
const PARTS: &[&str] = &["admin", "cluster", "connection", "filters", "http", "listener", "network", "server", "transport", "worker", "xds"];

/// The log levels in force.
struct Levels {
    all: String,
    parts: BTreeMap<&'static str, String>,
}

impl Levels {
    /// Sets the level of one part, or of everything; an empty level changes nothing.
    fn change(&mut self, part: Option<&str>, level: &str) -> Result<(), String> {
        match part {
            _ if level.is_empty() => Ok(()),
            None => {
                self.all = level.to_owned();
                self.parts.clear();
                Ok(())
            }
            Some(part) => match PARTS.iter().find(|known| **known == part) {
                Some(known) => {
                    self.parts.insert(known, level.to_owned());
                    Ok(())
                }
                None => Err(format!("unknown logger {part:?}; use one of {}\n", PARTS.join(", "))),
            },
        }
    }

    /// As `LATEEN_LOG` takes it.
    fn text(&self) -> String {
        self.parts.iter().fold(self.all.clone(), |text, (part, level)| format!("{text},lateen_proxy::{part}={level}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_parts_add_to_the_level_of_all() {
        let mut levels = Levels { all: "info".into(), parts: BTreeMap::new() };
        assert_eq!(levels.change(Some("http"), "debug"), Ok(()));
        assert_eq!(levels.text(), "info,lateen_proxy::http=debug");
        assert!(levels.change(Some("nope"), "debug").is_err());
        assert_eq!(levels.change(None, "warn"), Ok(()));
        assert_eq!(levels.text(), "warn");
    }
}
