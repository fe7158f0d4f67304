//! The authority of a request: `host [":" port]`, checked byte by byte.
//!
//! - Reads: RFC 3986 §3.2.2, RFC 9110 §7.2.
//! - Rule: userinfo, lists, spaces, delimiters of paths and non-ASCII bytes are refused.
//! - Limits: 1,024 bytes (names are at most 253, IPv6 literals 45, ports 5; the rest is room for zone names).
//! - Not here: resolving or normalising names.

/// Longest authority accepted, in bytes.
const AUTHORITY_BYTES_MAX: usize = 1024;

/// Whether `authority` is a non-empty registered name, IPv4 address or bracketed IPv6 address with an optional decimal port.
#[must_use]
pub fn valid_authority(authority: &[u8]) -> bool {
    if authority.is_empty() || authority.len() > AUTHORITY_BYTES_MAX {
        return false;
    }
    let (host, port) = match authority.first() {
        Some(b'[') => match memchr::memchr(b']', authority) {
            Some(end) => (authority.get(1..end).unwrap_or_default(), authority.get(end + 1..).unwrap_or_default()),
            None => return false,
        },
        _ => {
            let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
            authority.split_at(end)
        }
    };
    let bracketed = authority.first() == Some(&b'[');
    let host_ok = !host.is_empty() && host.iter().all(|&byte| if bracketed { is_literal_byte(byte) } else { is_name_byte(byte) });
    host_ok && valid_port(port)
}

/// `""`, or `:` and a number up to 65535. A colon alone is legal in RFC 3986 and refused here, as some parsers read it otherwise.
fn valid_port(port: &[u8]) -> bool {
    match port.split_first() {
        None => true,
        Some((b':', digits)) => {
            (1..=5).contains(&digits.len())
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0')) <= 65_535
        }
        Some(_) => false,
    }
}

/// Unreserved, percent and the sub-delimiters that cannot end a name early.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
}

fn is_literal_byte(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.' | b'%') || byte.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_authorities_pass() {
        for good in ["a", "backend", "Backend.default.svc.cluster.local.", "10.0.0.1:80", "[::1]", "[::1]:8080", "a_b:65535", "xn--x"] {
            assert!(valid_authority(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn doubtful_authorities_are_refused() {
        for bad in ["", "a b", "a/b", "a?b", "a#b", "a,b", "a@b", "a:", "a:x", "a:65536", "a:-1", "a:123456", "[::1", "[]", "[::1]x", ":80", "a\0", "a\\b", "é"] {
            assert!(!valid_authority(bad.as_bytes()), "{bad}");
        }
        assert!(!valid_authority(&[b'a'; 10_000]));
    }
}
