//! Typed configuration out of an `Any`, whether plain or wrapped as a `TypedStruct`.
//!
//! - Reads: `google.protobuf.Any`, `udpa.type.v1.TypedStruct`, `xds.type.v3.TypedStruct`.
//! - Rule: a type that is not the expected one is refused by name.

use crate::rejected::Invalid;
use lateen_envoy_api::{Any, udpa, wkt, xds};
use prost::{Message, Name};

/// The message's full name: the part of a type URL after the last slash.
#[must_use]
pub fn type_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

/// The message in `any`.
///
/// # Errors
/// Another type, or bytes that do not decode.
pub fn unpack<T: Message + Name + Default>(any: &Any) -> Result<T, Invalid> {
    if type_name(&any.type_url) != T::full_name() {
        return Err(Invalid::new("", format!("{} where {} is expected", type_name(&any.type_url), T::full_name())));
    }
    // The part of a type URL before the last slash carries no meaning, so only the name is compared.
    T::decode(any.value.as_ref()).map_err(|e| Invalid::new("", format!("{} does not decode: {e}", T::full_name())))
}

/// A configuration whose type is not yet known: its real type name, and its message or struct.
pub enum Typed {
    /// An ordinary message.
    Message(Any),
    /// A struct that stands for a message of the named type.
    Struct(String, wkt::Struct),
}

impl Typed {
    /// Looks through `TypedStruct`.
    ///
    /// # Errors
    /// Bytes that do not decode.
    pub fn of(any: &Any) -> Result<Self, Invalid> {
        let name = type_name(&any.type_url);
        if name == udpa::r#type::v1::TypedStruct::full_name() {
            let wrapped: udpa::r#type::v1::TypedStruct = unpack(any)?;
            return Ok(Self::Struct(type_name(&wrapped.type_url).to_owned(), wrapped.value.unwrap_or_default()));
        }
        if name == xds::r#type::v3::TypedStruct::full_name() {
            let wrapped: xds::r#type::v3::TypedStruct = unpack(any)?;
            return Ok(Self::Struct(type_name(&wrapped.type_url).to_owned(), wrapped.value.unwrap_or_default()));
        }
        Ok(Self::Message(any.clone()))
    }

    /// The real type's full name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Message(any) => type_name(&any.type_url),
            Self::Struct(name, _) => name,
        }
    }

    /// The configuration as a `T`.
    ///
    /// # Errors
    /// Another type, bytes that do not decode, a struct with a field `T` lacks.
    pub fn read<T: Message + Name + Default + serde::de::DeserializeOwned>(&self) -> Result<T, Invalid> {
        match self {
            Self::Message(any) => unpack(any),
            Self::Struct(name, value) => {
                let json = serde_json::to_value(value).map_err(|e| Invalid::new("value", e.to_string()))?;
                serde_json::from_value(json).map_err(|e| Invalid::new("value", format!("{name}: {e}")))
            }
        }
    }
}
