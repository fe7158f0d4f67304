//! One connection's bytes for HTTP/1: reading and writing at once from one task.
//!
//! - Rule: both halves share the stream through short borrows inside one poll; no lock, no split allocation.
//! - Rule: an idle connection holds no buffer ([`Io::readable`]).
//! - Limits: a read fills at most the spare capacity of the caller's buffer.
//! - Not here: message framing (`codec/h1.rs`).

use crate::transport::Stream;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt, AsyncWrite};

/// A stream that two directions of one exchange use in turn.
pub(crate) struct Io<'s> {
    stream: RefCell<&'s mut Stream>,
}

impl<'s> Io<'s> {
    pub(crate) fn new(stream: &'s mut Stream) -> Self {
        Self { stream: RefCell::new(stream) }
    }
}

/// Both halves of a connection behind a shared reference. `dyn`, so that borrowers need not name how long the stream lives.
pub(crate) trait Duplex {
    /// Ready when a read would not wait. May wake early.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads once into the spare capacity of `buffer`; 0 is the end.
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<io::Result<usize>>;
    /// Writes what is left of both slices, then flushes; what was written is cut off their fronts.
    fn poll_write_all(&self, cx: &mut Context<'_>, first: &mut &[u8], second: &mut &[u8]) -> Poll<io::Result<()>>;
    /// Sends the end of this side's bytes.
    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Duplex for Io<'_> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_readable(&self.stream.borrow(), cx)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        // The future keeps no state between polls: what was read is in `buffer`.
        pin!(stream.read_buf(buffer)).poll(cx)
    }

    fn poll_write_all(&self, cx: &mut Context<'_>, first: &mut &[u8], second: &mut &[u8]) -> Poll<io::Result<()>> {
        let mut stream = self.stream.borrow_mut();
        let mut stream = Pin::new(&mut **stream);
        while !first.is_empty() || !second.is_empty() {
            let written = if second.is_empty() {
                ready!(stream.as_mut().poll_write(cx, first))?
            } else if first.is_empty() {
                ready!(stream.as_mut().poll_write(cx, second))?
            } else {
                ready!(stream.as_mut().poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_first = written.min(first.len());
            *first = first.get(of_first..).unwrap_or_default();
            *second = second.get(written - of_first..).unwrap_or_default();
        }
        stream.poll_flush(cx)
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.stream.borrow_mut()).poll_shutdown(cx)
    }
}

impl dyn Duplex + '_ {
    /// Waits for bytes, the end or an error, holding no buffer.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Reads once into the spare capacity of `buffer`; 0 is the end of the stream.
    pub(crate) async fn read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Writes both slices completely and flushes.
    pub(crate) async fn write_all2(&self, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_all(cx, &mut first, &mut second)).await
    }

    /// Sends the end of this side's bytes.
    pub(crate) async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }
}

/// Ready when a read would not wait. May wake early.
fn poll_readable(stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    match stream {
        Stream::Plain(tcp) => tcp.poll_read_ready(cx),
        Stream::Unix(unix) => unix.poll_read_ready(cx),
        Stream::TlsClient(tls, _) => match tls.get_ref() {
            (tcp, session) if session.wants_read() => tcp.poll_read_ready(cx),
            _ => Poll::Ready(Ok(())),
        },
        Stream::TlsServer(tls, _) => match tls.get_ref() {
            (tcp, session) if session.wants_read() => tcp.poll_read_ready(cx),
            _ => Poll::Ready(Ok(())),
        },
    }
}
