//! `lateen exec`: a program inside a pod, with this terminal as its standard streams.
//!
//! - Reads: `local`'s exec socket: a JSON line with three descriptors out, a JSON line with the exit code back.
//! - Twin: `local/src/supervisor/exec.rs`.
//! - Rule: the exit code is the program's own.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Context, namespace};
use crate::{
    args,
    client::{Client, text},
};

/// Largest output that [`capture`] takes.
const CAPTURE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::Exec) -> Result<ExitCode> {
    let client = context.client();
    let pod = client.pod(&flags.pod, namespace(flags.namespace.as_ref())).await?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let code = start(&client, &pod, flags.container.as_deref(), &flags.command, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    Ok(ExitCode::from(code))
}

/// Runs a program in a pod and gives back its standard output.
///
/// # Errors
/// Where it could not run, or ended with a code other than 0.
pub(crate) fn capture(client: &Client, pod: &Value, command: &[&str]) -> Result<String> {
    let (reader, writer) = std::io::pipe()?;
    let null = std::fs::File::open("/dev/null")?;
    let output = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.take(CAPTURE_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
    });
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let stderr = std::io::stderr();
    let code = start(client, pod, None, &command, [null.as_fd(), writer.as_fd(), stderr.as_fd()]);
    drop(writer);
    let bytes = output.join().map_err(|_| anyhow::anyhow!("the reading thread ended early"))??;
    match code? {
        0 => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        code => bail!("`{}` in pod {} ended with exit code {code}", command.join(" "), text(pod, "/metadata/name")),
    }
}

fn start(client: &Client, pod: &Value, container: Option<&str>, command: &[String], streams: [BorrowedFd<'_>; 3]) -> Result<u8> {
    let mut socket = UnixStream::connect(&client.exec_socket).context("cannot reach the mesh; `lateen ps` tells whether it runs")?;
    let request = json!({
        "namespace": text(pod, "/metadata/namespace"),
        "pod": text(pod, "/metadata/name"),
        "container": container,
        "command": command,
    });
    let line = format!("{request}\n");
    let sent = lateen_sys::fds::send(socket.as_fd(), line.as_bytes(), &streams)?;
    std::io::Write::write_all(&mut socket, line.as_bytes().get(sent..).unwrap_or_default())?;
    let mut answer = String::new();
    BufReader::new(&socket).read_line(&mut answer)?;
    if answer.is_empty() {
        bail!("the mesh stopped before the program ended");
    }
    let answer: Value = serde_json::from_str(&answer).with_context(|| format!("the mesh answered `{}`", answer.trim_end()))?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("{error}");
    }
    let code = answer.get("code").and_then(Value::as_i64).unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(255))
}
