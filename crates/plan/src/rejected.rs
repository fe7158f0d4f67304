//! Why a resource was refused.
//!
//! - Rule: every refusal names the resource, the field and the value; its text is what the control plane reads in the NACK.
//! - Not here: how a NACK travels (`xds`).

use std::fmt;

/// One resource of a push that was refused; its last good version stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Type URL of the resource.
    pub type_url: String,
    /// Its name.
    pub name: String,
    /// Path of the field, such as `filter_chains[0].filters[1].typed_config`.
    pub field: String,
    /// What is wrong with the value, and the value.
    pub why: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.type_url.rsplit('.').next().unwrap_or(&self.type_url);
        write!(f, "{kind} {}: ", self.name)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for Rejected {}

/// A field that cannot be accepted; becomes a [`Rejected`] once the resource's name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field inside the message being read.
    pub field: String,
    /// What is wrong with the value, and the value.
    pub why: String,
}

impl Invalid {
    /// `field` holds something wrong.
    pub fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }

    /// `field` asks for something this proxy does not do.
    pub fn unsupported(field: impl Into<String>, value: impl fmt::Display) -> Self {
        Self::new(field, format!("{value} is not supported by this proxy"))
    }

    /// The same complaint, seen from the message that holds `field`.
    #[must_use]
    pub fn within(mut self, field: impl fmt::Display) -> Self {
        self.field = if self.field.is_empty() {
            field.to_string()
        } else if self.field.starts_with('[') {
            format!("{field}{}", self.field)
        } else {
            format!("{field}.{}", self.field)
        };
        self
    }

    /// The refusal of the resource `name`.
    #[must_use]
    pub fn of(self, type_url: &str, name: &str) -> Rejected {
        Rejected { type_url: type_url.into(), name: name.into(), field: self.field, why: self.why }
    }
}

/// Adds the path of the enclosing field to an error.
pub(crate) trait Within<T> {
    /// See [`Invalid::within`].
    fn within(self, field: impl fmt::Display) -> Result<T, Invalid>;
}

impl<T> Within<T> for Result<T, Invalid> {
    fn within(self, field: impl fmt::Display) -> Result<T, Invalid> {
        self.map_err(|e| e.within(field))
    }
}
