//! The host stage: the part of `up` that stays on the host. It binds ports, starts the sandbox, connects outwards for it, and stops it.
//!
//! - Rule: the sandbox hangs on this process; however this one ends, everything in the sandbox ends.
//! - Rule: runs on one thread, the process's first: the kernel kills the sandbox when the *thread* that started it ends.
//! - Not here: anything inside the sandbox (`supervisor`).

mod broker;
pub(crate) mod down;
mod publish;

use crate::channel::{Channel, Start, ToHost, ToSandbox};
use crate::options::UpOptions;
use crate::{stage, state_dir};
use lateen_sys::process::current_executable;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::rc::Rc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a launcher that could make no sandbox; its log says why.
pub(crate) const CANNOT_SANDBOX: u8 = 78;
/// The supervisor gives every container its grace and ends by itself before this.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Why `up` could not start.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Another process has the port.
    #[error("port {port} on 127.0.0.1 is taken ({source}); choose another one with `{flag} PORT`, or 0 for any free one")]
    PortTaken {
        /// The port.
        port: u16,
        /// The flag that chooses it.
        flag: &'static str,
        /// The kernel's words.
        source: io::Error,
    },
    /// The mesh runs already.
    #[error("mesh `{mesh}` is running already (process {pid}, folder {}); stop it with `lateen down`, or start another one with `--name NAME` and other ports", folder.display())]
    AlreadyRunning {
        /// The mesh.
        mesh: String,
        /// Its host stage.
        pid: i32,
        /// Its folder.
        folder: PathBuf,
    },
    /// The mesh's folder cannot be used.
    #[error("the mesh's folder {} cannot be used ({source}); set LATEEN_HOME to a folder that can be written", folder.display())]
    StateDir {
        /// The folder.
        folder: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// The sandbox cannot be made.
    #[error("{0}")]
    Sandbox(String),
    /// The supervisor ended before its time.
    #[error("the supervisor ended unexpectedly; its last words in {}:\n{words}", log.display())]
    Supervisor {
        /// Its log.
        log: PathBuf,
        /// The log's end.
        words: String,
    },
    /// Anything else of the host.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The kernel's words.
        source: io::Error,
    },
}

fn system(action: &'static str) -> impl Fn(io::Error) -> UpError {
    move |source| UpError::System { action, source }
}

