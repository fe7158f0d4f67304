//! The containers' output, one file for each container, and its reading by `logs`.
//!
//! - Rule: a container that writes faster than the file grows is slowed down by its pipe, never by memory.
//! - Limits: [`FILE_BYTES_MAX`] for a file, then it is renamed once (`.1`) and begun anew; so at most twice that for a container.
//! - Rule: the output before the last restart is kept in `.previous`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// A proxy's access log of some 30 000 requests.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// What is read from a pipe at once.
const CHUNK_BYTES: usize = 16 << 10;

/// File of a container's output.
pub(crate) fn file_of(logs: &Path, namespace: &str, pod: &str, container: &str) -> PathBuf {
    logs.join(format!("{namespace}_{pod}")).join(format!("{container}.log"))
}

/// Sets the output of an earlier run of the container aside.
pub(crate) fn keep_previous(path: &Path) {
    // There is none before the first run.
    let _ = fs::rename(path, path.with_extension("previous"));
}

/// A pipe whose far end a container writes to, copied to `path` by a task that ends when every writer has closed it.
///
/// # Errors
/// When the file or the pipe cannot be made.
pub(crate) fn collect(path: PathBuf) -> io::Result<OwnedFd> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let (reader, writer) = io::pipe()?;
    let mut output = pipe::Receiver::from_owned_fd(reader.into())?;
    let mut file = LogFile::open(path)?;
    tokio::spawn(async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = output.read(&mut chunk).await {
            if let Err(error) = file.append(chunk.get(..count).unwrap_or_default()) {
                // The container must not block on a full disk: go on reading, and say so where it can be seen.
                eprintln!("output of {} is lost: {error}", file.path.display());
            }
        }
    });
    Ok(writer.into())
}

struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
        if self.bytes + chunk.len() as u64 > FILE_BYTES_MAX {
            fs::rename(&self.path, self.path.with_extension("1"))?;
            *self = Self::open(self.path.clone())?;
        }
        self.file.write_all(chunk)?;
        self.bytes += chunk.len() as u64;
        Ok(())
    }
}

/// Which output `logs` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Of the container as it runs now.
    Current,
    /// Before its last restart.
    Previous,
}

/// Reads a container's output from its start, or its last `tail` lines, and then as it grows.
pub(crate) struct LogReader {
    path: PathBuf,
    file: File,
    inode: u64,
}

impl LogReader {
    /// Opens the output.
    ///
    /// # Errors
    /// `NotFound` when the container has not run.
    pub(crate) fn open(path: &Path, run: Run) -> io::Result<Self> {
        let path = match run {
            Run::Current => path.to_owned(),
            Run::Previous => path.with_extension("previous"),
        };
        let file = File::open(&path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { path, file, inode })
    }

    /// Moves to where the last `lines` lines begin.
    ///
    /// # Errors
    /// What reading reports.
    pub(crate) fn skip_to_tail(&mut self, lines: u64) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.read_to_end(&mut text)?;
        let newlines: Vec<usize> = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index + 1).collect();
        let unfinished = usize::from(newlines.last().copied().unwrap_or(0) < text.len());
        let starts = newlines.len() + unfinished;
        let skipped = starts.saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX));
        let offset = if skipped == 0 { 0 } else { newlines.get(skipped - 1).copied().unwrap_or(text.len()) };
        self.file.seek(SeekFrom::Start(offset as u64))?;
        Ok(())
    }

    /// What has come since the last call; empty when nothing has. Follows the container into a new file.
    ///
    /// # Errors
    /// What reading reports.
    pub(crate) fn read_new(&mut self) -> io::Result<Vec<u8>> {
        let mut text = vec![0; CHUNK_BYTES * 4];
        let count = self.file.read(&mut text)?;
        text.truncate(count);
        if count == 0 && let Ok(file) = File::open(&self.path) && file.metadata()?.ino() != self.inode {
            self.inode = file.metadata()?.ino();
            self.file = file;
            return self.read_new();
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("lateen-logs-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder.join("web.log")
    }

    #[test]
    fn tail_begins_at_the_right_line() {
        let path = scratch("tail");
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        for (lines, expected) in [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")] {
            let mut reader = LogReader::open(&path, Run::Current).unwrap();
            reader.skip_to_tail(lines).unwrap();
            assert_eq!(String::from_utf8(reader.read_new().unwrap()).unwrap(), expected, "{lines}");
        }
    }

    #[test]
    fn a_full_file_is_begun_anew_once() {
        let path = scratch("rotate");
        let mut log = LogFile::open(path.clone()).unwrap();
        log.bytes = FILE_BYTES_MAX;
        log.append(b"next").unwrap();
        assert!(path.with_extension("1").exists());
        assert_eq!(fs::read(&path).unwrap(), b"next");
    }

    #[test]
    fn a_reader_follows_into_the_new_file() {
        let path = scratch("follow");
        fs::write(&path, "old").unwrap();
        let mut reader = LogReader::open(&path, Run::Current).unwrap();
        assert_eq!(reader.read_new().unwrap(), b"old");
        keep_previous(&path);
        fs::write(&path, "new").unwrap();
        assert_eq!(reader.read_new().unwrap(), b"new");
        assert_eq!(LogReader::open(&path, Run::Previous).unwrap().read_new().unwrap(), b"old");
    }

    #[tokio::test]
    async fn what_a_program_writes_reaches_the_file() {
        let path = scratch("collect");
        let mut writer = File::from(collect(path.clone()).unwrap());
        writer.write_all(b"hello\n").unwrap();
        drop(writer);
        while fs::read(&path).unwrap() != b"hello\n" {
            tokio::task::yield_now().await;
        }
    }
}
