//! The store's watch as seen by the control plane: a connection that comes back by itself.
//!
//! - Reads: `GET /watch` on the supervisor's unix socket: one JSON event on each line.
//! - Twin: `local/src/supervisor/api.rs`.
//! - Rule: after every (re)connect objects are gathered until the first BOOKMARK and then given as one complete list, so that a
//!   control plane never sees a half-read store and pushes emptiness.
//! - Limits: [`LINE_BYTES_MAX`] for one event; the queue to the reader holds [`QUEUE_MAX`] updates and then waits; a watch that is
//!   silent for [`SILENCE_MAX`] is taken for dead.
//! - Not here: what the objects mean (`snapshot.rs`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::snapshot::Event;

/// Longest event. Objects have at most 1 MiB as text; JSON escapes may double it.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Updates that wait for the reader.
pub const QUEUE_MAX: usize = 256;
/// Bookmarks come every 10 s, so three missed ones mean a dead connection.
pub const SILENCE_MAX: Duration = Duration::from_secs(35);
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// What a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// Every object there is; what is not in it does not exist.
    Complete(Vec<Value>),
    /// One change.
    Change(Event),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The socket could not be opened.
    #[error("cannot connect to the store at {path}: {source}; is `lateen up` running?")]
    Connect {
        /// Path of the socket.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The HTTP exchange failed.
    #[error("the watch broke off: {0}")]
    Http(#[from] hyper::Error),
    /// The store answered with something else than 200.
    #[error("the store answered {0} to a watch")]
    Status(http::StatusCode),
    /// The store ended the watch.
    #[error("the store ended the watch")]
    Ended,
    /// Nothing came for [`SILENCE_MAX`].
    #[error("the store was silent for {} s", SILENCE_MAX.as_secs())]
    Silent,
    /// One event is larger than [`LINE_BYTES_MAX`].
    #[error("an event has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// One line is no event.
    #[error("the store sent a line that is no event: {0}")]
    Malformed(String),
    /// The reader of the updates is gone.
    #[error("nobody reads the updates any more")]
    Closed,
}

/// Follows the store until the receiver is dropped. Run it as a task of its own.
pub async fn follow(socket: PathBuf, updates: mpsc::Sender<Update>) {
    let mut back_off = BACK_OFF_MIN;
    loop {
        let mut reader = Reader { gathered: Some(Vec::new()), updates: &updates };
        let error = match reader.run(&socket).await {
            Ok(()) => WatchError::Ended,
            Err(WatchError::Closed) => return,
            Err(error) => error,
        };
        // A connection that got as far as its first bookmark was healthy: start over quickly.
        if reader.gathered.is_none() {
            back_off = BACK_OFF_MIN;
        }
        tracing::warn!(%error, retry_in_ms = back_off.as_millis() as u64, "watch of the store ended");
        tokio::select! {
            () = updates.closed() => return,
            () = tokio::time::sleep(back_off) => {}
        }
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// A channel of updates and the task that fills it. Dropping the receiver ends the task.
#[must_use]
pub fn spawn(socket: PathBuf) -> (mpsc::Receiver<Update>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    (receiver, tokio::spawn(follow(socket, sender)))
}

/// One connection.
struct Reader<'a> {
    /// Objects before the first bookmark; `None` after it.
    gathered: Option<Vec<Value>>,
    updates: &'a mpsc::Sender<Update>,
}

impl Reader<'_> {
    async fn run(&mut self, socket: &Path) -> Result<(), WatchError> {
        let connect = |source| WatchError::Connect { path: socket.display().to_string(), source };
        let stream = UnixStream::connect(socket).await.map_err(connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = http::Request::get("/watch").header(http::header::HOST, "lateen").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| WatchError::Malformed(error.to_string()))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            if response.status() != http::StatusCode::OK {
                return Err(WatchError::Status(response.status()));
            }
            self.read(response.into_body()).await
        };
        // The connection is driven here rather than in a task of its own, so that both end together.
        tokio::pin!(connection, exchange);
        let mut driven = false;
        loop {
            tokio::select! {
                result = &mut exchange => return result,
                result = &mut connection, if !driven => { result?; driven = true; }
            }
        }
    }

    async fn read(&mut self, mut body: hyper::body::Incoming) -> Result<(), WatchError> {
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            let frame = tokio::select! {
                () = self.updates.closed() => return Err(WatchError::Closed),
                frame = tokio::time::timeout(SILENCE_MAX, body.frame()) => frame.map_err(|_| WatchError::Silent)?,
            };
            let Some(frame) = frame else { return Ok(()) };
            let Ok(data) = frame?.into_data() else { continue };
            buffer.extend_from_slice(&data);
            while let Some(end) = memchr(&buffer) {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                self.line(&line).await?;
            }
            if buffer.len() > LINE_BYTES_MAX {
                return Err(WatchError::TooLong);
            }
        }
    }

    async fn line(&mut self, line: &[u8]) -> Result<(), WatchError> {
        let Some(update) = parse(line, &mut self.gathered)? else { return Ok(()) };
        self.updates.send(update).await.map_err(|_| WatchError::Closed)
    }
}

