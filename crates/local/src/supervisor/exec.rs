//! `exec`: a program in a pod, with the caller's own standard streams.
//!
//! - Reads: one line of JSON `{namespace, pod, container, command}` with three descriptors, on a unix socket.
//! - Writes: one line, `{"code": N}` or `{"error": "…"}`.
//! - Twin: `cli/src/commands/exec.rs`.
//! - Rule: a caller who hangs up ends the program.
//! - Limits: a request of [`fds::MESSAGE_BYTES_MAX`], within [`REQUEST_MAX`].

use super::api::container_of;
use super::{Context, pod};
use lateen_store::Key;
use lateen_sys::fds;
use lateen_sys::process::{Privilege, signal_group};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};

const REQUEST_MAX: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    namespace: String,
    pod: String,
    container: Option<String>,
    command: Vec<String>,
}

/// Serves the socket until the supervisor ends.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn start(context: &Arc<Context>, socket: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    let context = Arc::clone(context);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(serve(Arc::clone(&context), stream))),
                Err(error) => {
                    eprintln!("exec: accept: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    Ok(())
}

async fn serve(context: Arc<Context>, mut stream: UnixStream) {
    let answer = match tokio::time::timeout(REQUEST_MAX, receive(&stream)).await {
        Ok(Ok((request, streams))) => run(&context, request, streams, &mut stream).await,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no request came".to_owned()),
    };
    let answer: Value = answer.map_or_else(|error| json!({"error": error}), |code| json!({"code": code}));
    // The caller may have gone.
    let _ = stream.write_all(format!("{answer}\n").as_bytes()).await;
}

async fn receive(stream: &UnixStream) -> io::Result<(Request, Vec<OwnedFd>)> {
    let (mut text, mut streams) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; fds::MESSAGE_BYTES_MAX];
    while !text.contains(&b'\n') {
        let (count, passed) = stream.async_io(Interest::READABLE, || fds::receive(stream.as_fd(), &mut buffer)).await?;
        if count == 0 || text.len() + count > fds::MESSAGE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is not one line of JSON"));
        }
        text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        streams.extend(passed);
    }
    Ok((serde_json::from_slice(&text)?, streams))
}

async fn run(context: &Arc<Context>, request: Request, streams: Vec<OwnedFd>, stream: &mut UnixStream) -> Result<i32, String> {
    let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(streams) else { return Err("three descriptors must come with the request".into()) };
    let key = Key::new("v1", "Pod", &request.namespace, &request.pod);
    let run = context.running(&key).ok_or_else(|| format!("pod {}/{} is not running", key.namespace, key.name))?;
    let name = container_of(&run.pod, request.container.as_deref())?;
    let all = run.pod.spec.containers.iter().chain(&run.pod.spec.init_containers);
    let found = all.into_iter().find(|container| container.name == name).cloned().ok_or("no such container")?;
    let privilege = if pod::container::is_mesh(&found) { Privilege::Full } else { Privilege::Container };
    let mut command = pod::container::exec_command(&run, &found, &request.command)?;
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let program = request.command.first().cloned().unwrap_or_default();
    let mut running = match context.reaper.start(command, Some(Arc::clone(&run.namespaces)), privilege) {
        Ok(running) => running,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(format!("{program}: there is no such program in the pod")),
        Err(error) => return Err(format!("{program}: {error}")),
    };
    let mut byte = [0];
    tokio::select! {
        exit = &mut running.exit => Ok(exit.map_or(137, lateen_sys::process::Exit::code)),
        // Nothing more is sent: a read that returns is the caller's end.
        _ = stream.read(&mut byte) => {
            signal_group(running.pid, Signal::SIGKILL);
            Err("the caller hung up".into())
        }
    }
}
