//! Envoy's v3 messages, and the few of Istio's that Envoy lacks: data only, no I/O.
//!
//! - Reads: nothing. The modules under `gen` are written by `cargo xtask gen` from the `.proto` files.
//! - Rule: protobuf-JSON (what Envoy's bootstrap files and `/config_dump` speak) is strict: an unknown field is an error.
//! - Not here: gRPC services (`xds`), the meaning of any field (`plan`, `compile`).

#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::all)]

pub mod any;
mod r#gen {
    include!("gen/mod.rs");
}

pub use any::Any;
pub use r#gen::*;
pub use pbjson_types as wkt;

/// Start of every type URL. `prost::Name::type_url` leaves it out, so it is not used here.
pub const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// `type.googleapis.com/<full name of T>`.
pub fn type_url<T: prost::Name>() -> String {
    format!("{TYPE_URL_PREFIX}{}", T::full_name())
}

/// `T` packed as an [`Any`] under its type URL.
pub fn pack<T: prost::Message + prost::Name>(message: &T) -> Any {
    Any { type_url: type_url::<T>(), value: message.encode_to_vec().into() }
}

/// The message inside `any`, if it is a `T`.
///
/// # Errors
/// When the type URL names another message, or the bytes do not decode.
pub fn unpack<T: prost::Message + prost::Name + Default>(any: &Any) -> Result<T, prost::DecodeError> {
    // The part after the last slash names the message; what stands before it is up to the sender.
    if any.type_url.rsplit('/').next() != Some(T::full_name().as_str()) {
        let mut error = prost::DecodeError::new_unexpected_type_url(&any.type_url, type_url::<T>());
        error.push("Any", "type_url");
        return Err(error);
    }
    T::decode(any.value.as_ref())
}
