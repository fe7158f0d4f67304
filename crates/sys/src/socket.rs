//! Socket options of interception: the packet mark and the destination before redirection.
//!
//! - Reads: socket(7) `SO_MARK`, ip(7) and netfilter's `SO_ORIGINAL_DST`.
//! - Not here: the rules that redirect (`nft`).

use lateen_base::ports::PROXY_MARK;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// Marks a socket as the proxy's own, so that the pod's rules let it pass. Before connect.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` in the socket's network namespace.
pub fn mark_as_proxy(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_mark(PROXY_MARK)
}

/// Where an accepted connection was going before it was redirected.
///
/// # Errors
/// `ENOENT` for a connection that was not redirected.
pub fn original_destination(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let address = SockRef::from(socket).original_dst_v4()?;
    address.as_socket().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the original destination is no internet address"))
}

/// Makes close(2) answer the peer with a reset instead of an orderly end.
///
/// # Errors
/// What setsockopt(2) reports.
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO))
}
