//! The supervisor's end of the channel to the host stage: progress out, connections and names in.
//!
//! - Rule: when the channel closes, the host stage has gone and everything stops.
//! - Limits: [`PENDING_MAX`] requests wait for an answer; more are refused at once.

use crate::channel::{Channel, Resolution, Start, ToHost, ToSandbox};
use lateen_base::Finding;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

const PENDING_MAX: usize = 4096;

enum Answer {
    Connected(io::Result<OwnedFd>),
    Resolved(Resolution),
}

/// The link. Shared by everything that needs the host.
pub(crate) struct HostLink {
    channel: Channel,
    pending: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    next: AtomicU64,
}

impl HostLink {
    /// Waits for the first message and starts the task that hears the others; `stop` becomes true when everything has to stop.
    pub(crate) async fn open(socket: OwnedFd, stop: watch::Sender<bool>) -> io::Result<(Arc<Self>, Start, Vec<OwnedFd>)> {
        let channel = Channel::new(socket)?;
        let Some((ToSandbox::Start(start), listeners)) = channel.receive().await? else {
            return Err(io::Error::other("the host stage went away during start"));
        };
        let link = Arc::new(Self { channel, pending: Mutex::default(), next: AtomicU64::new(1) });
        tokio::spawn(Arc::clone(&link).hear(stop));
        Ok((link, *start, listeners))
    }

    async fn hear(self: Arc<Self>, stop: watch::Sender<bool>) {
        while let Ok(Some((message, mut passed))) = self.channel.receive::<ToSandbox>().await {
            match message {
                ToSandbox::Connected { id, error } => {
                    let socket = passed.pop().ok_or_else(|| io::Error::other(error.unwrap_or_else(|| "no socket came".into())));
                    self.answer(id, Answer::Connected(socket));
                }
                ToSandbox::Resolved { id, answer } => self.answer(id, Answer::Resolved(answer)),
                ToSandbox::Stop => drop(stop.send(true)),
                ToSandbox::Start(_) => {}
            }
        }
        // The host stage has gone: there is nobody to stop in order for.
        std::process::exit(1);
    }

    fn answer(&self, id: u64, answer: Answer) {
        if let Some(waiting) = self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
            // Whoever asked may have given up.
            let _ = waiting.send(answer);
        }
    }

    async fn ask(&self, request: impl FnOnce(u64) -> ToHost) -> io::Result<Answer> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.len() >= PENDING_MAX {
                return Err(io::Error::other("too many requests to the host at once"));
            }
            pending.insert(id, sender);
        }
        self.channel.send(&request(id), &[]).await?;
        answer.await.map_err(|_| io::Error::other("the host stage went away"))
    }

    /// A connection on the host's network.
    pub(crate) async fn connect(&self, address: SocketAddrV4) -> io::Result<TcpStream> {
        match self.ask(|id| ToHost::Connect { id, address }).await? {
            Answer::Connected(socket) => {
                let stream = std::net::TcpStream::from(socket?);
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)
            }
            Answer::Resolved(_) => Err(io::Error::other("the host stage answered another question")),
        }
    }

    /// What the host's resolver says.
    pub(crate) async fn resolve(&self, name: String) -> Resolution {
        match self.ask(|id| ToHost::Resolve { id, name }).await {
            Ok(Answer::Resolved(resolution)) => resolution,
            Ok(Answer::Connected(_)) => Resolution::Failed("the host stage answered another question".into()),
            Err(error) => Resolution::Failed(error.to_string()),
        }
    }

    /// Shows the user a line.
    pub(crate) async fn progress(&self, line: String) {
        self.tell(ToHost::Progress(line)).await;
    }

    /// Shows the user a finding.
    pub(crate) async fn finding(&self, finding: Finding) {
        self.tell(ToHost::Finding(Box::new(finding))).await;
    }

    /// Says that the mesh serves.
    pub(crate) async fn ready(&self, lines: Vec<String>) {
        self.tell(ToHost::Ready(lines)).await;
    }

    /// Says that the mesh cannot start.
    pub(crate) async fn failed(&self, reason: String) {
        self.tell(ToHost::Failed(reason)).await;
    }

    async fn tell(&self, message: ToHost) {
        if let Err(error) = self.channel.send(&message, &[]).await {
            eprintln!("cannot reach the host stage: {error}");
        }
    }
}
