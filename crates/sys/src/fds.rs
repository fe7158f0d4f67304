//! Descriptors sent between processes over a unix socket.
//!
//! - Reads: unix(7) `SCM_RIGHTS`.
//! - Limits: at most [`FDS_MAX`] descriptors and [`MESSAGE_BYTES_MAX`] bytes in one message; more is an error.

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use tokio::io::unix::AsyncFd;

/// Descriptors in one message: three standard streams or the published listeners, with room.
pub const FDS_MAX: usize = 8;
/// Bytes in one message, which holds a small JSON text.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Sends `bytes` (not empty) and `fds` as one message. Returns how many bytes went; descriptors go with the first byte.
///
/// # Errors
/// What sendmsg(2) reports; `WouldBlock` on a full non-blocking socket.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = if raw.is_empty() { vec![] } else { vec![ControlMessage::ScmRights(&raw)] };
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], &control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives into `buffer` and returns the byte count with the descriptors that came along, close-on-exec. Zero bytes: the peer has closed.
///
/// # Errors
/// What recvmsg(2) reports; `InvalidData` when descriptors were cut off.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; FDS_MAX]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            for fd in raw {
                // SAFETY: the kernel has just installed this descriptor for this process, and nobody else knows its number.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors came than one message may carry"));
    }
    Ok((message.bytes, fds))
}

/// A socket to wait on. Must be called inside a tokio runtime.
///
/// # Errors
/// When the socket cannot be made non-blocking or watched.
pub fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and the result owns it.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_and_works() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut inner, passed) = UnixStream::pair().unwrap();
        send(left.as_fd(), b"x", &[passed.as_fd()]).unwrap();
        drop(passed);
        let mut buffer = [0; 4];
        let (count, mut fds) = receive(right.as_fd(), &mut buffer).unwrap();
        assert_eq!((count, fds.len()), (1, 1));
        UnixStream::from(fds.remove(0)).write_all(b"hello").unwrap();
        let mut text = String::new();
        inner.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_closed_peer_reads_as_zero_bytes() {
        let (left, right) = UnixStream::pair().unwrap();
        drop(left);
        assert_eq!(receive(right.as_fd(), &mut [0; 4]).unwrap().0, 0);
    }
}
