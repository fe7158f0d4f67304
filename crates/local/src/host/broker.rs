//! Egress: connections and name lookups that the sandbox asks for, made on the host's network.
//!
//! - Rule: the sandbox gets the connected socket itself; no byte of the connection passes through here.
//! - Limits: [`CONNECTING_MAX`] attempts at a time, others wait; an attempt ends after [`CONNECT_MAX`].
//! - Security: `host.lateen.internal` is the host's loopback, by intent. Other loopback addresses never come here.

use crate::channel::{Channel, Resolution, ToHost, ToSandbox};
use lateen_base::ports::HOST_LOOPBACK_ALIAS;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

const CONNECTING_MAX: usize = 256;
/// As long as a proxy waits by default.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Serves the supervisor's requests.
pub(super) struct Broker {
    channel: Rc<Channel>,
    connecting: Rc<Semaphore>,
}

impl Broker {
    pub(super) fn new(channel: Rc<Channel>) -> Self {
        Self { channel, connecting: Rc::new(Semaphore::new(CONNECTING_MAX)) }
    }

    /// Starts on one request. Its task ends with the host stage, which owns the local set.
    pub(super) fn serve(&self, request: ToHost) {
        let (channel, connecting) = (Rc::clone(&self.channel), Rc::clone(&self.connecting));
        tokio::task::spawn_local(async move {
            let _permit = connecting.acquire().await;
            let (answer, socket) = match request {
                ToHost::Connect { id, address } => match connect(address).await {
                    Ok(socket) => (ToSandbox::Connected { id, error: None }, vec![socket]),
                    Err(error) => (ToSandbox::Connected { id, error: Some(error.to_string()) }, vec![]),
                },
                ToHost::Resolve { id, name } => (ToSandbox::Resolved { id, answer: resolve(&name).await }, vec![]),
                ToHost::Progress(_) | ToHost::Finding(_) | ToHost::Ready(_) | ToHost::Failed(_) => return,
            };
            // A supervisor that has gone needs no answer.
            let _ = channel.send(&answer, &socket).await;
        });
    }
}

async fn connect(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let ip = if *address.ip() == HOST_LOOPBACK_ALIAS { Ipv4Addr::LOCALHOST } else { *address.ip() };
    let target = SocketAddrV4::new(ip, address.port());
    match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(target)).await {
        Ok(stream) => Ok(stream?.into_std()?.into()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn resolve(name: &str) -> Resolution {
    match tokio::net::lookup_host((name, 0)).await {
        Ok(found) => {
            let mut addresses: Vec<Ipv4Addr> = Vec::new();
            for address in found {
                // A name may be listed once for every socket type.
                if let SocketAddr::V4(v4) = address && !addresses.contains(v4.ip()) {
                    addresses.push(*v4.ip());
                }
            }
            Resolution::Addresses(addresses)
        }
        Err(error) => refused(&error.to_string()),
    }
}

/// The C library tells "no such name" and "no server answers" apart in words only.
fn refused(words: &str) -> Resolution {
    let unknown = ["not known", "does not resolve", "No address associated", "nodename nor servname"];
    if unknown.iter().any(|text| words.contains(text)) { Resolution::NoSuchName } else { Resolution::Failed(words.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_and_a_silent_server_are_told_apart() {
        assert_eq!(refused("failed to lookup address information: Name or service not known"), Resolution::NoSuchName);
        assert!(matches!(refused("failed to lookup address information: Temporary failure in name resolution"), Resolution::Failed(_)));
    }
}
