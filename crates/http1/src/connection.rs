//! Connection options: `Connection`, what it names, and whether the connection lives on.
//!
//! - Reads: RFC 9110 §7.6.1, §7.8; RFC 9112 §9.3.
//! - Rule: a field named by `Connection` is dropped unless dropping it would change who the caller is or where the message goes.
//! - Not here: writing `Connection` (the proxy decides).

use crate::{Headers, Known, Version};

/// What the `Connection` fields of one message ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
}

impl Options {
    /// Reads all `Connection` values.
    pub(crate) fn of(headers: &Headers) -> Self {
        let mut options = Self::default();
        for value in headers.get_all(b"connection").chain(headers.get_all(b"proxy-connection")) {
            for token in tokens(value) {
                options.close |= token.eq_ignore_ascii_case(b"close");
                options.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                options.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
            }
        }
        options
    }

    /// Whether the connection may carry another message after this one.
    pub(crate) fn persists(self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }
}

/// Comma-separated tokens with optional white space.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Takes out the fields that `Connection` names, then nothing else: the fixed hop-by-hop fields are skipped when writing.
pub(crate) fn drop_nominated(headers: &mut Headers) {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for value in headers.get_all(b"connection") {
        for token in tokens(value) {
            let name = token.to_ascii_lowercase();
            if may_be_nominated(&name) {
                names.push(name);
            }
        }
    }
    if !names.is_empty() {
        headers.remove_if(|name, _, _| names.iter().any(|dropped| dropped == name));
    }
}

/// Identity, framing, routing and forwarding fields are end to end whatever `Connection` says: naming them is a known attack.
fn may_be_nominated(name: &[u8]) -> bool {
    match Known::of(name) {
        Known::Other => !name.starts_with(b"x-forwarded-") && !matches!(name, b"close" | b"forwarded" | b"x-real-ip" | b"set-cookie"),
        Known::Trailer => true,
        _ => false,
    }
}
