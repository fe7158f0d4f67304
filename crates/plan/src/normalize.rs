//! Path normalisation: what a path is before anything matches it.
//!
//! - Reads: `HttpConnectionManager.{normalize_path, merge_slashes, path_with_escaped_slashes_action}` (Envoy).
//! - Twin: `compile/src/listener`, which writes them from `MeshConfig.pathNormalization`.
//! - Rule: bit for bit Envoy's, because authorization depends on it: fragment dropped, escaped slashes first, then
//!   dot segments and unreserved escapes, then repeated slashes. The query is never touched.
//! - Rule: an already normal path costs one scan and no copy.

use lateen_envoy_api::envoy::extensions::filters::network::http_connection_manager::v3 as xhcm;

/// Which rules are in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathRules {
    /// Resolve dot segments, decode unreserved characters, turn `\` into `/`.
    pub normalize: bool,
    /// `//` becomes `/`.
    pub merge_slashes: bool,
    /// What happens to `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

/// What happens to `%2F` and `%5C`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// Nothing.
    #[default]
    Keep,
    /// The request is refused with 400.
    Reject,
    /// Decoded, and the client is redirected there with 307.
    UnescapeAndRedirect,
    /// Decoded.
    UnescapeAndForward,
}

/// What to do with a request after its path was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathVerdict {
    /// The path stays as it was.
    Unchanged,
    /// The path is the one written.
    Changed,
    /// Answer 307 to the path written.
    Redirect,
    /// Answer 400 (`path_normalization_failed`).
    Reject,
}

impl PathRules {
    /// Reads the rules.
    ///
    /// # Errors
    /// An unknown action.
    pub fn from_xds(given: &xhcm::HttpConnectionManager) -> Result<Self, crate::rejected::Invalid> {
        use xhcm::http_connection_manager::PathWithEscapedSlashesAction as A;
        let escaped_slashes = match A::try_from(given.path_with_escaped_slashes_action) {
            Ok(A::ImplementationSpecificDefault | A::KeepUnchanged) => EscapedSlashes::Keep,
            Ok(A::RejectRequest) => EscapedSlashes::Reject,
            Ok(A::UnescapeAndRedirect) => EscapedSlashes::UnescapeAndRedirect,
            Ok(A::UnescapeAndForward) => EscapedSlashes::UnescapeAndForward,
            Err(_) => return Err(crate::rejected::Invalid::new("path_with_escaped_slashes_action", "is not known")),
        };
        let normalize = given.normalize_path.as_ref().is_some_and(|v| v.value);
        Ok(Self { normalize, merge_slashes: given.merge_slashes, escaped_slashes })
    }

    /// Normalises `path` (with query); `out` is cleared, and holds the new path when the verdict says so. Pure.
    pub fn apply(&self, path: &[u8], out: &mut Vec<u8>) -> PathVerdict {
        out.clear();
        let fragment = path.iter().position(|b| *b == b'#');
        let whole = fragment.and_then(|at| path.get(..at)).unwrap_or(path);
        let end = whole.iter().position(|b| *b == b'?').unwrap_or(whole.len());
        let (only, query) = whole.split_at_checked(end).unwrap_or((whole, &[]));
        let mut escaped = false;
        if self.escaped_slashes != EscapedSlashes::Keep && has_escaped_slash(only) {
            if self.escaped_slashes == EscapedSlashes::Reject {
                return PathVerdict::Reject;
            }
            escaped = true;
        }
        if !escaped && fragment.is_none() && self.is_normal(only) {
            return PathVerdict::Unchanged;
        }
        if escaped { unescape_slashes(only, out) } else { out.extend_from_slice(only) }
        if self.normalize {
            let mut steps = Vec::with_capacity(out.len());
            if !canonicalize(out, &mut steps) {
                return PathVerdict::Reject;
            }
            *out = steps;
        }
        if self.merge_slashes {
            out.dedup_by(|a, b| *a == b'/' && *b == b'/');
        }
        out.extend_from_slice(query);
        match (escaped, self.escaped_slashes) {
            (true, EscapedSlashes::UnescapeAndRedirect) => PathVerdict::Redirect,
            _ if out == path => PathVerdict::Unchanged,
            _ => PathVerdict::Changed,
        }
    }

