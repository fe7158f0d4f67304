//! Protobuf's wrapped scalars, as the lowering functions write them.
//!
//! - Rule: pure conversions; nothing here knows what a field means.

use lateen_envoy_api::envoy::config::core::v3::RuntimeFractionalPercent;
use lateen_envoy_api::envoy::r#type::v3::{FractionalPercent, Percent, fractional_percent::DenominatorType};
use lateen_envoy_api::wkt;
use lateen_istio_api::GoDuration;

/// A duration message. Source: `google.protobuf.Duration`.
#[must_use]
pub fn duration(span: GoDuration) -> wkt::Duration {
    let (seconds, nanos) = span.to_proto();
    wkt::Duration { seconds, nanos }
}

/// A wrapped number.
#[must_use]
pub fn uint32(value: u32) -> wkt::UInt32Value {
    wkt::UInt32Value { value }
}

/// A wrapped number out of a signed field: `None` unless it is above zero, which is how Istio says "set".
#[must_use]
pub fn positive(value: i32) -> Option<wkt::UInt32Value> {
    u32::try_from(value).ok().filter(|value| *value > 0).map(uint32)
}

/// A wrapped flag.
#[must_use]
pub fn boolean(value: bool) -> wkt::BoolValue {
    wkt::BoolValue { value }
}

/// A percentage as a fraction of a million; values outside 0 to 100 are cut to the range.
#[must_use]
pub fn fraction(percent: f64) -> FractionalPercent {
    // 0..=100 times 10^4 is at most 10^6, so the cast keeps the value.
    FractionalPercent { numerator: (percent.clamp(0.0, 100.0) * 10_000.0) as u32, denominator: DenominatorType::Million.into() }
}

/// A percentage that Envoy calls a runtime fraction.
#[must_use]
pub fn runtime_fraction(percent: f64) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent { default_value: Some(fraction(percent)), runtime_key: String::new() }
}

/// A percentage from 0 to 100 as it is.
#[must_use]
pub fn percent(value: f64) -> Percent {
    Percent { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_a_quarter_of_a_million() {
        assert_eq!(fraction(25.0).numerator, 250_000);
        assert_eq!(fraction(0.0001).numerator, 1);
        assert_eq!(fraction(300.0).numerator, 1_000_000);
    }
}
