//! gRPC over HTTP: status codes both ways, and answers made here.
//!
//! - Reads: gRPC's `http-grpc-status-mapping` page and Envoy's mapping back.
//! - Rule: a gRPC caller never sees a bare HTTP error from us: the error is in `grpc-status` of a 200.
//! - Not here: counting messages (`filters/grpc_stats.rs`).

/// The gRPC status that stands for an HTTP status.
#[must_use]
pub fn status_of_http(http: u16) -> u32 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The HTTP status that stands for a gRPC status, for outlier detection.
#[must_use]
pub fn http_of_status(grpc: u32) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// Reads `grpc-status`.
#[must_use]
pub fn parse_status(value: Option<&[u8]>) -> Option<u32> {
    std::str::from_utf8(value?).ok()?.trim().parse().ok()
}

/// Percent-encodes a message for `grpc-message`.
#[must_use]
pub fn encode_message(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    for &byte in message {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unavailable_goes_both_ways() {
        assert_eq!(status_of_http(503), 14);
        assert_eq!(http_of_status(14), 503);
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(encode_message(b"a%\n\xc3"), b"a%25%0A%C3");
    }
}
