//! gRPC statistics: recognises gRPC and counts its messages as they pass.
//!
//! - Reads: `extensions.filters.http.grpc_stats.v3.FilterConfig`; gRPC's length-prefixed messages.
//! - Rule: counts only what it sees pass; nothing is held back or changed.
//! - Not here: the metrics (`filters/istio_stats.rs`).

use crate::http::exchange::Watch;
use crate::http::info::Info;
use crate::http::request::Request;
use lateen_http1::Headers;
use std::cell::Cell;

/// Message counters of one request.
#[derive(Default)]
pub(crate) struct Messages {
    on: bool,
    request: Counter,
    response: Counter,
    status: Cell<Option<u32>>,
}

/// Counts length-prefixed messages in a stream of pieces.
#[derive(Default)]
struct Counter {
    messages: Cell<u64>,
    /// Bytes of the current prefix seen, 0 to 4.
    prefix: Cell<u8>,
    length: Cell<u32>,
    /// Payload bytes still to come.
    left: Cell<u32>,
}

/// One flag byte and four of length.
const PREFIX_BYTES: u8 = 5;

impl Counter {
    fn see(&self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            if self.left.get() > 0 {
                let skip = (self.left.get() as usize).min(piece.len());
                self.left.set(self.left.get() - u32::try_from(skip).unwrap_or(u32::MAX));
                piece = piece.get(skip..).unwrap_or_default();
                continue;
            }
            if self.prefix.get() > 0 {
                self.length.set(self.length.get() << 8 | u32::from(byte));
            }
            self.prefix.set(self.prefix.get() + 1);
            piece = rest;
            if self.prefix.get() == PREFIX_BYTES {
                self.messages.set(self.messages.get() + 1);
                self.left.set(self.length.get());
                self.prefix.set(0);
                self.length.set(0);
            }
        }
    }
}

impl Messages {
    pub(crate) fn begin(&mut self, request: &Request) {
        self.on = request.is_grpc();
    }

    pub(crate) fn end(&self, info: &mut Info) {
        info.request_messages = self.request.messages.get();
        info.response_messages = self.response.messages.get();
        if let Some(status) = self.status.get() {
            info.grpc_status = Some(status);
        }
    }
}

impl Watch for Messages {
    fn request_piece(&self, piece: &[u8]) {
        if self.on {
            self.request.see(piece);
        }
    }

    fn response_piece(&self, piece: &[u8]) {
        if self.on {
            self.response.see(piece);
        }
    }

    fn response_trailers(&self, trailers: &Headers) {
        if let Some(status) = crate::http::upstream::grpc_status(trailers) {
            self.status.set(Some(status));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_in_any_split() {
        let stream = [&[0, 0, 0, 0, 3, b'a', b'b', b'c'][..], &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 1, b'x']].concat();
        for step in 1..=stream.len() {
            let counter = Counter::default();
            stream.chunks(step).for_each(|piece| counter.see(piece));
            assert_eq!(counter.messages.get(), 3, "{step}");
        }
    }
}
