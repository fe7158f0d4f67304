//! Chunked transfer coding: a strict incremental decoder and the small writers of the encoder.
//!
//! ```text
//! Size ──CR──► SizeLf ──LF──► Data ──n bytes──► DataCr ─► DataLf ─► Size
//!   └─';'─► Extension ──CR──┘   └─ size 0 ─► Trailer (lines) ──empty line──► Done
//! ```
//!
//! - Reads: RFC 9112 §7.1.
//! - Rule: hex digits only, CR LF only; what follows a chunk's data must be CR LF.
//! - Limits: [`DIGITS_MAX`] hex digits, [`EXTENSION_BYTES_MAX`] of extensions over the whole body, [`TRAILER_BYTES_MAX`] of trailers.
//! - Not here: keeping chunk boundaries or extensions; both end here.

use crate::{Headers, Known, ParseError, Piece};

/// 16 hex digits fill 64 bits; a seventeenth could only be an overflow.
const DIGITS_MAX: u8 = 16;
/// Extensions carry nothing that we forward; more than this in one body is an attack on CPU.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// As large as an ordinary head's typical size; gRPC status and a few fields fit many times.
const TRAILER_BYTES_MAX: usize = 16 * 1024;
/// Trailer fields at most.
const TRAILER_FIELDS_MAX: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    Done,
}

/// Incremental decoder of one chunked body.
#[derive(Debug, Default)]
pub struct ChunkedDecoder {
    state: State,
    size: u64,
    digits: u8,
    extension_bytes: usize,
    line: Vec<u8>,
    trailer_bytes: usize,
    trailers: Headers,
}

impl ChunkedDecoder {
    /// True after the last chunk and its trailer section.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Trailer fields; fields that would change framing or routing were dropped (RFC 9110 §6.5.1).
    #[must_use]
    pub fn trailers(&self) -> &Headers {
        &self.trailers
    }

    /// Decodes up to the next payload bytes, the end, or the end of `input`.
    ///
    /// # Errors
    /// [`ParseError::ChunkSize`], [`ParseError::ChunkEnd`], [`ParseError::Trailer`].
    pub fn decode(&mut self, input: &[u8]) -> Result<Piece, ParseError> {
        let mut at = 0;
        while self.state != State::Done {
            if self.state == State::Data {
                let rest = input.len() - at;
                if rest == 0 {
                    break;
                }
                let take = usize::try_from(self.size).map_or(rest, |size| size.min(rest));
                self.size -= take as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Piece::Data { range: at..at + take, consumed: at + take });
            }
            let Some(&byte) = input.get(at) else { break };
            at += 1;
            self.step(byte)?;
        }
        if self.state == State::Done { Ok(Piece::End { consumed: at }) } else { Ok(Piece::More { consumed: at }) }
    }

    fn step(&mut self, byte: u8) -> Result<(), ParseError> {
        match self.state {
            State::Size => return self.size_byte(byte),
            State::Extension => {
                self.extension_bytes += 1;
                let allowed = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
                if byte == b'\r' {
                    self.state = State::SizeLf;
                } else if !allowed || self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(ParseError::ChunkSize);
                }
            }
            State::SizeLf if byte == b'\n' => {
                self.state = if self.size == 0 { State::Trailer } else { State::Data };
                self.digits = 0;
            }
            State::SizeLf => return Err(ParseError::ChunkSize),
            State::DataCr if byte == b'\r' => self.state = State::DataLf,
            State::DataLf if byte == b'\n' => {
                self.state = State::Size;
                self.size = 0;
            }
            State::DataCr | State::DataLf => return Err(ParseError::ChunkEnd),
            State::Trailer => return self.trailer_byte(byte),
            State::Data | State::Done => {}
        }
        Ok(())
    }

    fn size_byte(&mut self, byte: u8) -> Result<(), ParseError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digits > 0 => {
                self.state = State::SizeLf;
                return Ok(());
            }
            b';' if self.digits > 0 => {
                self.state = State::Extension;
                return Ok(());
            }
            _ => return Err(ParseError::ChunkSize),
        };
        self.digits += 1;
        if self.digits > DIGITS_MAX {
            return Err(ParseError::ChunkSize);
        }
        self.size = self.size << 4 | u64::from(digit);
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<(), ParseError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(ParseError::Trailer);
        }
        if byte != b'\n' {
            self.line.push(byte);
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.line);
        if line.pop() != Some(b'\r') {
            return Err(ParseError::Trailer);
        }
        if line.is_empty() {
            self.state = State::Done;
            return Ok(());
        }
        self.trailer_line(&line)?;
        line.clear();
        self.line = line;
        Ok(())
    }

    fn trailer_line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        let colon = memchr::memchr(b':', line).ok_or(ParseError::Trailer)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let name_ok = !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte));
        let value_ok = value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        if !name_ok || !value_ok || self.trailers.len() >= TRAILER_FIELDS_MAX {
            return Err(ParseError::Trailer);
        }
        let name = name.to_ascii_lowercase();
        if may_be_trailer(&name) {
            self.trailers.append(&name, value);
        }
        Ok(())
    }
}

