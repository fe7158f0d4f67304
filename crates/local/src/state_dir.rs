//! The folder of one mesh on the host.
//!
//! ```text
//! lock          held by the host stage as long as the mesh lives; its pid inside
//! api.sock      store and pods over HTTP          exec.sock   programs in pods
//! ca/           the root, kept over restarts      token.pem, token.pub.pem   key of service-account tokens
//! logs/         NAMESPACE_POD/CONTAINER.log       supervisor.log
//! ```

use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// HTTP socket of the mesh in this folder.
#[must_use]
pub fn api_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("api.sock")
}

/// Socket for programs in pods.
#[must_use]
pub fn exec_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("exec.sock")
}

/// Folder of the certificate authority.
#[must_use]
pub fn ca_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("ca")
}

/// Public key of service-account tokens, PEM.
#[must_use]
pub fn token_public_key(state_dir: &Path) -> PathBuf {
    state_dir.join("token.pub.pem")
}

/// Private key of service-account tokens, PEM.
#[must_use]
pub fn token_key(state_dir: &Path) -> PathBuf {
    state_dir.join("token.pem")
}

/// Folder of the containers' output.
#[must_use]
pub fn logs_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("logs")
}

/// What the supervisor itself has to say.
#[must_use]
pub fn supervisor_log(state_dir: &Path) -> PathBuf {
    state_dir.join("supervisor.log")
}

/// The lock of a running mesh. Dropped with its process, however that ends.
#[derive(Debug)]
pub struct MeshLock {
    _lock: Flock<File>,
}

/// Takes the mesh's lock; `None` when another process holds it.
///
/// # Errors
/// When the folder cannot be made or written.
pub fn lock(state_dir: &Path) -> io::Result<Option<MeshLock>> {
    fs::create_dir_all(state_dir)?;
    match Flock::lock(open_lock(state_dir)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            lock.rewind()?;
            write!(lock, "{}", std::process::id())?;
            Ok(Some(MeshLock { _lock: lock }))
        }
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Process id of the running host stage; `None` when no mesh runs in this folder.
///
/// # Errors
/// When the lock's file cannot be read.
pub fn running(state_dir: &Path) -> io::Result<Option<i32>> {
    let mut file = match open_lock(state_dir) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(None),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(text.trim().parse().ok()),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Takes away sockets that a killed mesh left behind. Only with the lock held.
pub fn remove_sockets(state_dir: &Path) {
    for socket in [api_socket(state_dir), exec_socket(state_dir)] {
        // Missing is what is wanted.
        let _ = fs::remove_file(socket);
    }
}

fn open_lock(state_dir: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(state_dir.join("lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_mesh_in_one_folder_is_refused_and_told_of() {
        let folder = std::env::temp_dir().join(format!("lateen-lock-{}", std::process::id()));
        assert_eq!(running(&folder).unwrap(), None);
        let held = lock(&folder).unwrap().unwrap();
        assert!(lock(&folder).unwrap().is_none());
        assert_eq!(running(&folder).unwrap(), Some(std::process::id().cast_signed()));
        drop(held);
        assert_eq!(running(&folder).unwrap(), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
