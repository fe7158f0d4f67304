//! Bodies in motion: pieces out of one connection, pieces into another, with back-pressure and nothing collected.
//!
//! - Rule: what was taken is either forwarded or kept for a retry; dropping a future between pieces loses nothing.
//! - Limits: one piece at a time; HTTP/2 windows are given back only after a piece was forwarded.
//! - Not here: framing (`codec/h1.rs`), keeping bodies for retries (`http/retry.rs`).

use super::codec::h1::{H1Tx, READ_ROOM, ReadBuffer};
use super::codec::h2 as codec_h2;
use super::io::Duplex;
use bytes::Bytes;
use lateen_http1::{BodyDecoder, Headers, ParseError, Piece};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// Why a body did not arrive or could not be sent.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The other side closed or reset in the middle.
    Closed,
    /// Broken framing.
    Protocol(ParseError),
    /// The HTTP/2 stream was reset.
    Reset(h2::Reason),
    /// The socket failed.
    Io,
}

impl From<io::Error> for BodyError {
    fn from(error: io::Error) -> Self {
        let _ = error;
        Self::Io
    }
}

impl From<h2::Error> for BodyError {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) => Self::Reset(reason),
            None => Self::Closed,
        }
    }
}

/// A piece of a body.
pub(crate) struct Chunk<'b> {
    pub(crate) data: Data<'b>,
    /// The body ends with this piece and has no trailers.
    pub(crate) end: bool,
    /// The next step will not wait.
    pub(crate) more: bool,
}

/// The bytes of a piece, borrowed where possible.
pub(crate) enum Data<'b> {
    Slice(&'b [u8]),
    Shared(Bytes),
}

impl Data<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Data::Slice(slice) => slice,
            Data::Shared(bytes) => bytes,
        }
    }

    fn into_shared(self) -> Bytes {
        match self {
            Data::Slice(slice) => Bytes::copy_from_slice(slice),
            Data::Shared(bytes) => bytes,
        }
    }
}

/// One step of receiving.
pub(crate) enum Step<'b> {
    Data(Chunk<'b>),
    /// The body is complete; trailers are known.
    End,
    /// Nothing here yet: [`BodyRx::fill`].
    Wait,
}

/// The receiving side of one body.
pub(crate) enum BodyRx<'a> {
    /// No body, and nothing to watch.
    Empty,
    H1(H1Rx<'a>),
    H2(Box<H2Rx>),
}

/// Body on an HTTP/1 connection.
pub(crate) struct H1Rx<'a> {
    pub(crate) io: &'a (dyn Duplex + 'a),
    pub(crate) buffer: &'a mut ReadBuffer,
    pub(crate) decoder: BodyDecoder,
    /// The peer closed in an orderly way.
    pub(crate) closed: bool,
}

/// Body on an HTTP/2 stream.
pub(crate) struct H2Rx {
    stream: h2::RecvStream,
    waiting: Option<Bytes>,
    forwarded: usize,
    ended: bool,
    trailers: Option<Headers>,
}

impl H2Rx {
    pub(crate) fn new(stream: h2::RecvStream) -> Self {
        let ended = stream.is_end_stream();
        Self { stream, waiting: None, forwarded: 0, ended, trailers: None }
    }

    fn release(&mut self) {
        if self.forwarded > 0 {
            // An error means that the stream is gone, which the next poll reports.
            let _ = self.stream.flow_control().release_capacity(std::mem::take(&mut self.forwarded));
        }
    }

    async fn fill(&mut self) -> Result<(), BodyError> {
        self.release();
        match poll_fn(|cx| self.stream.poll_data(cx)).await {
            Some(data) => self.waiting = Some(data?),
            None => {
                self.trailers = poll_fn(|cx| self.stream.poll_trailers(cx)).await?.map(|map| codec_h2::read_trailers(&map));
                self.ended = true;
            }
        }
        Ok(())
    }
}

