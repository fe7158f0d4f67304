//! Seeded mutation of heads and chunked bodies: no panic, no difference between one read and many, nothing ambiguous accepted.
//!
//! - Rule: deterministic; a failure prints its round, and the seed is fixed.
//! - Not here: coverage-guided fuzzing (`fuzz/`).
#![forbid(unsafe_code)]

use lateen_http1::{BodyDecoder, Framing, Limits, Piece, RequestHead, ResponseHead, parse_request, parse_response, write_fields, write_request_line};

/// Small xorshift generator: the test needs repeatability, not quality.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("below limit")
    }
}

const SEEDS: [&[u8]; 6] = [
    b"GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\nx: y\r\n\r\n",
    b"POST http://h:1/p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nhello\r\n0\r\nt: v\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
];

const SPICE: [&[u8]; 16] = [
    b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Host: b\r\n", b"0", b"\xff", b";", b"%00",
    b"HTTP/1.0",
];

fn mutate(random: &mut Random) -> Vec<u8> {
    let mut bytes = SEEDS[random.below(SEEDS.len())].to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(4) {
            0 if at < bytes.len() => bytes[at] = random.next().to_le_bytes()[0],
            1 if at < bytes.len() => {
                bytes.remove(at);
            }
            2 => {
                bytes.splice(at..at, SPICE[random.below(SPICE.len())].iter().copied());
            }
            _ => {
                let end = (at + random.below(12)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
        }
    }
    bytes
}

#[test]
fn accepted_requests_are_unambiguous_and_survive_a_second_reading() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut first, mut second, mut out) = (RequestHead::default(), RequestHead::default(), Vec::new());
    for round in 0..60_000 {
        let input = mutate(&mut random);
        let Ok(Some(length)) = parse_request(&input, Limits::default(), &mut first) else { continue };
        for end in 0..length {
            let partial = parse_request(&input[..end], Limits::default(), &mut second);
            assert_ne!(partial, Ok(Some(length)), "round {round}: complete at {end} of {length}");
        }
        assert!(!input[..length].contains(&0), "round {round}: NUL accepted");
        if first.path().is_empty() || first.authority().is_empty() {
            continue;
        }
        out.clear();
        write_request_line(&mut out, first.method(), first.path(), first.authority());
        write_fields(&mut out, &first.headers);
        out.extend_from_slice(b"\r\n");
        assert_eq!(parse_request(&out, Limits::default(), &mut second), Ok(Some(out.len())), "round {round}: {}", String::from_utf8_lossy(&out));
        assert_eq!(second.framing, Framing::None, "round {round}: framing fields leaked");
        assert_eq!((first.path(), first.authority()), (second.path(), second.authority()), "round {round}");
    }
}

/// Decodes `input` with reads of `step` bytes; the payload and the bytes consumed, or the refusal.
fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize), lateen_http1::ParseError> {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
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
                    decoder.end_of_stream()?;
                    return Ok((payload, done));
                }
                have = (have + step).min(input.len());
            }
            Piece::End { consumed } => return Ok((payload, done + consumed)),
        }
    }
}

#[test]
fn chunked_bodies_decode_alike_in_any_split() {
    let mut random = Random(42);
    for round in 0..30_000 {
        let input = mutate(&mut random);
        let start = memchr_end(&input);
        let whole = decode(&input[start..], usize::MAX / 2);
        for step in [1, 2, 3, 7] {
            assert_eq!(decode(&input[start..], step), whole, "round {round}");
        }
    }
}

fn memchr_end(input: &[u8]) -> usize {
    input.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4)
}

#[test]
fn responses_never_panic() {
    let mut random = Random(7);
    let mut head = ResponseHead::default();
    for _ in 0..60_000 {
        let input = mutate(&mut random);
        let _ = parse_response(&input, b"GET", Limits::default(), &mut head);
    }
}
