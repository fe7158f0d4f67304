//! Ages as kubectl prints them: `5s`, `3m12s`, `2h5m`, `4d`.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The age of an object by its `metadata.creationTimestamp`; `<unknown>` where there is none.
pub(crate) fn of(object: &Value) -> String {
    since(object.pointer("/metadata/creationTimestamp").and_then(Value::as_str).unwrap_or_default())
}

fn since(timestamp: &str) -> String {
    match OffsetDateTime::parse(timestamp, &Rfc3339) {
        Ok(then) => short(SystemTime::now().duration_since(SystemTime::from(then)).unwrap_or_default()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// A duration in at most two units.
pub(crate) fn short(age: Duration) -> String {
    let seconds = age.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / 60, "m", seconds % 60, "s"),
        600..10_800 => format!("{}m", seconds / 60),
        10_800..28_800 => two(seconds / 3600, "h", seconds / 60 % 60, "m"),
        28_800..172_800 => format!("{}h", seconds / 3600),
        172_800..691_200 => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let of = |seconds| short(Duration::from_secs(seconds));
        assert_eq!([of(5), of(119), of(192), of(3600), of(10_860), of(1_000_000)], ["5s", "119s", "3m12s", "60m", "3h1m", "11d"]);
        assert_eq!(since("no time"), "<unknown>");
    }
}
