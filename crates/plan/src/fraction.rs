//! Fractions of requests, decided by a random draw.
//!
//! - Reads: `type.v3.{FractionalPercent, Percent}`, `config.core.v3.RuntimeFractionalPercent` (Envoy).
//! - Rule: no randomness here; the caller draws.
//! - Limits: runtime keys are not looked up; the default value is the value.

use crate::rejected::Invalid;
use lateen_envoy_api::envoy::config::core::v3::RuntimeFractionalPercent;
use lateen_envoy_api::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};

/// `numerator / denominator` of all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// Upper part.
    pub numerator: u32,
    /// Lower part: 100, 10 000 or 1 000 000.
    pub denominator: u32,
}

impl Fraction {
    /// Every request.
    pub const ALWAYS: Self = Self { numerator: 100, denominator: 100 };
    /// No request.
    pub const NEVER: Self = Self { numerator: 0, denominator: 100 };

    /// Reads a fraction.
    ///
    /// # Errors
    /// An unknown denominator.
    pub fn from_xds(fraction: &FractionalPercent) -> Result<Self, Invalid> {
        let denominator = match DenominatorType::try_from(fraction.denominator) {
            Ok(DenominatorType::Hundred) => 100,
            Ok(DenominatorType::TenThousand) => 10_000,
            Ok(DenominatorType::Million) => 1_000_000,
            Err(_) => return Err(Invalid::new("denominator", format!("{} is not a known denominator", fraction.denominator))),
        };
        Ok(Self { numerator: fraction.numerator, denominator })
    }

    /// Reads the default of a runtime fraction; absent means every request.
    ///
    /// # Errors
    /// As [`Self::from_xds`].
    pub fn from_runtime(fraction: Option<&RuntimeFractionalPercent>) -> Result<Self, Invalid> {
        match fraction.and_then(|f| f.default_value.as_ref()) {
            Some(value) => Self::from_xds(value).map_err(|e| e.within("default_value")),
            None => Ok(Self::ALWAYS),
        }
    }

    /// Reads a percentage between 0 and 100.
    #[must_use]
    pub fn from_percent(percent: f64) -> Self {
        let parts = (percent * 10_000.0).round().clamp(0.0, 1_000_000.0);
        // Within 0..=1e6 by the clamp above.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1e6")]
        let numerator = parts as u32;
        Self { numerator, denominator: 1_000_000 }
    }

    /// Whether the request that drew `draw` is in. Pure.
    #[must_use]
    pub fn hit(&self, draw: u64) -> bool {
        draw % u64::from(self.denominator) < u64::from(self.numerator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_percent_takes_ten_draws_of_a_hundred() {
        let tenth = Fraction::from_percent(10.0);
        let hits = (0..1_000_000u64).step_by(10_000).filter(|draw| tenth.hit(*draw)).count();
        assert_eq!(hits, 10);
    }

    #[test]
    fn never_and_always_do_not_depend_on_the_draw() {
        assert!((0..200).all(|draw| Fraction::ALWAYS.hit(draw) && !Fraction::NEVER.hit(draw)));
    }
}
