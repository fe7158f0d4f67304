//! Numbers in protobuf-JSON: a JSON number, or the same digits as a string.
//!
//! - Reads: any numeric field of an Istio message.
//! - Rule: a value that does not fit the field's type is an error, never a wrapped or rounded number.
//! - Not here: ranges that Istio imposes on top (`kinds`).

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// A number type that protobuf-JSON fields use.
pub trait Number: Sized + FromStr {
    /// What an error message calls the type.
    const NAME: &'static str;
    /// The value, when a signed integer fits.
    fn from_i64(value: i64) -> Option<Self>;
    /// The value, when an unsigned integer fits.
    fn from_u64(value: u64) -> Option<Self>;
    /// The value, when a float is exactly this type's.
    fn from_f64(value: f64) -> Option<Self>;
}

macro_rules! integer {
    ($type:ty, $name:literal) => {
        impl Number for $type {
            const NAME: &'static str = $name;
            fn from_i64(value: i64) -> Option<Self> {
                value.try_into().ok()
            }
            fn from_u64(value: u64) -> Option<Self> {
                value.try_into().ok()
            }
            fn from_f64(value: f64) -> Option<Self> {
                // Protobuf-JSON allows 5.0 for 5; 2^53 is the last range where a float names one integer.
                (value.fract() == 0.0 && value.abs() < 9.0e15)
                    .then(|| value as i64)
                    .and_then(Self::from_i64)
            }
        }
    };
}
integer!(i32, "a 32-bit whole number");
integer!(i64, "a 64-bit whole number");
integer!(u32, "a whole number from 0 to 4294967295");
integer!(u64, "a whole number of at least 0");

impl Number for f64 {
    const NAME: &'static str = "a number";
    fn from_i64(value: i64) -> Option<Self> {
        Some(value as f64)
    }
    fn from_u64(value: u64) -> Option<Self> {
        Some(value as f64)
    }
    fn from_f64(value: f64) -> Option<Self> {
        Some(value)
    }
}

struct NumberVisitor<T>(PhantomData<T>);

impl<T: Number> Visitor<'_> for NumberVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::NAME)
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::from_i64(value).ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::from_u64(value).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        T::from_f64(value).ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        value
            .parse()
            .map_err(|_| E::invalid_type(Unexpected::Str(value), &self))
    }
}

struct Wrapped<T>(T);

impl<'de, T: Number> Deserialize<'de> for Wrapped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(NumberVisitor(PhantomData))
            .map(Wrapped)
    }
}

/// For `#[serde(deserialize_with)]` on a plain number.
///
/// # Errors
/// When the value is not a number that fits `T`.
pub fn plain<'de, D: Deserializer<'de>, T: Number>(deserializer: D) -> Result<T, D::Error> {
    Wrapped::deserialize(deserializer).map(|Wrapped(value)| value)
}

/// For `#[serde(deserialize_with)]` on a number that may be absent or null.
///
/// # Errors
/// When the value is neither null nor a number that fits `T`.
pub fn option<'de, D: Deserializer<'de>, T: Number>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Wrapped<T>>::deserialize(deserializer)?.map(|Wrapped(value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Sample {
        #[serde(deserialize_with = "plain")]
        port: u32,
        #[serde(deserialize_with = "option")]
        percent: Option<f64>,
    }

    fn parse(text: &str) -> Result<Sample, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_may_be_strings_of_digits() {
        let sample = parse(r#"{"port": "8080", "percent": "2.5"}"#).unwrap();
        assert_eq!((sample.port, sample.percent), (8080, Some(2.5)));
    }

    #[test]
    fn absent_and_null_are_the_default() {
        let sample = parse(r#"{"percent": null}"#).unwrap();
        assert_eq!((sample.port, sample.percent), (0, None));
    }

    #[test]
    fn negative_fractional_and_word_values_are_refused() {
        for text in [
            r#"{"port": -1}"#,
            r#"{"port": 1.5}"#,
            r#"{"port": "http"}"#,
            r#"{"port": 4294967296}"#,
        ] {
            assert!(
                parse(text).unwrap_err().contains("whole number from 0"),
                "{text}"
            );
        }
    }
}
