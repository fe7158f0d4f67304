//! The sandbox: one user, network, mount, host-name and process namespace, entered by a process that is still single-threaded.
//!
//! - Reads: user_namespaces(7), pid_namespaces(7).
//! - Rule: runs before any thread exists; the kernel refuses a user namespace to a process with threads.
//! - Limits: one user id is mapped, to 0 inside; everything in the sandbox has that id.
//!
//! ```text
//! host stage ─spawns→ launcher: unshare ─forks→ supervisor: process 1 of the sandbox
//!     └── dies ⇒ launcher killed ⇒ supervisor killed ⇒ kernel kills everything inside
//! ```

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getgid, getppid, getuid, setsid};
use std::fs;
use std::io;
use std::process::ExitCode;

/// Why no sandbox can be made, in the user's words.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A setting of the kernel or of the distribution forbids user namespaces.
    #[error("this machine does not let this user make a sandbox: {setting} ({detail}); {remedy}")]
    Forbidden {
        /// The setting, with its value.
        setting: String,
        /// The kernel's words.
        detail: String,
        /// What to do.
        remedy: String,
    },
    /// Any other failure.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The kernel's words.
        source: io::Error,
    },
}

/// Moves the calling single-threaded process into a fresh sandbox and runs `supervisor` there as process 1.
///
/// Returns the supervisor's exit code in the launcher, which only waits. Never returns in the supervisor.
///
/// # Errors
/// [`SandboxError`] when the sandbox cannot be made; nothing is left behind then.
pub fn launch(supervisor: impl FnOnce() -> ExitCode) -> Result<ExitCode, SandboxError> {
    let parent = getppid();
    let (uid, gid) = (getuid(), getgid());
    unshare(
        CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )
    .map_err(|errno| explain("make a user namespace", errno.into()))?;
    map_ids(uid.as_raw(), gid.as_raw()).map_err(|error| explain("map the user id", error))?;
    // Only now: making a user namespace changes credentials, and that clears the parent-death signal.
    die_with(parent).map_err(system("tie the sandbox to its parent"))?;
    // SAFETY: no thread was started in this process (the kernel checked: unshare with CLONE_NEWUSER succeeded), so the child may run any code.
    let forked = unsafe { fork() }.map_err(|errno| system("fork")(errno.into()))?;
    match forked {
        ForkResult::Parent { child } => Ok(wait_for(child)),
        ForkResult::Child => {
            let code = supervise(supervisor);
            std::process::exit(code);
        }
    }
}

fn supervise(supervisor: impl FnOnce() -> ExitCode) -> i32 {
    // Inside the new process namespace the launcher has no number: its pid reads as 0.
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        eprintln!("lateen: cannot tie the supervisor to its launcher: {error}");
        return 1;
    }
    // Its own session: a terminal's Ctrl-C reaches the host stage alone, which then stops the sandbox in order.
    let _ = setsid();
    match supervisor() {
        code if code == ExitCode::SUCCESS => 0,
        _ => 1,
    }
}

/// Asks the kernel to kill this process when its parent ends; fails when the parent has ended already.
///
/// # Errors
/// When `parent` is no longer the parent.
pub fn die_with(parent: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == parent { Ok(()) } else { Err(io::Error::other("the parent ended during start")) }
}

fn wait_for(child: Pid) -> ExitCode {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return ExitCode::from(u8::try_from(code).unwrap_or(1)),
            Ok(WaitStatus::Signaled(..)) => return ExitCode::from(137),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// Maps the caller's user and group to 0 inside. The kernel lets a user do this for itself alone, and only with setgroups refused.
fn map_ids(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn system(action: &'static str) -> impl Fn(io::Error) -> SandboxError {
    move |source| SandboxError::System { action, source }
}

/// Turns a refusal into the setting that causes it. Also for mounts that fail inside: AppArmor lets the namespace be made and then denies its use.
#[must_use]
pub fn explain(action: &'static str, error: io::Error) -> SandboxError {
    let refused = matches!(error.raw_os_error(), Some(nix::libc::EPERM | nix::libc::EACCES | nix::libc::ENOSPC | nix::libc::EUSERS));
    match forbidding_setting(&|path| fs::read_to_string(path).ok()) {
        Some((setting, remedy)) if refused => SandboxError::Forbidden { setting, detail: format!("cannot {action}: {error}"), remedy },
        _ if refused => SandboxError::Forbidden {
            setting: "user namespaces are refused, though no known sysctl says so (a container's seccomp profile or an LSM does)".into(),
            detail: format!("cannot {action}: {error}"),
            remedy: "in a container run it with `--privileged` or `--security-opt seccomp=unconfined`, or run lateen outside of it".into(),
        },
        _ => SandboxError::System { action, source: error },
    }
}

/// The sysctl that forbids user namespaces, with the remedy; `None` when none does.
fn forbidding_setting(read: &dyn Fn(&str) -> Option<String>) -> Option<(String, String)> {
    for (path, name, forbids, wanted) in SETTINGS {
        let Some(value) = read(path) else { continue };
        if value.trim() == *forbids {
            return Some((
                format!("{name} is {forbids}"),
                format!("an administrator can allow it with `sudo sysctl -w {name}={wanted}` (kept over restarts by a line `{name}={wanted}` in /etc/sysctl.d/lateen.conf)"),
            ));
        }
    }
    None
}

/// Path, sysctl, the value that forbids, a value that allows.
const SETTINGS: &[(&str, &str, &str, &str)] = &[
    ("/proc/sys/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone", "0", "1"),
    ("/proc/sys/user/max_user_namespaces", "user.max_user_namespaces", "0", "15000"),
    ("/proc/sys/user/max_net_namespaces", "user.max_net_namespaces", "0", "15000"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidding_sysctl_is_named_with_its_remedy() {
        let read = |path: &str| (path == "/proc/sys/user/max_user_namespaces").then(|| "0\n".to_owned());
        let (setting, remedy) = forbidding_setting(&read).unwrap();
        assert_eq!(setting, "user.max_user_namespaces is 0");
        assert!(remedy.contains("sysctl -w user.max_user_namespaces=15000"), "{remedy}");
    }

    #[test]
    fn a_machine_without_those_sysctls_forbids_nothing() {
        assert_eq!(forbidding_setting(&|_| None), None);
    }

    #[test]
    fn other_errors_are_not_blamed_on_a_setting() {
        let error = explain("open a file", io::Error::from_raw_os_error(nix::libc::ENOENT));
        assert!(matches!(error, SandboxError::System { .. }));
    }
}
