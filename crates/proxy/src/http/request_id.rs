//! `x-request-id`: a random UUID, version 4.
//!
//! - Reads: RFC 9562 §5.4; `generate_request_id` and `preserve_external_request_id` of the HTTP connection manager.
//! - Rule: no randomness here; the worker draws.
//! - Not here: sampling of traces.

/// Length of a UUID in text.
pub const UUID_BYTES: usize = 36;

/// The text of a version 4 UUID made of 128 random bits.
#[must_use]
pub fn uuid_v4(random: u128) -> [u8; UUID_BYTES] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; UUID_BYTES];
    let mut rest = random;
    for (at, slot) in text.iter_mut().enumerate() {
        let nibble = match at {
            8 | 13 | 18 | 23 => continue,
            14 => 4,
            19 => 8 | (rest & 3),
            _ => rest & 15,
        };
        rest >>= 4;
        *slot = HEX.get(usize::try_from(nibble).unwrap_or(0)).copied().unwrap_or(b'0');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_are_set() {
        let text = uuid_v4(u128::MAX);
        assert_eq!(&text, b"ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(&uuid_v4(0), b"00000000-0000-4000-8000-000000000000");
    }
}
