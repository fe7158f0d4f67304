//! Mounts of the sandbox and of pods.
//!
//! - Reads: mount(2), mount_namespaces(7).
//! - Rule: every function acts on the calling thread's mount namespace, which must be a private one.
//! - Limits: a path that does not exist cannot be mounted over; the caller decides what that means.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const NONE: Option<&str> = None;

/// Stops mounts made here from reaching the namespace this one was copied from. First call in a new mount namespace.
///
/// # Errors
/// What mount(2) reports.
pub fn make_private() -> io::Result<()> {
    Ok(mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?)
}

/// Mounts a fresh `/proc` for a new process namespace.
///
/// # Errors
/// What mount(2) reports; `EPERM` where a container hides parts of the outer `/proc`.
pub fn proc() -> io::Result<()> {
    Ok(mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, NONE)?)
}

/// Mounts a memory file system of at most `bytes` over the folder `path`.
///
/// # Errors
/// What mount(2) reports.
pub fn tmpfs(path: &Path, bytes: u64) -> io::Result<()> {
    let options = format!("mode=0755,size={bytes}");
    Ok(mount(Some("lateen"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))?)
}

/// Shows `source`, a file or folder, at `target`, which must exist and be of the same sort.
///
/// # Errors
/// What mount(2) reports.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?)
}

/// Shows a folder of the union file system `lower` + writable `upper` at `target`.
///
/// # Errors
/// What mount(2) reports; `EPERM` on kernels before 5.11 inside a user namespace.
pub fn overlay(lower: &Path, upper: &Path, work: &Path, target: &Path) -> io::Result<()> {
    let options = format!("lowerdir={},upperdir={},workdir={},userxattr", lower.display(), upper.display(), work.display());
    Ok(mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?)
}

/// Writes `content` to the file `at` (made if missing) and shows it at `target`.
///
/// # Errors
/// What writing or mount(2) reports.
pub fn file_over(content: &str, at: &Path, target: &Path) -> io::Result<()> {
    write_file(at, content.as_bytes(), 0o644)?;
    bind(at, target)
}

/// Writes a file with these permission bits, making its folders.
///
/// # Errors
/// What the file system reports.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    use std::io::Write;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)
}

/// Takes a mount away, at once for new users and later for those who still have it open.
///
/// # Errors
/// What umount2(2) reports.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(umount2(path, MntFlags::MNT_DETACH)?)
}
