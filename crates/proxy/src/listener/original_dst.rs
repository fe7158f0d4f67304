//! Original destination: where a redirected connection was going.
//!
//! - Reads: `SO_ORIGINAL_DST` (netfilter), `extensions.filters.listener.original_dst.v3.OriginalDst`.
//! - Twin: `compile/src/listener/outbound.rs`, `local/src/supervisor/interception.rs`.
//! - Rule: a connection that was not redirected goes where it was accepted.
//! - Not here: the redirection itself (`sys`, nftables).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lateen_plan::listener::Listener;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::Addresses;

/// The destination before redirection, or `accepted_on`.
pub fn of(tcp: &TcpStream, accepted_on: SocketAddr) -> SocketAddr {
    let socket = SockRef::from(tcp);
    let asked = if accepted_on.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    asked.ok().and_then(|address| address.as_socket()).unwrap_or(accepted_on)
}

/// The listener that stands for `destination`: its very address, else its port on every address.
pub fn hand_over(addresses: &Addresses, destination: SocketAddr) -> Option<&Arc<Listener>> {
    let any = match destination.ip() {
        IpAddr::V4(_) => IpAddr::from([0u8; 4]),
        IpAddr::V6(_) => IpAddr::from([0u8; 16]),
    };
    let any = SocketAddr::new(any, destination.port());
    addresses.get(&destination).or_else(|| addresses.get(&any))
}
