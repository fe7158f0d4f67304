//! A content hash of a message that does not depend on the order of its maps.
//!
//! - Reads: any serde-serializable message.
//! - Rule: equal messages hash equal in every run and process; the order of lists counts, that of map entries does not.
//! - Rule: FNV-1a over a tagged walk of the message; it tells versions apart and protects nothing.
//! - Not here: protobuf encoding, whose map order is arbitrary and therefore no base for a version.

use serde::ser::{self, Serialize};
use std::fmt::{self, Display};

/// Hash of `message`.
pub fn stable_hash<T: Serialize + ?Sized>(message: &T) -> u64 {
    let mut hasher = Walk { state: OFFSET };
    // The walk itself never fails; only a message whose own serialisation is broken could, and then all such are one version.
    match message.serialize(&mut hasher) {
        Ok(()) => hasher.state,
        Err(Broken) => 0,
    }
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

struct Walk {
    state: u64,
}

impl Walk {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = (self.state ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    fn tag(&mut self, tag: u8) {
        self.bytes(&[tag]);
    }

    fn number(&mut self, tag: u8, bits: u64) {
        self.tag(tag);
        self.bytes(&bits.to_le_bytes());
    }
}

/// The message's own `Serialize` reported an error.
#[derive(Debug)]
struct Broken;

impl Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message does not serialise")
    }
}

impl std::error::Error for Broken {}

impl ser::Error for Broken {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

struct Sequence<'a>(&'a mut Walk);

/// Entries of a map: each hashed alone, then added up, so that their order does not count.
struct Entries<'a> {
    walk: &'a mut Walk,
    sum: u64,
    key: u64,
}

impl Entries<'_> {
    fn finish(self) {
        self.walk.number(b'm', self.sum);
    }
}

impl<'a> ser::Serializer for &'a mut Walk {
    type Ok = ();
    type Error = Broken;
    type SerializeSeq = Sequence<'a>;
    type SerializeTuple = Sequence<'a>;
    type SerializeTupleStruct = Sequence<'a>;
    type SerializeTupleVariant = Sequence<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Sequence<'a>;
    type SerializeStructVariant = Sequence<'a>;

    fn serialize_bool(self, v: bool) -> Result<(), Broken> {
        self.number(b'b', u64::from(v));
        Ok(())
    }
    fn serialize_i8(self, v: i8) -> Result<(), Broken> {
        self.serialize_i64(i64::from(v))
    }
    fn serialize_i16(self, v: i16) -> Result<(), Broken> {
        self.serialize_i64(i64::from(v))
    }
    fn serialize_i32(self, v: i32) -> Result<(), Broken> {
        self.serialize_i64(i64::from(v))
    }
    fn serialize_i64(self, v: i64) -> Result<(), Broken> {
        self.number(b'i', v.cast_unsigned());
        Ok(())
    }
    fn serialize_u8(self, v: u8) -> Result<(), Broken> {
        self.serialize_u64(u64::from(v))
    }
    fn serialize_u16(self, v: u16) -> Result<(), Broken> {
        self.serialize_u64(u64::from(v))
    }
    fn serialize_u32(self, v: u32) -> Result<(), Broken> {
        self.serialize_u64(u64::from(v))
    }
    fn serialize_u64(self, v: u64) -> Result<(), Broken> {
        self.number(b'u', v);
        Ok(())
    }
    fn serialize_f32(self, v: f32) -> Result<(), Broken> {
        self.serialize_f64(f64::from(v))
    }
    fn serialize_f64(self, v: f64) -> Result<(), Broken> {
        self.number(b'f', v.to_bits());
        Ok(())
    }
    fn serialize_char(self, v: char) -> Result<(), Broken> {
        self.number(b'c', u64::from(u32::from(v)));
        Ok(())
    }
    fn serialize_str(self, v: &str) -> Result<(), Broken> {
        self.number(b's', v.len() as u64);
        self.bytes(v.as_bytes());
        Ok(())
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<(), Broken> {
        self.number(b'y', v.len() as u64);
        self.bytes(v);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Broken> {
        self.tag(b'0');
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Broken> {
        self.tag(b'1');
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Broken> {
        self.tag(b'n');
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Broken> {
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Broken> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Broken> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: &'static str, _: u32, variant: &'static str, value: &T) -> Result<(), Broken> {
        ser::Serializer::serialize_str(&mut *self, variant)?;
        value.serialize(self)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Sequence<'a>, Broken> {
        self.tag(b'[');
        Ok(Sequence(self))
    }
    fn serialize_tuple(self, _: usize) -> Result<Sequence<'a>, Broken> {
        self.serialize_seq(None)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Sequence<'a>, Broken> {
        self.serialize_seq(None)
    }
    fn serialize_tuple_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Result<Sequence<'a>, Broken> {
        ser::Serializer::serialize_str(&mut *self, variant)?;
        self.serialize_seq(None)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Entries<'a>, Broken> {
        Ok(Entries { walk: self, sum: 0, key: 0 })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Sequence<'a>, Broken> {
        self.tag(b'{');
        Ok(Sequence(self))
    }
    fn serialize_struct_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Result<Sequence<'a>, Broken> {
        ser::Serializer::serialize_str(&mut *self, variant)?;
        self.tag(b'{');
        Ok(Sequence(self))
    }
}

macro_rules! sequence {
    ($($trait:ident::$method:ident),*) => {$(
        impl ser::$trait for Sequence<'_> {
            type Ok = ();
            type Error = Broken;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Broken> {
                value.serialize(&mut *self.0)
            }
            fn end(self) -> Result<(), Broken> {
                self.0.tag(b']');
                Ok(())
            }
        }
    )*};
}
sequence!(SerializeSeq::serialize_element, SerializeTuple::serialize_element, SerializeTupleStruct::serialize_field, SerializeTupleVariant::serialize_field);

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Sequence<'_> {
            type Ok = ();
            type Error = Broken;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Broken> {
                ser::Serializer::serialize_str(&mut *self.0, key)?;
                value.serialize(&mut *self.0)
            }
            fn end(self) -> Result<(), Broken> {
                self.0.tag(b'}');
                Ok(())
            }
        }
    )*};
}
fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Broken;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Broken> {
        let mut walk = Walk { state: OFFSET };
        key.serialize(&mut walk)?;
        self.key = walk.state;
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Broken> {
        let mut walk = Walk { state: self.key };
        value.serialize(&mut walk)?;
        self.sum = self.sum.wrapping_add(walk.state);
        Ok(())
    }
    fn end(self) -> Result<(), Broken> {
        self.finish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_order_of_a_map_does_not_count() {
        let hashes: std::collections::BTreeSet<u64> =
            (0..50).map(|_| stable_hash(&(0..20).map(|i| (i.to_string(), i)).collect::<HashMap<String, i32>>())).collect();
        assert_eq!(hashes.len(), 1);
    }

    #[test]
    fn the_order_of_a_list_counts() {
        assert_ne!(stable_hash(&[1, 2]), stable_hash(&[2, 1]));
    }

    #[test]
    fn values_may_not_swap_keys() {
        let map = |a: i32, b: i32| HashMap::from([("x", a), ("y", b)]);
        assert_ne!(stable_hash(&map(1, 2)), stable_hash(&map(2, 1)));
    }
}
