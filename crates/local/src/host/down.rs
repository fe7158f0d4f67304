//! `down`: stops a mesh and waits until nothing of it is left.
//!
//! - Rule: the lock is the truth: it is free when the host stage has gone, and with it goes everything in the sandbox.

use crate::state_dir;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// What `down` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// The mesh was running and has stopped.
    Stopped,
    /// There was none; leftovers of a killed one are gone.
    NotRunning,
    /// It did not stop in time and was killed.
    Killed,
}

/// Longer than the host stage takes to give up waiting and kill.
const STOP_MAX: Duration = Duration::from_secs(25);
/// How often to look: a stop takes some tenths of a second.
const LOOK: Duration = Duration::from_millis(10);

/// Stops the mesh in this folder. Blocks until it has gone.
///
/// # Errors
/// When the folder cannot be read or the process belongs to another user.
pub fn down(folder: &Path) -> io::Result<Down> {
    let Some(pid) = state_dir::running(folder)? else {
        state_dir::remove_sockets(folder);
        return Ok(Down::NotRunning);
    };
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    if gone(folder, STOP_MAX)? {
        return Ok(Down::Stopped);
    }
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    gone(folder, STOP_MAX)?;
    state_dir::remove_sockets(folder);
    Ok(Down::Killed)
}

fn gone(folder: &Path, limit: Duration) -> io::Result<bool> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if state_dir::running(folder)?.is_none() {
            return Ok(true);
        }
        std::thread::sleep(LOOK);
    }
    Ok(false)
}
