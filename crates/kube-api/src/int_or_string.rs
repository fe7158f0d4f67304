//! `IntOrString`: a port by number or by name.
//!
//! - Reads: `targetPort`, probe ports.
//! - Rule: a text is a name even if it is all digits, as in Kubernetes.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// `io.k8s.apimachinery.pkg.util.intstr.IntOrString`, for ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// Port number; Kubernetes allows 1 to 65535.
    Int(i64),
    /// Name of a container port.
    String(String),
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::String(name) => f.write_str(name),
        }
    }
}

impl IntOrString {
    /// The number, if it is one that a port can have.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Int(number) => u16::try_from(*number).ok().filter(|port| *port != 0),
            Self::String(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;
        impl Visitor<'_> for PortVisitor {
            type Value = IntOrString;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or the name of a port")
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<IntOrString, E> {
                Ok(IntOrString::Int(value))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<IntOrString, E> {
                i64::try_from(value).map(IntOrString::Int).map_err(E::custom)
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<IntOrString, E> {
                Ok(IntOrString::String(value.to_owned()))
            }
        }
        deserializer.deserialize_any(PortVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_told_apart() {
        assert_eq!(serde_json::from_str::<IntOrString>("8080").unwrap().port(), Some(8080));
        assert_eq!(serde_json::from_str::<IntOrString>("\"http\"").unwrap(), IntOrString::String("http".into()));
        assert!(serde_json::from_str::<IntOrString>("true").is_err());
    }
}
