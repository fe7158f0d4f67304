//! PROXY protocol: the client's real address, told by a load balancer before the first byte.
//!
//! - Reads: `extensions.filters.listener.proxy_protocol.v3.ProxyProtocol`; HAProxy's specification, versions 1 and 2.
//! - Rule: parsing is pure; exactly the header's bytes are taken from the socket, and nothing else is consumed.
//! - Limits: a version 1 line has at most 107 bytes, a version 2 header at most [`HEADER_BYTES_MAX`]; larger ones are refused.
//! - Not here: sending the header upstream.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longest header that is accepted; the specification asks for room for 536 bytes, TLVs of cloud balancers fit several times.
pub const HEADER_BYTES_MAX: usize = 4096;

/// What the first bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Too few bytes to tell.
    More,
    /// There is no header.
    Absent,
    /// A header that breaks the specification.
    Invalid,
    /// A header of so many bytes; addresses unless it was sent for a health check (`LOCAL`, `UNKNOWN`).
    Header {
        /// Bytes to take from the socket.
        length: usize,
        /// Client and destination.
        addresses: Option<(SocketAddr, SocketAddr)>,
    },
}

/// Looks at the first bytes.
pub fn parse(bytes: &[u8]) -> Parsed {
    if begins(bytes, V2) {
        return if bytes.len() < V2.len() { Parsed::More } else { version2(bytes) };
    }
    if begins(bytes, V1) {
        return if bytes.len() < V1.len() { Parsed::More } else { version1(bytes) };
    }
    Parsed::Absent
}

/// Whether `bytes` starts with `mark`, or is a part of it.
fn begins(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.starts_with(mark) || mark.starts_with(bytes)
}

fn version1(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.windows(2).take(V1_BYTES_MAX).position(|w| w == b"\r\n") else {
        return if bytes.len() < V1_BYTES_MAX { Parsed::More } else { Parsed::Invalid };
    };
    let line = bytes.get(..end).and_then(|l| std::str::from_utf8(l).ok()).unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let length = end + 2;
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Parsed::Header { length, addresses: None },
        ["PROXY", "TCP4" | "TCP6", source, destination, source_port, destination_port] => {
            let address = |ip: &str, port: &str| Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?));
            match (address(source, source_port), address(destination, destination_port)) {
                (Some(from), Some(to)) => Parsed::Header { length, addresses: Some((from, to)) },
                (None, _) | (_, None) => Parsed::Invalid,
            }
        }
        _ => Parsed::Invalid,
    }
}

fn version2(bytes: &[u8]) -> Parsed {
    let Some(&[command, family, high, low]) = bytes.get(12..16) else { return Parsed::More };
    let body_length = usize::from(u16::from_be_bytes([high, low]));
    let length = 16 + body_length;
    if command >> 4 != 2 || length > HEADER_BYTES_MAX {
        return Parsed::Invalid;
    }
    let Some(body) = bytes.get(16..length) else { return Parsed::More };
    match (command & 0xf, family) {
        (0, _) => Parsed::Header { length, addresses: None },
        (1, TCP4) => addresses::<4>(body, length),
        (1, TCP6) => addresses::<16>(body, length),
        (1, _) => Parsed::Header { length, addresses: None },
        _ => Parsed::Invalid,
    }
}

fn addresses<const N: usize>(body: &[u8], length: usize) -> Parsed
where
    IpAddr: From<[u8; N]>,
{
    let ip = |at: usize| body.get(at..at + N).and_then(|b| <[u8; N]>::try_from(b).ok()).map(IpAddr::from);
    let port = |at: usize| body.get(at..at + 2).and_then(|b| <[u8; 2]>::try_from(b).ok()).map(u16::from_be_bytes);
    match (ip(0), ip(N), port(2 * N), port(2 * N + 2)) {
        (Some(from), Some(to), Some(from_port), Some(to_port)) => {
            Parsed::Header { length, addresses: Some((SocketAddr::new(from, from_port), SocketAddr::new(to, to_port))) }
        }
        _ => Parsed::Invalid,
    }
}

/// Takes a header off the socket; `None`: there was none, or it names no addresses.
///
/// # Errors
/// `InvalidData` for a broken header, or none where one is required; the socket's error.
pub async fn take(tcp: &mut TcpStream, required: bool) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let mut buffer = vec![0u8; HEADER_BYTES_MAX];
    loop {
        let ready = tcp.ready(tokio::io::Interest::READABLE).await?;
        let seen = tcp.peek(&mut buffer).await?;
        match parse(buffer.get(..seen).unwrap_or_default()) {
            Parsed::Header { length, addresses } => {
                let header = buffer.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
                tcp.read_exact(header).await?;
                return Ok(addresses);
            }
            Parsed::Absent if !required => return Ok(None),
            Parsed::Absent | Parsed::Invalid => return Err(io::ErrorKind::InvalidData.into()),
            Parsed::More if seen == 0 || ready.is_read_closed() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Parsed::More => {
                // The bytes stay in the socket: forget that it was readable, and wait for more.
                let _ = tcp.try_io(tokio::io::Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            }
        }
    }
}

const V1: &[u8] = b"PROXY ";
const V1_BYTES_MAX: usize = 107;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// TCP over IPv4.
const TCP4: u8 = 0x11;
/// TCP over IPv6.
const TCP6: u8 = 0x21;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(parsed: Parsed) -> (usize, String, String) {
        let Parsed::Header { length, addresses: Some((from, to)) } = parsed else { panic!("{parsed:?}") };
        (length, from.to_string(), to.to_string())
    }

    #[test]
    fn version_1_is_read_to_its_line_end() {
        let bytes = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 443\r\nGET /";
        assert_eq!(found(parse(bytes)), (41, "192.0.2.1:1234".into(), "192.0.2.2:443".into()));
        assert!((0..41).all(|n| parse(&bytes[..n]) == Parsed::More));
    }

    #[test]
    fn version_2_is_read_with_its_extras() {
        let mut bytes = V2.to_vec();
        bytes.extend([0x21, 0x11, 0, 15, 192, 0, 2, 1, 192, 0, 2, 2, 4, 210, 1, 187, 9, 9, 9]);
        assert_eq!(found(parse(&bytes)), (31, "192.0.2.1:1234".into(), "192.0.2.2:443".into()));
    }

    #[test]
    fn a_local_header_names_no_addresses() {
        let mut bytes = V2.to_vec();
        bytes.extend([0x20, 0, 0, 0]);
        assert_eq!(parse(&bytes), Parsed::Header { length: 16, addresses: None });
    }

    #[test]
    fn other_bytes_are_no_header_and_broken_ones_are_refused() {
        assert_eq!(parse(b"GET / HTTP/1.1"), Parsed::Absent);
        assert_eq!(parse(b"PROXY TCP4 nowhere\r\n"), Parsed::Invalid);
        assert_eq!(parse(&[V2, &[0x31, 0x11, 0, 0]].concat()), Parsed::Invalid);
    }
}
