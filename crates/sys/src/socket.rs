//! Socket options: those of interception (the packet mark, the destination before redirection), and any that configuration names by number.
//!
//! - Reads: socket(7) `SO_MARK`, ip(7) and netfilter's `SO_ORIGINAL_DST`.
//! - Not here: the rules that redirect (`nft`).

use lateen_base::ports::PROXY_MARK;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};

/// Marks a socket as the proxy's own, so that the pod's rules let it pass. Before connect.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` in the socket's network namespace.
pub fn mark_as_proxy(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_mark(PROXY_MARK)
}

/// Sets the option `name` of `level` to the bytes `value`, as configuration gives them by number.
///
/// # Errors
/// What setsockopt(2) reports: an unknown option, a value of the wrong size, a missing capability.
pub fn set_option(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let length = nix::libc::socklen_t::try_from(value.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the descriptor is borrowed for the call, and the kernel reads at most `length` bytes from `value`, which has as many.
    let code = unsafe { nix::libc::setsockopt(fd, level, name, value.as_ptr().cast(), length) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
