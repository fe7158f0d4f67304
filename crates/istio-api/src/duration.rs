//! Durations as users of Istio write them: Go's notation, `1h30m`, `2s`, `250ms`, `1.5s`.
//!
//! - Reads: every `google.protobuf.Duration` field of an Istio message.
//! - Rule: a number needs a unit (`5` is refused, `5s` and `0` are right); negative spans parse, and `kinds` refuses them where they mean nothing.
//! - Limits: whole nanoseconds up to about 292 years, as in Go.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

/// A signed span of time in whole nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct GoDuration {
    /// The span; negative when the text had a minus sign.
    pub nanos: i64,
}

impl GoDuration {
    /// A span of whole seconds; saturates at about 292 years.
    #[must_use]
    pub const fn from_secs(seconds: i64) -> Self {
        Self {
            nanos: seconds.saturating_mul(1_000_000_000),
        }
    }

    /// A span of whole milliseconds; saturates at about 292 years.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self {
            nanos: millis.saturating_mul(1_000_000),
        }
    }

    /// As a standard duration; `None` when negative.
    #[must_use]
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.nanos).ok().map(Duration::from_nanos)
    }

    /// Whole seconds and the nanoseconds left over, both with the span's sign: the two fields of `google.protobuf.Duration`.
    #[must_use]
    pub const fn to_proto(self) -> (i64, i32) {
        // The remainder is below 10^9 in size, so it fits.
        (
            self.nanos / 1_000_000_000,
            (self.nanos % 1_000_000_000) as i32,
        )
    }
}

impl From<Duration> for GoDuration {
    fn from(value: Duration) -> Self {
        Self {
            nanos: i64::try_from(value.as_nanos()).unwrap_or(i64::MAX),
        }
    }
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDuration {
    /// The text as written.
    pub text: String,
}

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid duration {:?}: write a number and a unit, such as 500ms, 2s or 1h30m",
            self.text
        )
    }
}

impl std::error::Error for InvalidDuration {}

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        parse(text).ok_or_else(|| InvalidDuration {
            text: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<GoDuration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(GoDuration::default());
    }
    let mut nanos: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (term, tail) = parse_term(rest)?;
        nanos = nanos.checked_add(term)?;
        rest = tail;
    }
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).ok()?;
    Some(GoDuration { nanos })
}

/// One `number unit` pair at the start of `text`: its nanoseconds and what follows.
fn parse_term(text: &str) -> Option<(i128, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let unit_len = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_len);
    let scale: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 30 {
        return None;
    }
    let mut nanos = if whole.is_empty() {
        0
    } else {
        whole.parse::<i128>().ok()?.checked_mul(scale)?
    };
    let mut unit = scale;
    for digit in fraction.bytes() {
        unit /= 10;
        nanos = nanos.checked_add(i128::from(digit.checked_sub(b'0')?) * unit)?;
    }
    Some((nanos, tail))
}

impl fmt::Display for GoDuration {
    /// The shortest exact form in seconds or milliseconds: `2s`, `250ms`, `1.5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos.unsigned_abs();
        let sign = if self.nanos < 0 { "-" } else { "" };
        if nanos != 0 && nanos < 1_000_000_000 && nanos.is_multiple_of(1_000_000) {
            return write!(f, "{sign}{}ms", nanos / 1_000_000);
        }
        let fraction = format!("{:09}", nanos % 1_000_000_000);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{}{dot}{fraction}s", nanos / 1_000_000_000)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = GoDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 500ms, 2s or 1h30m")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl serde::Serialize for GoDuration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> Option<i64> {
        text.parse::<GoDuration>()
            .ok()
            .map(|duration| duration.nanos)
    }

    #[test]
    fn go_notation_is_read() {
        assert_eq!(nanos("1h30m"), Some(5_400_000_000_000));
        assert_eq!(nanos("2s"), Some(2_000_000_000));
        assert_eq!(nanos("1.5s"), Some(1_500_000_000));
        assert_eq!(nanos(".5ms"), Some(500_000));
        assert_eq!(nanos("-1s"), Some(-1_000_000_000));
        assert_eq!(nanos("0"), Some(0));
    }

    #[test]
    fn numbers_without_a_unit_and_words_are_refused() {
        for text in [
            "",
            "5",
            "s",
            "1",
            "2 s",
            "1d",
            "soon",
            "1..5s",
            "-",
            "9999999999999h",
            "1.s2",
        ] {
            assert_eq!(nanos(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_error_names_the_value_and_the_remedy() {
        let error = "5".parse::<GoDuration>().unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid duration \"5\": write a number and a unit, such as 500ms, 2s or 1h30m"
        );
    }

    #[test]
    fn text_form_reads_back_as_the_same_span() {
        for text in ["2s", "250ms", "1.5s", "-1s", "0s", "5400s"] {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), text);
        }
    }
}