fn memchr(buffer: &[u8]) -> Option<usize> {
    buffer.iter().position(|byte| *byte == b'\n')
}

/// One line of a watch, given what was gathered so far. Pure.
fn parse(line: &[u8], gathered: &mut Option<Vec<Value>>) -> Result<Option<Update>, WatchError> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let malformed = |text: String| WatchError::Malformed(text);
    let mut event: Value = serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
    let object = event.get_mut("object").map(Value::take).unwrap_or_default();
    match (event.get("type").and_then(Value::as_str), gathered.as_mut()) {
        (Some("BOOKMARK"), _) => Ok(gathered.take().map(Update::Complete)),
        (Some("ADDED" | "MODIFIED"), Some(list)) => {
            list.push(object);
            Ok(None)
        }
        (Some("DELETED"), Some(list)) => {
            list.retain(|other| !same(other, &object));
            Ok(None)
        }
        (Some("ADDED" | "MODIFIED"), None) => Ok(Some(Update::Change(Event::Upsert(object)))),
        (Some("DELETED"), None) => Ok(Some(Update::Change(Event::Delete(object)))),
        (other, _) => Err(malformed(format!("type {other:?}"))),
    }
}

/// Whether two objects have one kind, namespace and name.
fn same(one: &Value, other: &Value) -> bool {
    ["/kind", "/metadata/namespace", "/metadata/name"].iter().all(|pointer| one.pointer(pointer) == other.pointer(pointer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    fn line(kind: &str, name: &str) -> String {
        json!({"type": kind, "object": {"kind": "Pod", "metadata": {"name": name}}}).to_string()
    }

    #[test]
    fn objects_before_the_first_bookmark_are_one_list() {
        let mut gathered = Some(Vec::new());
        assert_eq!(parse(line("ADDED", "a").as_bytes(), &mut gathered).unwrap(), None);
        assert_eq!(parse(line("ADDED", "b").as_bytes(), &mut gathered).unwrap(), None);
        assert_eq!(parse(line("DELETED", "a").as_bytes(), &mut gathered).unwrap(), None);
        let Some(Update::Complete(list)) = parse(b"{\"type\":\"BOOKMARK\"}", &mut gathered).unwrap() else { unreachable!() };
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn objects_after_it_are_changes_and_later_bookmarks_nothing() {
        let mut gathered = None;
        assert!(matches!(parse(line("MODIFIED", "a").as_bytes(), &mut gathered).unwrap(), Some(Update::Change(Event::Upsert(_)))));
        assert_eq!(parse(b"{\"type\":\"BOOKMARK\"}\n", &mut gathered).unwrap(), None);
        assert!(parse(b"nonsense", &mut gathered).is_err());
    }

    /// Serves one connection: reads the request, sends `lines`, closes.
    async fn serve(listener: &UnixListener, lines: &str) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await.unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{lines}\r\n0\r\n\r\n", lines.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_breaks_before_its_bookmark_gives_nothing() {
        let path = std::env::temp_dir().join(format!("lateen-watch-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let (mut updates, task) = spawn(path.clone());
        let bookmark = "{\"type\":\"BOOKMARK\"}\n";
        serve(&listener, &format!("{}\n", line("ADDED", "a"))).await;
        serve(&listener, &format!("{}\n{}\n{bookmark}{}\n", line("ADDED", "a"), line("ADDED", "b"), line("DELETED", "b"))).await;
        let Some(Update::Complete(list)) = updates.recv().await else { unreachable!() };
        assert_eq!(list.len(), 2);
        assert!(matches!(updates.recv().await, Some(Update::Change(Event::Delete(_)))));
        drop(updates);
        task.await.unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
