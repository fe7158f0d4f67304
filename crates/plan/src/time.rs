//! Durations off the wire.
//!
//! - Reads: `google.protobuf.Duration`.
//! - Rule: a negative or overflowing duration is refused.

use crate::rejected::Invalid;
use lateen_envoy_api::wkt;
use std::time::Duration;

/// Reads a duration.
///
/// # Errors
/// When it is negative.
pub fn duration(given: &wkt::Duration) -> Result<Duration, Invalid> {
    match (u64::try_from(given.seconds), u32::try_from(given.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Invalid::new("", format!("{}.{:09}s is not a duration of 0 or more", given.seconds, given.nanos))),
    }
}

/// Reads a duration for which absent and zero both mean «none».
///
/// # Errors
/// As [`duration`].
pub fn duration_or_none(given: Option<&wkt::Duration>) -> Result<Option<Duration>, Invalid> {
    Ok(given.map(duration).transpose()?.filter(|d| !d.is_zero()))
}

/// Reads a duration for which zero means «none» and absent means `default`.
///
/// # Errors
/// As [`duration`].
pub fn duration_or(given: Option<&wkt::Duration>, default: Option<Duration>) -> Result<Option<Duration>, Invalid> {
    match given {
        Some(d) => Ok(Some(duration(d)?).filter(|d| !d.is_zero())),
        None => Ok(default),
    }
}
