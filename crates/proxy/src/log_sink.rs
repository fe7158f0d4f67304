//! Where access log lines go: files, standard output and error.
//!
//! - Reads: the paths of `extensions.access_loggers.file.v3.FileAccessLog` and its stream twins.
//! - Rule: a worker never waits for a log; it fills a buffer and hands full ones to one writer thread.
//! - Limits: [`QUEUE_MAX`] buffers wait for the writer; beyond that lines are dropped and counted (`lateen_access_log_dropped_bytes`).
//! - Not here: what a line says (`telemetry`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use lateen_plan::access_log::Sink;

/// Buffers waiting for the writer thread.
pub const QUEUE_MAX: usize = 256;
/// A worker hands its buffer over when it holds this much; otherwise at the next tick.
pub const FLUSH_BYTES: usize = 16 * 1024;

struct Chunk {
    to: Sink,
    bytes: Vec<u8>,
}

/// The process's log writer: cheap to clone, one per process.
#[derive(Clone)]
pub struct LogWriter {
    queue: SyncSender<Chunk>,
    dropped: Arc<AtomicU64>,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogWriter")
    }
}

impl LogWriter {
    /// Starts the writer thread; it ends when the last clone is gone.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> std::io::Result<Self> {
        let (queue, chunks) = sync_channel(QUEUE_MAX);
        std::thread::Builder::new().name("lateen-log".into()).stack_size(256 * 1024).spawn(move || write_all(&chunks))?;
        Ok(LogWriter { queue, dropped: Arc::default() })
    }

    /// Bytes of log lines dropped because the writer could not keep up.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn send(&self, to: &Sink, bytes: Vec<u8>) {
        if let Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) = self.queue.try_send(Chunk { to: to.clone(), bytes }) {
            self.dropped.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        }
    }
}

/// One worker's unsent lines.
#[derive(Debug)]
pub struct LogSink {
    writer: LogWriter,
    pending: RefCell<HashMap<Sink, Vec<u8>>>,
}

impl LogSink {
    /// An empty sink that hands its lines to `writer`.
    pub fn new(writer: LogWriter) -> Self {
        LogSink { writer, pending: RefCell::default() }
    }

    /// Appends to the pending lines of `to`; `write` gets the buffer and adds whole lines.
    pub fn append(&self, to: &Sink, write: impl FnOnce(&mut Vec<u8>)) {
        let mut pending = self.pending.borrow_mut();
        if !pending.contains_key(to) {
            pending.insert(to.clone(), Vec::new());
        }
        if let Some(buffer) = pending.get_mut(to) {
            write(buffer);
            if buffer.len() >= FLUSH_BYTES {
                self.writer.send(to, std::mem::take(buffer));
            }
        }
    }

    /// Hands all pending lines to the writer; called on every worker tick and at the end.
    pub fn flush(&self) {
        for (to, buffer) in self.pending.borrow_mut().iter_mut() {
            if !buffer.is_empty() {
                self.writer.send(to, std::mem::take(buffer));
            }
        }
    }
}

fn write_all(chunks: &Receiver<Chunk>) {
    let mut files: HashMap<Sink, Box<dyn Write>> = HashMap::new();
    while let Ok(Chunk { to, bytes }) = chunks.recv() {
        if !files.contains_key(&to) {
            match open(&to) {
                Ok(file) => {
                    files.insert(to.clone(), file);
                }
                Err(error) => {
                    tracing::error!(log = ?to, %error, "access log cannot be opened; its lines are lost until it can be");
                    continue;
                }
            }
        }
        let Some(file) = files.get_mut(&to) else { continue };
        if let Err(error) = file.write_all(&bytes).and_then(|()| file.flush()) {
            tracing::error!(log = ?to, %error, "access log cannot be written; reopening at the next line");
            files.remove(&to);
        }
    }
}

fn open(to: &Sink) -> std::io::Result<Box<dyn Write>> {
    match to {
        Sink::Stdout => Ok(Box::new(std::io::stdout())),
        Sink::Stderr => Ok(Box::new(std::io::stderr())),
        Sink::File(path) => Ok(Box::new(OpenOptions::new().create(true).append(true).open(&**path)?)),
    }
}