impl BodyRx<'_> {
    /// Takes the next piece that is already here.
    pub(crate) fn step(&mut self) -> Result<Step<'_>, BodyError> {
        match self {
            Self::Empty => Ok(Step::End),
            Self::H1(rx) => rx.step(),
            Self::H2(rx) => {
                rx.release();
                let Some(bytes) = rx.waiting.take() else {
                    return Ok(if rx.ended { Step::End } else { Step::Wait });
                };
                rx.forwarded = bytes.len();
                rx.ended |= rx.stream.is_end_stream();
                Ok(Step::Data(Chunk { data: Data::Shared(bytes), end: rx.ended, more: false }))
            }
        }
    }

    /// Waits until [`BodyRx::step`] has something new to say.
    pub(crate) async fn fill(&mut self) -> Result<(), BodyError> {
        match self {
            Self::Empty => Ok(()),
            Self::H1(rx) => rx.fill().await,
            Self::H2(rx) => rx.fill().await,
        }
    }

    /// True when every byte has been taken.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(rx) => rx.decoder.is_done(),
            Self::H2(rx) => rx.ended && rx.waiting.is_none(),
        }
    }

    /// Trailers, once the end was reached.
    pub(crate) fn trailers(&self) -> Option<&Headers> {
        match self {
            Self::Empty => None,
            Self::H1(rx) => rx.decoder.trailers(),
            Self::H2(rx) => rx.trailers.as_ref(),
        }
    }

    /// After the body: comes back only when the peer has gone. Bytes of a next request stay in the buffer.
    pub(crate) async fn gone(&mut self) -> BodyError {
        match self {
            Self::H1(rx) => rx.gone().await,
            Self::Empty | Self::H2(_) => std::future::pending().await,
        }
    }
}

impl H1Rx<'_> {
    fn step(&mut self) -> Result<Step<'_>, BodyError> {
        match self.decoder.decode(self.buffer.unread()).map_err(BodyError::Protocol)? {
            Piece::Data { range, consumed } => {
                let start = self.buffer.bytes.len() - self.buffer.unread().len();
                let more = consumed < self.buffer.unread().len() && !self.decoder.is_done();
                let range = start + range.start..start + range.end;
                let end = matches!(self.decoder, BodyDecoder::Length(0));
                // The bytes stay in place until the next read; only the mark moves.
                self.buffer.mark(consumed);
                let data = Data::Slice(self.buffer.bytes.get(range).unwrap_or_default());
                Ok(Step::Data(Chunk { data, end, more }))
            }
            Piece::More { consumed } => {
                self.buffer.consume(consumed);
                if self.closed {
                    self.decoder.end_of_stream().map(|()| Step::End).map_err(|_| BodyError::Closed)
                } else {
                    Ok(Step::Wait)
                }
            }
            Piece::End { consumed } => {
                self.buffer.consume(consumed);
                Ok(Step::End)
            }
        }
    }

    async fn fill(&mut self) -> Result<(), BodyError> {
        self.buffer.consume(0);
        self.buffer.make_room(READ_ROOM);
        self.closed = self.io.read(&mut self.buffer.bytes).await? == 0;
        Ok(())
    }

    async fn gone(&mut self) -> BodyError {
        loop {
            if self.buffer.bytes.len() >= self.buffer.bytes.capacity() {
                // A full buffer of pipelined requests: look again only when they are served.
                return std::future::pending().await;
            }
            match self.io.read(&mut self.buffer.bytes).await {
                Ok(0) => return BodyError::Closed,
                Ok(_) => {}
                Err(_) => return BodyError::Io,
            }
        }
    }
}

/// The sending side of one body.
pub(crate) enum BodyTx<'a> {
    H1(H1Tx<'a>),
    H2(H2Tx),
}

/// Body on an HTTP/2 stream.
pub(crate) struct H2Tx {
    /// `None`: the head ended the stream.
    pub(crate) stream: Option<h2::SendStream<Bytes>>,
}

/// HTTP/2 pieces wait for window in steps of at most this much.
const WINDOW_STEP: usize = 64 * 1024;

