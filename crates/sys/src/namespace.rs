//! Namespaces of pods: made on a throw-away thread, kept by descriptor, entered by threads and by children.
//!
//! - Reads: unshare(2), setns(2).
//! - Rule: no process keeps a pod's namespaces alive; the descriptors in [`Namespaces`] do, and closing them ends the pod's links and rules.
//! - Limits: a user namespace cannot be made here (threads share it); see `sandbox`.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A pod's namespaces, by descriptor.
#[derive(Debug)]
pub struct Namespaces {
    /// Network: links, addresses, nftables.
    pub net: OwnedFd,
    /// Mounts: `/run`, `/etc/resolv.conf` and so on.
    pub mount: OwnedFd,
    /// Host name.
    pub uts: OwnedFd,
}

impl Namespaces {
    /// The namespaces of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn of_this_thread() -> io::Result<Self> {
        let open = |kind: &str| File::open(format!("/proc/thread-self/ns/{kind}")).map(OwnedFd::from);
        Ok(Self { net: open("net")?, mount: open("mnt")?, uts: open("uts")? })
    }

    /// Makes fresh network, mount and host-name namespaces, runs `setup` inside them, and returns them with its answer.
    ///
    /// `setup` runs on its own thread, which ends afterwards; nothing of the caller changes.
    ///
    /// # Errors
    /// What unshare(2) or `setup` reports.
    pub fn create<T: Send>(setup: impl FnOnce() -> io::Result<T> + Send) -> io::Result<(Self, T)> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS)?;
            let value = setup()?;
            Ok((Self::of_this_thread()?, value))
        })
    }

    /// Runs `work` inside these namespaces, on a thread that ends afterwards.
    ///
    /// # Errors
    /// What setns(2) or `work` reports.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_FS)?;
            self.enter()?;
            work()
        })
    }

    /// Runs `work` inside the network namespace alone. Sockets that it opens stay in that namespace.
    ///
    /// # Errors
    /// What setns(2) or `work` reports.
    pub fn run_in_network<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_thread(|| {
            setns(self.net.as_fd(), CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// Moves the calling thread, or a child before it executes a program, into these namespaces.
    ///
    /// Uses no memory allocation, so that a forked child may call it.
    ///
    /// # Errors
    /// What setns(2) reports.
    pub fn enter(&self) -> io::Result<()> {
        enter_raw(self.net.as_fd(), CloneFlags::CLONE_NEWNET)?;
        enter_raw(self.uts.as_fd(), CloneFlags::CLONE_NEWUTS)?;
        enter_raw(self.mount.as_fd(), CloneFlags::CLONE_NEWNS)
    }

    /// Whether the process `pid` lives in this network namespace. False for a process that has gone.
    #[must_use]
    pub fn holds_process(&self, pid: i32) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Ok(theirs) = std::fs::metadata(format!("/proc/{pid}/ns/net")) else { return false };
        let Ok(ours) = std::fs::metadata(format!("/proc/self/fd/{}", self.net.as_raw_fd())) else { return false };
        (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino())
    }
}

fn enter_raw(fd: BorrowedFd<'_>, kind: CloneFlags) -> io::Result<()> {
    setns(fd, kind).map_err(io::Error::from)
}

/// Runs `work` on a new thread and waits for it.
fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".into()).stack_size(THREAD_STACK_BYTES).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that prepares a namespace panicked")))
    })
}

/// The threads only make system calls and encode small messages.
const THREAD_STACK_BYTES: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_knows_its_own_namespaces() {
        let own = Namespaces::of_this_thread().unwrap();
        assert!(own.holds_process(std::process::id().cast_signed()));
    }
}
