//! Starting programs in pods, and reaping as process 1.
//!
//! - Reads: wait(2), setns(2), capabilities(7).
//! - Rule: the reaper holds the table while it waits and a start holds it while it forks, so no child is missed or waited for twice.
//! - Rule: each program is the leader of its own session, so that a signal reaches everything it started.
//! - Limits: a program that leaves its session is killed with its pod (`kill_all_in`).

use crate::namespace::Namespaces;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code a shell would show: 128 + signal for a killed program.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Capabilities a program keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// All of the sandbox's: the proxy marks its sockets.
    Full,
    /// Those that Docker and Kubernetes leave to a container: no packet marks, no mounts.
    Container,
}

/// A started program.
#[derive(Debug)]
pub struct Running {
    /// Process id in the sandbox, also that of its process group.
    pub pid: i32,
    /// Resolves once, when the program has ended. Lost only when the reaper is dropped.
    pub exit: oneshot::Receiver<Exit>,
}

/// The table of children that somebody waits for. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    waiting: Arc<Mutex<HashMap<i32, oneshot::Sender<Exit>>>>,
}

impl Reaper {
    /// Starts `command` inside a pod's namespaces, or here when `namespaces` is `None`.
    ///
    /// # Errors
    /// When fork, setns or exec fail; the error is then that of the program's start.
    pub fn start(&self, mut command: Command, namespaces: Option<Arc<Namespaces>>, privilege: Privilege) -> io::Result<Running> {
        let prepare = move || -> io::Result<()> {
            nix::unistd::setsid()?;
            if let Some(namespaces) = &namespaces {
                namespaces.enter()?;
            }
            if privilege == Privilege::Container {
                drop_privileges()?;
            }
            Ok(())
        };
        // SAFETY: the closure runs in the forked child and makes system calls only: it takes no lock and allocates no memory on success.
        unsafe { command.pre_exec(prepare) };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        let pid = child.id().cast_signed();
        let (sender, exit) = oneshot::channel();
        waiting.insert(pid, sender);
        Ok(Running { pid, exit })
    }

    /// Collects every child that has ended, and tells those who wait. Call on each `SIGCHLD`.
    pub fn reap(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (pid, exit) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            if let Some(sender) = waiting.remove(&pid.as_raw()) {
                // The receiver may be gone: nobody wants to know any more.
                let _ = sender.send(exit);
            }
        }
    }
}

/// Sends a signal to a program and everything in its session's process group. A program that has gone is no error.
pub fn signal_group(pid: i32, signal: Signal) {
    let _ = killpg(Pid::from_raw(pid), signal);
}

/// Kills every process in the pod's network namespace, wherever its parents are. Returns how many there were.
pub fn kill_all_in(namespaces: &Namespaces) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let own = std::process::id().cast_signed();
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid > 1 && *pid != own && namespaces.holds_process(*pid)).filter(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()).count()
}

/// Takes every capability from the bounding set but those of a container. What a program gets when it is executed is limited by that set.
fn drop_privileges() -> io::Result<()> {
    for capability in 0..=CAPABILITY_LAST {
        if CONTAINER_CAPABILITIES.contains(&capability) {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes one integer and touches no memory of ours.
        let result = unsafe { nix::libc::prctl(nix::libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        // EINVAL: a capability this kernel does not have.
        if result != 0 && Errno::last() != Errno::EINVAL {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The kernel's highest capability number today, with room for more.
const CAPABILITY_LAST: nix::libc::c_ulong = 63;
/// chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write setfcap.
const CONTAINER_CAPABILITIES: [nix::libc::c_ulong; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

/// Gives this process, and every process it starts, memory in small pages only. A small idle process would otherwise hold several
/// mebibytes in huge pages of which it uses a part; measured on an idle sidecar, its memory halves. Source: prctl(2) `PR_SET_THP_DISABLE`.
///
/// # Errors
/// What prctl(2) reports; a kernel without huge pages has nothing to turn off.
pub fn use_small_pages() -> io::Result<()> {
    rustix::thread::disable_transparent_huge_pages(true).map_err(Into::into)
}

/// Everything a supervisor must do to each child's start that is not in `Command`: kept so that callers outside `sys` need no unsafe code.
#[must_use]
pub fn current_executable() -> std::path::PathBuf {
    std::fs::read_link("/proc/self/exe").unwrap_or_else(|_| "/proc/self/exe".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_program_shows_the_shells_code() {
        assert_eq!(Exit::Signal(9).code(), 137);
        assert_eq!(Exit::Code(3).code(), 3);
    }

    #[test]
    fn the_reaper_tells_who_waits() {
        let reaper = Reaper::default();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exit 7"]);
        let mut running = reaper.start(command, None, Privilege::Container).unwrap();
        let exit = loop {
            reaper.reap();
            match running.exit.try_recv() {
                Ok(exit) => break exit,
                Err(oneshot::error::TryRecvError::Empty) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(exit, Exit::Code(7));
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error_at_start() {
        assert!(Reaper::default().start(Command::new("/no/such/program"), None, Privilege::Full).is_err());
    }
}