impl H2Tx {
    async fn data(&mut self, data: Data<'_>, end: bool) -> Result<(), BodyError> {
        let Some(stream) = self.stream.as_mut() else { return Ok(()) };
        let mut bytes = data.into_shared();
        loop {
            stream.reserve_capacity(bytes.len().min(WINDOW_STEP));
            let granted = poll_fn(|cx| match stream.poll_capacity(cx) {
                Poll::Pending => match stream.poll_reset(cx) {
                    Poll::Ready(Ok(reason)) => Poll::Ready(Err(BodyError::Reset(reason))),
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                    Poll::Pending => Poll::Pending,
                },
                Poll::Ready(Some(granted)) => Poll::Ready(granted.map_err(BodyError::from)),
                Poll::Ready(None) => Poll::Ready(Err(BodyError::Closed)),
            })
            .await?;
            let piece = bytes.split_to(granted.min(bytes.len()));
            let last = bytes.is_empty();
            stream.send_data(piece, end && last)?;
            if last {
                break;
            }
        }
        if end {
            self.stream = None;
        }
        Ok(())
    }

    fn finish(&mut self, trailers: Option<&Headers>) -> Result<(), BodyError> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        match trailers {
            Some(trailers) => stream.send_trailers(codec_h2::write_trailers(trailers))?,
            None => stream.send_data(Bytes::new(), true)?,
        }
        Ok(())
    }
}

impl BodyTx<'_> {
    /// Sends a piece.
    pub(crate) async fn data(&mut self, chunk: Chunk<'_>) -> Result<(), BodyError> {
        match self {
            Self::H1(tx) => Ok(tx.data(chunk.data.bytes(), chunk.more).await?),
            Self::H2(tx) if chunk.data.bytes().is_empty() && !chunk.end => {
                let _ = tx;
                Ok(())
            }
            Self::H2(tx) => tx.data(chunk.data, chunk.end).await,
        }
    }

    /// Writes what waits.
    pub(crate) async fn flush(&mut self) -> Result<(), BodyError> {
        match self {
            Self::H1(tx) => Ok(tx.flush().await?),
            Self::H2(_) => Ok(()),
        }
    }

    /// Ends the body.
    pub(crate) async fn finish(&mut self, trailers: Option<&Headers>) -> Result<(), BodyError> {
        match self {
            Self::H1(tx) => Ok(tx.finish(trailers).await?),
            Self::H2(tx) => tx.finish(trailers),
        }
    }

    /// After a tunnel's last byte: tells an HTTP/1 peer that no more will come. HTTP/2 was told by [`BodyTx::finish`].
    pub(crate) async fn end_stream(&mut self) -> Result<(), BodyError> {
        match self {
            Self::H1(tx) => Ok(tx.io.shutdown().await?),
            Self::H2(_) => Ok(()),
        }
    }

    /// Ends the stream with an error the peer can see. HTTP/1 has only closing, which is the caller's.
    pub(crate) fn reset(&mut self, reason: h2::Reason) {
        if let Self::H2(H2Tx { stream: Some(stream), .. }) = self {
            stream.send_reset(reason);
        }
    }

    /// Ready when the peer has given up on this message.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::H2(H2Tx { stream: Some(stream), .. }) => stream.poll_reset(cx).map(|_| ()),
            Self::H1(_) | Self::H2(_) => Poll::Pending,
        }
    }
}

/// Which side of a [`pump`] failed.
#[derive(Debug)]
pub(crate) enum PumpError {
    /// The body did not arrive.
    From(BodyError),
    /// It could not be sent.
    To,
}

/// Moves a whole body with its trailers; `look` sees each piece first.
pub(crate) async fn pump(rx: &mut BodyRx<'_>, tx: &mut BodyTx<'_>, mut look: impl FnMut(&[u8])) -> Result<(), PumpError> {
    loop {
        match rx.step().map_err(PumpError::From) {
            Ok(Step::Data(chunk)) => {
                look(chunk.data.bytes());
                tx.data(chunk).await.map_err(|_| PumpError::To)?;
            }
            Ok(Step::End) => {
                return tx.finish(rx.trailers()).await.map_err(|_| PumpError::To);
            }
            Ok(Step::Wait) => {
                tx.flush().await.map_err(|_| PumpError::To)?;
                let mut filling = std::pin::pin!(rx.fill());
                poll_fn(|cx| {
                    if tx.poll_gone(cx).is_ready() {
                        return Poll::Ready(Err(PumpError::To));
                    }
                    filling.as_mut().poll(cx).map_err(PumpError::From)
                })
                .await?;
            }
            Err(broken) => {
                // What arrived before the break still belongs to the client.
                let _ = tx.flush().await;
                return Err(broken);
            }
        }
    }
}