/// Fields of framing, routing, identity and connection control mean nothing after the body and are dropped.
fn may_be_trailer(name: &[u8]) -> bool {
    match Known::of(name) {
        Known::Other => !matches!(name, b"content-encoding" | b"content-range" | b"set-cookie" | b"proxy-authorization" | b"cache-control" | b"range" | b"max-forwards"),
        Known::GrpcStatus | Known::Date => true,
        _ => false,
    }
}

/// RFC 9110 §5.6.2 `tchar`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Writes a chunk's size line for `length` bytes; the data and CR LF follow. `length` 0 would end the body: use [`write_chunk_end`].
pub fn write_chunk_head(out: &mut Vec<u8>, length: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0_u8; 16];
    let mut at = digits.len();
    let mut rest = length;
    loop {
        at -= 1;
        if let (Some(slot), Some(digit)) = (digits.get_mut(at), HEX.get(rest & 15)) {
            *slot = *digit;
        }
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk, the trailer fields and the empty line.
pub fn write_chunk_end(out: &mut Vec<u8>, trailers: Option<&Headers>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in steps of `step` bytes; returns payload, bytes consumed and whether the end came.
    fn run(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), ParseError> {
        let mut decoder = ChunkedDecoder::default();
        let (mut payload, mut done, mut have) = (Vec::new(), 0, 0);
        loop {
            match decoder.decode(&input[done..have])? {
                Piece::Data { range, consumed } => {
                    payload.extend_from_slice(&input[done..have][range]);
                    done += consumed;
                }
                Piece::More { consumed } => {
                    done += consumed;
                    if have == input.len() {
                        return Ok((payload, done, false));
                    }
                    have = (have + step).min(input.len());
                }
                Piece::End { consumed } => return Ok((payload, done + consumed, true)),
            }
        }
    }

    #[test]
    fn any_split_gives_the_same_payload() {
        let body = b"4\r\nWiki\r\n5;ext=\"v\"\r\npedia\r\n0\r\nX-T: 1\r\n\r\nGET /";
        for step in 1..body.len() {
            assert_eq!(run(body, step), Ok((b"Wikipedia".to_vec(), body.len() - 5, true)), "{step}");
        }
    }

    #[test]
    fn doubtful_size_lines_are_refused() {
        let bad: [&[u8]; 14] = [
            b"\r\n", b"0x4\r\n", b"+4\r\n", b"-4\r\n", b" 4\r\n", b"4 \r\n", b"4_0\r\n", b"4\nWiki", b"4\rWiki", b"4;a\nb\r\n", b"4;a\rb\r\n",
            b"11111111111111111\r\n", b"4;\x00\r\n", b";a\r\n",
        ];
        for input in bad {
            assert_eq!(run(input, 1), Err(ParseError::ChunkSize), "{:?}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn data_longer_than_its_size_is_refused() {
        assert_eq!(run(b"3\r\nabcdef\r\n0\r\n\r\n", 64), Err(ParseError::ChunkEnd));
        assert_eq!(run(b"3\r\nabc\n0\r\n\r\n", 64), Err(ParseError::ChunkEnd));
    }

    #[test]
    fn trailers_are_kept_and_forbidden_ones_dropped() {
        let mut decoder = ChunkedDecoder::default();
        let input = b"0\r\ngrpc-status: 0\r\nContent-Length: 9\r\nhost: evil\r\nX-A:  b \r\n\r\n";
        assert_eq!(decoder.decode(input), Ok(Piece::End { consumed: input.len() }));
        let all: Vec<_> = decoder.trailers().iter().collect();
        assert_eq!(all, [(&b"grpc-status"[..], &b"0"[..]), (b"x-a", b"b")]);
    }

    #[test]
    fn malformed_trailers_are_refused() {
        for input in [&b"0\r\nno colon\r\n\r\n"[..], b"0\r\nA : b\r\n\r\n", b"0\r\na: b\n\r\n", b"0\r\n: b\r\n\r\n", b"0\r\n fold\r\n\r\n"] {
            assert_eq!(run(input, 3), Err(ParseError::Trailer), "{:?}", String::from_utf8_lossy(input));
        }
        let mut long = b"0\r\n".to_vec();
        long.extend(std::iter::repeat_n(b'a', TRAILER_BYTES_MAX + 1));
        assert_eq!(run(&long, 4096), Err(ParseError::Trailer));
    }

    #[test]
    fn endless_extensions_are_refused() {
        let mut long = b"1;".to_vec();
        long.extend(std::iter::repeat_n(b'a', EXTENSION_BYTES_MAX + 1));
        assert_eq!(run(&long, 4096), Err(ParseError::ChunkSize));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Vec::new();
        for piece in [&b"hello"[..], &[b'x'; 300]] {
            write_chunk_head(&mut out, piece.len());
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
        write_chunk_end(&mut out, None);
        assert!(out.starts_with(b"5\r\nhello\r\n12c\r\n"));
        let (payload, consumed, done) = run(&out, 7).expect("valid");
        assert_eq!((payload.len(), consumed, done), (305, out.len(), true));
    }
}
