//! Messages between the host stage and the supervisor: JSON, one per packet, with descriptors.
//!
//! - Rule: both ends treat a closed channel as the other's end: the supervisor stops everything, the host stage reports it.
//! - Limits: [`lateen_sys::fds::MESSAGE_BYTES_MAX`] bytes in a message.

use lateen_base::Finding;
use lateen_sys::fds;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// From the supervisor to the host stage.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHost {
    /// A line for the user.
    Progress(String),
    /// Something is wrong with the user's input.
    Finding(Box<Finding>),
    /// The mesh serves; lines of the summary.
    Ready(Vec<String>),
    /// The mesh cannot start.
    Failed(String),
    /// Asks for a connection on the host's network.
    Connect {
        /// Number that the answer repeats.
        id: u64,
        /// Where to.
        address: SocketAddrV4,
    },
    /// Asks the host's resolver.
    Resolve {
        /// Number that the answer repeats.
        id: u64,
        /// Name without the final dot.
        name: String,
    },
}

/// From the host stage to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToSandbox {
    /// First message. Its descriptors are the listeners, in the order of the fields that are set.
    Start(Box<Start>),
    /// Answer to `Connect`; on success the socket comes along.
    Connected {
        /// Number of the request.
        id: u64,
        /// Why not, in words.
        error: Option<String>,
    },
    /// Answer to `Resolve`.
    Resolved {
        /// Number of the request.
        id: u64,
        /// What the resolver said.
        answer: Resolution,
    },
    /// Stop everything in order.
    Stop,
}

/// What the host's resolver says about a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Resolution {
    /// Its IPv4 addresses; may be none for a name that exists.
    Addresses(Vec<Ipv4Addr>),
    /// There is no such name.
    NoSuchName,
    /// The resolver failed.
    Failed(String),
}

/// All that the supervisor needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    /// What the user asked for.
    pub options: crate::UpOptions,
    /// The binary, as a path that holds inside the sandbox too.
    pub executable: std::path::PathBuf,
    /// Published ports, as bound.
    pub ports: Published,
}

/// Ports on the host's loopback.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Published {
    /// Ingress gateway, plain.
    pub ingress: u16,
    /// Ingress gateway, TLS; `None` when the default port was taken.
    pub ingress_tls: Option<u16>,
    /// Live page.
    pub dashboard: u16,
}

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: AsyncFd<OwnedFd>,
}

impl Channel {
    /// Wraps one end of a `SOCK_SEQPACKET` pair. Needs a tokio runtime.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: fds::watched(socket)? })
    }

    /// Sends one message.
    pub(crate) async fn send<M: Serialize>(&self, message: &M, passed: &[OwnedFd]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > fds::MESSAGE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message between host stage and supervisor is too long"));
        }
        let borrowed: Vec<_> = passed.iter().map(AsFd::as_fd).collect();
        loop {
            let mut ready = self.socket.writable().await?;
            match ready.try_io(|socket| fds::send(socket.as_fd(), &bytes, &borrowed)) {
                Ok(sent) => return sent.map(drop),
                Err(_would_block) => {}
            }
        }
    }

    /// The next message with its descriptors; `None` when the other end has gone.
    pub(crate) async fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut buffer = vec![0; fds::MESSAGE_BYTES_MAX];
        loop {
            let mut ready = self.socket.readable().await?;
            let Ok(received) = ready.try_io(|socket| fds::receive(socket.as_fd(), &mut buffer)) else { continue };
            let (count, passed) = match received {
                Ok((0, _)) => return Ok(None),
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            };
            let message = serde_json::from_slice(buffer.get(..count).unwrap_or_default())?;
            return Ok(Some((message, passed)));
        }
    }
}
