//! JSON lines.
//!
//! - Reads: `json_format`, a `google.protobuf.Struct` whose strings are formats.
//! - Rule: a string that is one operator keeps its type: numbers stay numbers, an absent value is `null`.
//! - Rule: keys come out sorted, so that equal configurations write equal lines.

use super::parse::{self, FormatError, Op};
use super::record::AccessRecord;
use super::value::{self, Escape, Shape};
use lateen_envoy_api::wkt;
use std::collections::BTreeMap;
use std::io::Write;

/// A piece of a JSON line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Keys are already quoted and escaped.
    Object(Vec<(Box<[u8]>, Node)>),
    Array(Vec<Node>),
    /// A number, truth value or null, written out.
    Constant(Box<[u8]>),
    /// One operator, typed.
    Single(Op),
    /// Text with operators inside.
    Text(Vec<Op>),
}

/// Compiles an object.
pub(super) fn object(source: &wkt::Struct) -> Result<Node, FormatError> {
    let sorted: BTreeMap<_, _> = source.fields.iter().collect();
    let field = |(key, value): (&String, &wkt::Value)| {
        let mut quoted = vec![b'"'];
        value::write_escaped(key.as_bytes(), &mut quoted, Escape::Json);
        quoted.extend_from_slice(b"\":");
        Ok((quoted.into(), node(value)?))
    };
    Ok(Node::Object(sorted.into_iter().map(field).collect::<Result<_, FormatError>>()?))
}

fn node(source: &wkt::Value) -> Result<Node, FormatError> {
    use wkt::value::Kind;
    Ok(match &source.kind {
        None | Some(Kind::NullValue(_)) => Node::Constant(b"null"[..].into()),
        Some(Kind::BoolValue(b)) => Node::Constant(b.to_string().into_bytes().into()),
        Some(Kind::NumberValue(n)) => Node::Constant(n.to_string().into_bytes().into()),
        Some(Kind::StructValue(inner)) => object(inner)?,
        Some(Kind::ListValue(list)) => Node::Array(list.values.iter().map(node).collect::<Result<_, _>>()?),
        Some(Kind::StringValue(text)) => {
            let mut ops = parse::parse(text)?;
            match (ops.pop(), ops.is_empty()) {
                (Some(only @ Op::Value(..)), true) => Node::Single(only),
                (last, _) => {
                    ops.extend(last);
                    Node::Text(ops)
                }
            }
        }
    })
}

impl Node {
    /// Appends this piece for `record`.
    pub(super) fn write(&self, record: &AccessRecord<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Constant(text) => out.extend_from_slice(text),
            Self::Object(fields) => {
                out.push(b'{');
                for (i, (key, node)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    node.write(record, out);
                }
                out.push(b'}');
            }
            Self::Array(items) => {
                out.push(b'[');
                for (i, node) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    node.write(record, out);
                }
                out.push(b']');
            }
            Self::Text(ops) => {
                out.push(b'"');
                ops.iter().for_each(|op| value::write_text(op, record, out, Escape::Json));
                out.push(b'"');
            }
            Self::Single(op) => write_single(op, record, out),
        }
    }
}

fn write_single(op: &Op, record: &AccessRecord<'_>, out: &mut Vec<u8>) {
    let Op::Value(value, _) = op else { return };
    let start = out.len();
    match value::look_up(value, record, out) {
        Shape::Absent => out.extend_from_slice(b"null"),
        Shape::Number(n) => {
            let _ = write!(out, "{n}");
        }
        Shape::Written | Shape::Foreign(_) | Shape::Own(_) | Shape::Address(_) | Shape::Ip(_) => {
            // A time was written without quotes: take it back and write the whole value as text.
            out.truncate(start);
            out.push(b'"');
            value::write_text(op, record, out, Escape::Json);
            out.push(b'"');
        }
    }
}