    /// A quick test that no rule changes `path`. May say `false` for a normal path, never `true` for another.
    fn is_normal(&self, path: &[u8]) -> bool {
        let suspicious = |w: &[u8]| match w {
            [b'/', b'/'] => self.merge_slashes,
            [b'/', b'.'] => self.normalize,
            _ => false,
        };
        let plain = !self.normalize || !path.iter().any(|b| matches!(b, b'%' | b'\\') || !b.is_ascii() || *b <= b' ');
        plain && path.first() == Some(&b'/') && !path.windows(2).any(suspicious)
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// The byte that `%XY` at the start of `text` stands for.
fn escape(text: &[u8]) -> Option<u8> {
    match text {
        [b'%', high, low, ..] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}

fn has_escaped_slash(path: &[u8]) -> bool {
    path.windows(3).any(|w| matches!(escape(w), Some(b'/' | b'\\')))
}

fn unescape_slashes(path: &[u8], out: &mut Vec<u8>) {
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        match escape(rest) {
            Some(slash @ (b'/' | b'\\')) => {
                out.push(slash);
                rest = rest.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
}

/// The URL standard's path canonicalisation, as Envoy takes it from Chromium's library. `false`: refuse.
fn canonicalize(path: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = path;
    while let Some((first, _)) = rest.split_first() {
        if matches!(first, b'/' | b'\\') {
            rest = rest.get(1..).unwrap_or_default();
            let (dots, used) = dot_segment(rest);
            match dots {
                // `/.` at the end keeps its slash; `/./` loses the dot.
                1 => {
                    if used == rest.len() {
                        out.push(b'/');
                    }
                    rest = rest.get(used..).unwrap_or_default();
                }
                2 => {
                    pop_segment(out);
                    if used == rest.len() {
                        out.push(b'/');
                    }
                    rest = rest.get(used..).unwrap_or_default();
                }
                _ => out.push(b'/'),
            }
            continue;
        }
        let Some(used) = push_character(rest, out) else { return false };
        rest = rest.get(used..).unwrap_or_default();
    }
    if out.is_empty() {
        out.push(b'/');
    }
    true
}

/// Whether `text` starts with a segment of one or two dots, plain or escaped; and its length.
fn dot_segment(text: &[u8]) -> (u8, usize) {
    let (mut dots, mut used) = (0, 0);
    loop {
        let rest = text.get(used..).unwrap_or_default();
        match rest {
            [] | [b'/' | b'\\', ..] => return (dots, used),
            [b'.', ..] => used += 1,
            _ if escape(rest) == Some(b'.') => used += 3,
            _ => return (0, 0),
        }
        dots += 1;
        if dots > 2 {
            return (0, 0);
        }
    }
}

/// Drops the last segment and its slash.
fn pop_segment(out: &mut Vec<u8>) {
    let keep = out.iter().rposition(|b| *b == b'/').unwrap_or(0);
    out.truncate(keep);
}

/// Appends the first character of `text`, decoded or escaped; gives its length, `None` for a null byte.
fn push_character(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let (first, _) = text.split_first()?;
    if *first == b'%' {
        return match escape(text) {
            Some(0) => None,
            Some(plain) if plain.is_ascii_alphanumeric() || matches!(plain, b'-' | b'.' | b'_' | b'~') => {
                out.push(plain);
                Some(3)
            }
            Some(_) => {
                out.extend_from_slice(text.get(..3)?);
                Some(3)
            }
            None => {
                out.push(b'%');
                Some(1)
            }
        };
    }
    match first {
        0 => return None,
        b' ' | b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | b'^' | 0x01..=0x1f | 0x7f.. => {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(&[b'%', DIGITS[usize::from(first >> 4)], DIGITS[usize::from(first & 15)]]);
        }
        _ => out.push(*first),
    }
    Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(rules: PathRules, path: &str) -> (PathVerdict, String) {
        let mut out = Vec::new();
        let verdict = rules.apply(path.as_bytes(), &mut out);
        (verdict, String::from_utf8_lossy(&out).into_owned())
    }

    fn outcome(rules: PathRules, path: &str) -> String {
        match applied(rules, path) {
            (PathVerdict::Unchanged, _) => path.into(),
            (PathVerdict::Reject, _) => "400".into(),
            (_, new) => new,
        }
    }

    const BASE: PathRules = PathRules { normalize: true, merge_slashes: false, escaped_slashes: EscapedSlashes::Keep };

    #[test]
    fn the_measured_example_keeps_double_slashes_and_escapes() {
        assert_eq!(outcome(BASE, "/a/../b//c%2fd"), "/b//c%2fd");
    }

    #[test]
    fn the_query_is_left_alone() {
        assert_eq!(outcome(BASE, "/a/../b?x=/../y"), "/b?x=/../y");
    }

    #[test]
    fn going_above_the_root_stays_at_the_root() {
        assert_eq!(outcome(BASE, "/../../a"), "/a");
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        assert_eq!(applied(BASE, "/a/b?c").0, PathVerdict::Unchanged);
    }

    #[test]
    fn escaped_slashes_can_be_refused() {
        let rules = PathRules { escaped_slashes: EscapedSlashes::Reject, ..BASE };
        assert_eq!(applied(rules, "/a%2Fb").0, PathVerdict::Reject);
    }

    #[test]
    fn istios_recorded_answers_hold() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/normalization/paths.json");
        let Ok(text) = std::fs::read_to_string(file) else {
            eprintln!("skipped: {file} is not there");
            return;
        };
        let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let mut wrong = Vec::new();
        for case in &cases {
            let (mode, path, want) = (case["mode"].as_str().unwrap(), case["in"].as_str().unwrap(), case["out"].as_str().unwrap());
            let (normalize, merge_slashes, unescape) = match mode {
                "NONE" => (false, false, false),
                "BASE" | "DEFAULT" => (true, false, false),
                "MERGE_SLASHES" => (true, true, false),
                _ => (true, true, true),
            };
            let escaped_slashes = if unescape { EscapedSlashes::UnescapeAndForward } else { EscapedSlashes::Keep };
            let got = outcome(PathRules { normalize, merge_slashes, escaped_slashes }, path);
            if got != want {
                wrong.push(format!("{mode} {path}: {got}, should be {want}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