/// Starts a mesh and stays until it is stopped (Ctrl-C, `down`), or until it is ready with `detach`.
///
/// Prints progress and a summary to standard output, findings to standard error. Must be called outside of any runtime, from the
/// process's first thread.
///
/// # Errors
/// [`UpError`], when the mesh could not be started. Findings in the user's files are printed and give a failing exit code.
pub fn up(options: &UpOptions) -> Result<ExitCode, UpError> {
    if options.detach { detach(options) } else { run(options, Detached::No) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Detached {
    No,
    Yes,
}

fn detach(options: &UpOptions) -> Result<ExitCode, UpError> {
    let action = system("start the mesh in the background");
    let mut child = Command::new(current_executable()).arg(stage::HOST).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(&action)?;
    let text = serde_json::to_vec(options).map_err(|error| action(error.into()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&text).map_err(&action)?;
    }
    let ready = match child.stdout.take() {
        Some(lines) => pass_on(BufReader::new(lines)).map_err(&action)?,
        None => false,
    };
    if ready {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().map_err(&action)?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// Shows the lines of the background process; true once it says that the mesh is ready, false when it ended before.
fn pass_on(mut lines: impl BufRead) -> io::Result<bool> {
    loop {
        let mut line = Vec::new();
        match lines.read_until(b'\n', &mut line)? {
            0 => return Ok(false),
            _ if line == READY_LINE => return Ok(true),
            // Nobody may be reading any more; the mesh starts all the same.
            _ => drop(io::stdout().write_all(&line)),
        }
    }
}

/// Written by the background process when the mesh is ready; no text for a user contains it.
const READY_LINE: &[u8] = b"\0ready\n";

/// The background process of `up --detach`.
pub(crate) fn detached() -> ExitCode {
    let mut text = String::new();
    if let Err(error) = io::stdin().read_to_string(&mut text) {
        eprintln!("cannot read the options: {error}");
        return ExitCode::FAILURE;
    }
    let Ok(options) = serde_json::from_str::<UpOptions>(&text) else {
        eprintln!("`{}` is started by `lateen up --detach` only", stage::HOST);
        return ExitCode::FAILURE;
    };
    // Fails only for the leader of a group, which a freshly started child is not.
    let _ = nix::unistd::setsid();
    run(&options, Detached::Yes).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(options: &UpOptions, detached: Detached) -> Result<ExitCode, UpError> {
    let options = absolute(options)?;
    let folder = options.state_dir.clone();
    let state = |source| UpError::StateDir { folder: folder.clone(), source };
    let Some(_lock) = state_dir::lock(&folder).map_err(state)? else {
        let pid = state_dir::running(&folder).map_err(state)?.unwrap_or_default();
        return Err(UpError::AlreadyRunning { mesh: options.mesh, pid, folder });
    };
    let (ports, listeners) = publish::bind(&options)?;
    state_dir::remove_sockets(&folder);
    let _ = fs::remove_dir_all(state_dir::logs_dir(&folder));
    let log = File::create(state_dir::supervisor_log(&folder)).map_err(state)?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(|e| system("make a socket")(e.into()))?;
    let launcher = start_launcher(theirs, &log).map_err(system("start the sandbox"))?;
    let start = Start { options, executable: current_executable(), ports };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start the runtime"))?;
    let tasks = tokio::task::LocalSet::new();
    let result = tasks.block_on(&runtime, serve(start, ours, listeners, launcher, detached));
    state_dir::remove_sockets(&folder);
    result
}

/// The sandbox's processes may have another working directory.
fn absolute(options: &UpOptions) -> Result<UpOptions, UpError> {
    let mut options = options.clone();
    options.state_dir = std::path::absolute(&options.state_dir).map_err(system("find the working directory"))?;
    Ok(options)
}

fn start_launcher(channel: OwnedFd, log: &File) -> io::Result<Child> {
    Command::new(current_executable()).arg(stage::SANDBOX).stdin(Stdio::from(channel)).stdout(log.try_clone()?).stderr(log.try_clone()?).spawn()
}

async fn serve(start: Start, socket: OwnedFd, listeners: Vec<OwnedFd>, mut launcher: Child, detached: Detached) -> Result<ExitCode, UpError> {
    let log = state_dir::supervisor_log(&start.options.state_dir);
    let channel = Rc::new(Channel::new(socket).map_err(system("use a socket"))?);
    // A launcher that could make no sandbox has closed its end; the loop below finds out why.
    let _ = channel.send(&ToSandbox::Start(Box::new(start)), &listeners).await;
    drop(listeners);
    let broker = broker::Broker::new(Rc::clone(&channel));
    let mut signals = Signals::new(detached).map_err(system("watch for signals"))?;
    let mut state = State::Starting;
    loop {
        let message = tokio::select! {
            // Cancel-safe: a packet is taken from the socket in one step.
            message = channel.receive::<ToHost>() => message.map_err(system("hear from the supervisor"))?,
            () = signals.next() => {
                if state == State::Stopping {
                    let _ = launcher.kill();
                }
                state = stop(&channel, state).await;
                continue;
            }
            () = tokio::time::sleep(STOP_MAX), if state == State::Stopping => {
                let _ = launcher.kill();
                continue;
            }
        };
        match message {
            Some((ToHost::Progress(line), _)) => print_line(&line),
            Some((ToHost::Finding(finding), _)) => eprintln!("{}", with_line(&finding)),
            Some((ToHost::Failed(reason), _)) => {
                eprintln!("error: {reason}");
                state = State::Failed;
            }
            Some((ToHost::Ready(lines), _)) => {
                lines.iter().for_each(|line| print_line(line));
                state = State::Ready;
                if detached == Detached::Yes {
                    io::stdout().write_all(READY_LINE).map_err(system("tell that the mesh is ready"))?;
                    close_output(&log).map_err(system("detach from the terminal"))?;
                }
            }
            Some((request, _)) => broker.serve(request),
            None => return ended(&mut launcher, state, &log),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Failed,
    Stopping,
}

async fn stop(channel: &Channel, state: State) -> State {
    if state != State::Stopping {
        print_line("stopping …");
        // A closed channel means that it has stopped already.
        let _ = channel.send(&ToSandbox::Stop, &[]).await;
    }
    State::Stopping
}

fn ended(launcher: &mut Child, state: State, log: &std::path::Path) -> Result<ExitCode, UpError> {
    let status = launcher.wait().map_err(system("wait for the sandbox"))?;
    let words = fs::read_to_string(log).unwrap_or_default();
    let words = words.trim_end();
    match state {
        _ if status.code() == Some(CANNOT_SANDBOX.into()) => Err(UpError::Sandbox(words.to_owned())),
        State::Failed => Ok(ExitCode::FAILURE),
        State::Stopping => Ok(ExitCode::SUCCESS),
        // `down` stops the supervisor directly when it can.
        State::Ready if status.success() => Ok(ExitCode::SUCCESS),
        State::Starting | State::Ready => {
            let last: Vec<&str> = words.lines().rev().take(20).collect();
            let words = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            Err(UpError::Supervisor { log: log.to_owned(), words })
        }
    }
}

/// A finding with the line of the file that it is about, as the file is now.
fn with_line(finding: &lateen_base::Finding) -> String {
    let file = finding.location.as_ref().map(|location| &location.file);
    let text = file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    lateen_source::render(finding, &text)
}

/// A reader that has gone (`lateen up | head`) is no reason to stop the mesh.
fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Sends later output of a detached mesh to its log: the terminal belongs to others by now.
fn close_output(log: &std::path::Path) -> io::Result<()> {
    let log = fs::OpenOptions::new().append(true).open(log)?;
    nix::unistd::dup2_stdout(&log)?;
    nix::unistd::dup2_stderr(&log)?;
    Ok(())
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    detached: Detached,
}

impl Signals {
    fn new(detached: Detached) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            detached,
        })
    }

    /// Resolves when the user wants the mesh to stop. A detached mesh outlives its terminal.
    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => if self.detached == Detached::No { return },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_background_process_that_ends_early_is_not_taken_for_ready() {
        assert!(!pass_on(&b"error: no\n"[..]).unwrap());
        assert!(pass_on(&b"progress\n\0ready\nlater\n"[..]).unwrap());
    }
}
