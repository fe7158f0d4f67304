//! Copying bytes both ways between two connections, with half-close.
//!
//! - Rule: a direction holds a buffer only while bytes are in it, so an idle connection holds none.
//! - Rule: the end of one direction is passed on and the other goes on; an error ends both.
//! - Limits: one buffer per direction; a slow receiver stops the sender.
//! - Not here: where the connections come from (`tcp_proxy`, `http` upgrades).

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Buffers;
use crate::transport::Stream;

/// Bytes moved so far; readable while copying.
#[derive(Debug, Default)]
pub struct Moved {
    /// From downstream to upstream.
    pub up: Cell<u64>,
    /// From upstream to downstream.
    pub down: Cell<u64>,
}

/// Which side a copy failed on.
#[derive(Debug)]
pub enum Broken {
    /// Reading from or writing to downstream.
    Downstream(io::Error),
    /// Reading from or writing to upstream.
    Upstream(io::Error),
}

/// Copies until both directions ended. `said` was already read from `upstream` and goes down first.
///
/// # Errors
/// [`Broken`] with the first error of either side.
pub async fn both_ways(downstream: &mut Stream, upstream: &mut Stream, said: Vec<u8>, buffers: &Buffers, moved: &Moved) -> Result<(), Broken> {
    let (mut up, mut down) = (Direction::default(), Direction { held: said, ..Direction::default() });
    poll_fn(|cx| {
        let up_done = up.poll(cx, downstream, upstream, buffers, &moved.up);
        if let Poll::Ready(Err(fault)) = up_done {
            return Poll::Ready(Err(fault.between(Broken::Downstream, Broken::Upstream)));
        }
        let down_done = down.poll(cx, upstream, downstream, buffers, &moved.down);
        match (up_done, down_done) {
            (_, Poll::Ready(Err(fault))) => Poll::Ready(Err(fault.between(Broken::Upstream, Broken::Downstream))),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            (Poll::Pending | Poll::Ready(_), Poll::Pending | Poll::Ready(_)) => Poll::Pending,
        }
    })
    .await
}

enum Fault {
    Reading(io::Error),
    Writing(io::Error),
}

impl Fault {
    fn between(self, from: fn(io::Error) -> Broken, to: fn(io::Error) -> Broken) -> Broken {
        match self {
            Fault::Reading(e) => from(e),
            Fault::Writing(e) => to(e),
        }
    }
}

#[derive(Default)]
struct Direction {
    held: Vec<u8>,
    written: usize,
    state: State,
    unflushed: bool,
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Open,
    Ended,
    Done,
}

impl Direction {
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream, buffers: &Buffers, moved: &Cell<u64>) -> Poll<Result<(), Fault>> {
        loop {
            while let Some(rest) = self.held.get(self.written..).filter(|rest| !rest.is_empty()) {
                let n = ready!(Pin::new(&mut *to).poll_write(cx, rest)).map_err(Fault::Writing)?;
                if n == 0 {
                    return Poll::Ready(Err(Fault::Writing(io::ErrorKind::WriteZero.into())));
                }
                self.written += n;
                self.unflushed = true;
                moved.set(moved.get() + n as u64);
            }
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Fault::Writing)?;
                    self.state = State::Done;
                }
                State::Open => match self.poll_fill(cx, from, buffers) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(Fault::Reading(e))),
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Fault::Writing)?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// Reads into a borrowed buffer; without bytes the buffer goes back at once.
    fn poll_fill(&mut self, cx: &mut Context<'_>, from: &mut Stream, buffers: &Buffers) -> Poll<io::Result<()>> {
        let mut buffer = if self.held.capacity() == 0 { buffers.take() } else { std::mem::take(&mut self.held) };
        self.written = 0;
        let room = buffer.capacity();
        buffer.resize(room, 0);
        let mut target = ReadBuf::new(&mut buffer);
        let outcome = Pin::new(from).poll_read(cx, &mut target);
        let filled = target.filled().len();
        buffer.truncate(filled);
        match outcome {
            Poll::Pending => {
                buffers.give(buffer);
                Poll::Pending
            }
            Poll::Ready(Err(e)) => {
                buffers.give(buffer);
                Poll::Ready(Err(e))
            }
            Poll::Ready(Ok(())) if filled == 0 => {
                buffers.give(buffer);
                self.state = State::Ended;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(())) => {
                self.held = buffer;
                Poll::Ready(Ok(()))
            }
        }
    }
}
