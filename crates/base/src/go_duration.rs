//! Durations as Go writes them: `1h30m`, `2.5s`, `300ms`, `-1.5h`.
//!
//! - Source: Go's `time.ParseDuration`, which Istio's API uses for every duration.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No digits, an unknown unit, or trailing text.
    #[error("{0:?} is not a duration; write it as 300ms, 2s, 1h30m")]
    Syntax(String),
    /// Negative durations have no meaning in this API.
    #[error("{0:?} is negative")]
    Negative(String),
    /// More than the representable range (about 292 years).
    #[error("{0:?} is too large")]
    Overflow(String),
}

/// Reads a duration.
///
/// # Errors
/// [`DurationError`] says what is wrong with `text`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let syntax = || DurationError::Syntax(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(syntax());
    }
    let mut nanos: f64 = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(syntax)?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| syntax())?;
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        nanos += number * unit_nanos(unit).ok_or_else(syntax)?;
        rest = tail;
    }
    if nanos > i64::MAX as f64 {
        return Err(DurationError::Overflow(text.to_owned()));
    }
    if negative && nanos > 0.0 {
        return Err(DurationError::Negative(text.to_owned()));
    }
    Ok(Duration::from_secs_f64(nanos / 1e9))
}

fn unit_nanos(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

/// Writes a duration the short way: `1h30m`, `2s`, `300ms`, `0s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let total = duration.as_secs();
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    let fraction = duration.subsec_nanos();
    if total == 0 && fraction > 0 {
        return if fraction % 1_000_000 == 0 { format!("{}ms", fraction / 1_000_000) } else { format!("{}us", fraction / 1_000) };
    }
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    if fraction > 0 {
        text.push_str(&format!("{}s", seconds as f64 + f64::from(fraction) / 1e9));
    } else if seconds > 0 || text.is_empty() {
        text.push_str(&format!("{seconds}s"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_forms_are_read() {
        for (text, millis) in [("2s", 2000), ("1h30m", 5_400_000), ("300ms", 300), ("1.5s", 1500), ("0", 0), ("0s", 0), ("2m", 120_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["", "5", "5sec", "s", "1..5s", "-", "1h-2m", "five"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("-2s"), Err(DurationError::Negative("-2s".into())));
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["2s", "1h30m", "300ms", "1.5s", "0s"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }
}
