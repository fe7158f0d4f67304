//! The answer's way downstream: informational heads, the head, the body.
//!
//! - Rule: after [`Responder::head`] no other head can be sent; whoever fails then can only end the stream.
//! - Rule: framing and `connection` are written here and nowhere else.
//! - Not here: what the head says (`http/stream.rs`).

use super::body::{BodyError, BodyTx, H2Tx};
use super::codec::h1::{H1Tx, TxFraming};
use super::codec::h2 as codec_h2;
use bytes::Bytes;
use lateen_http1::{Framing, Headers, write_fields, write_status_line};
use std::task::{Context, Poll};

/// What the head of an answer says about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerBody {
    /// None, and `content-length` is copied as it came (answers to HEAD, 304).
    None,
    /// This framing.
    Framed(Framing),
    /// A tunnel: bytes follow without framing (101, or 200 to an extended CONNECT).
    Tunnel,
}

/// The sending side of one exchange, downstream.
pub(crate) struct Responder<'a> {
    tx: BodyTx<'a>,
    h2: Option<h2::server::SendResponse<Bytes>>,
    /// HTTP/1 only: the connection ends after this answer.
    pub(crate) close: bool,
    /// The head has been handed over.
    pub(crate) started: bool,
    /// HTTP/1.0 client: no chunked coding.
    http10: bool,
    /// The answer broke off; the client must not take it for complete.
    pub(crate) was_reset: bool,
}

impl<'a> Responder<'a> {
    /// Towards an HTTP/1 client.
    pub(crate) fn h1(tx: H1Tx<'a>, http10: bool, close: bool) -> Self {
        Self { tx: BodyTx::H1(tx), h2: None, close, started: false, http10, was_reset: false }
    }

    /// Towards an HTTP/2 client.
    pub(crate) fn h2(respond: h2::server::SendResponse<Bytes>) -> Self {
        Self { tx: BodyTx::H2(H2Tx { stream: None }), h2: Some(respond), close: false, started: false, http10: false, was_reset: false }
    }

    /// Sends an informational head (100, 103) at once.
    pub(crate) async fn informational(&mut self, status: u16, headers: &Headers) -> Result<(), BodyError> {
        match &mut self.tx {
            BodyTx::H1(tx) => {
                write_status_line(tx.out, status);
                write_fields(tx.out, headers);
                tx.out.extend_from_slice(b"\r\n");
                Ok(tx.flush().await?)
            }
            BodyTx::H2(_) => match self.h2.as_mut() {
                // `100` has no use in HTTP/2, where bodies flow anyway; `h2` refuses it.
                Some(respond) if status != 100 => Ok(respond.send_informational(codec_h2::write_response(status, headers))?),
                Some(_) | None => Ok(()),
            },
        }
    }

    /// Hands over the head. For HTTP/1 it leaves with the first body bytes or the next flush.
    pub(crate) fn head(&mut self, status: u16, headers: &Headers, body: AnswerBody) -> Result<(), BodyError> {
        self.started = true;
        match &mut self.tx {
            BodyTx::H1(tx) => {
                write_h1_head(tx, status, headers, body, self.http10, &mut self.close);
                Ok(())
            }
            BodyTx::H2(tx) => {
                let Some(mut respond) = self.h2.take() else { return Err(BodyError::Closed) };
                let ended = matches!(body, AnswerBody::None | AnswerBody::Framed(Framing::None));
                let status = if body == AnswerBody::Tunnel { 200 } else { status };
                let stream = respond.send_response(codec_h2::write_response(status, headers), ended)?;
                tx.stream = (!ended).then_some(stream);
                Ok(())
            }
        }
    }

    /// The body's way.
    pub(crate) fn body(&mut self) -> &mut BodyTx<'a> {
        &mut self.tx
    }

    /// Ends the stream without an answer.
    pub(crate) fn reset(&mut self, reason: h2::Reason) {
        self.close = true;
        self.was_reset = true;
        self.tx.reset(reason);
        if let Some(mut respond) = self.h2.take() {
            respond.send_reset(reason);
        }
    }

    /// Ready when the client has reset the stream.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.h2.as_mut() {
            Some(respond) => respond.poll_reset(cx).map(|_| ()),
            None => self.tx.poll_gone(cx),
        }
    }
}

fn write_h1_head(tx: &mut H1Tx<'_>, status: u16, headers: &Headers, body: AnswerBody, http10: bool, close: &mut bool) {
    let out = &mut *tx.out;
    write_status_line(out, status);
    write_fields(out, headers);
    tx.framing = TxFraming::Plain;
    match body {
        AnswerBody::None => copy_length(out, headers),
        AnswerBody::Tunnel => {
            if let Some(protocol) = headers.get(b"upgrade") {
                out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
                out.extend_from_slice(protocol);
                out.extend_from_slice(b"\r\n");
            }
        }
        AnswerBody::Framed(Framing::None) => {
            if status >= 200 && status != 204 {
                out.extend_from_slice(b"content-length: 0\r\n");
            }
        }
        AnswerBody::Framed(Framing::Length(length)) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        AnswerBody::Framed(Framing::Chunked | Framing::UntilClose) if http10 => *close = true,
        AnswerBody::Framed(Framing::Chunked | Framing::UntilClose) => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            tx.framing = TxFraming::Chunked;
        }
    }
    if *close && body != AnswerBody::Tunnel {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn copy_length(out: &mut Vec<u8>, headers: &Headers) {
    if let Some(length) = headers.get(b"content-length") {
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(length);
        out.extend_from_slice(b"\r\n");
    }
}
