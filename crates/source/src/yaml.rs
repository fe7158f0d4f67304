//! YAML text to JSON values that remember where each of their parts was written.
//!
//! - Reads: YAML 1.2 (and so JSON) as users and `kubectl` write it; several documents in one text.
//! - Rule: a key given twice, an unknown anchor, or aliases that expand without bound are errors with a place.
//! - Limits: [`DEPTH_MAX`] levels, [`NODES_MAX`] values, [`ALIASES_MAX`] aliases; text size is limited by `files`.
//! - Not here: what the values mean (`kinds`).

use std::fmt;

use lateen_base::{Code, Finding, Location};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// Deepest nesting. Kubernetes objects stay below 30; parsing is recursive.
pub const DEPTH_MAX: usize = 64;
/// Most values in one text, counted after aliases are expanded.
pub const NODES_MAX: usize = 100_000;
/// Most uses of aliases in one text.
pub const ALIASES_MAX: usize = 1_000;

/// Most bytes of text in one document, counted after aliases are expanded.
pub const SCALAR_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A place in a text: line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where the value starts.
    pub place: Place,
    /// The value.
    pub tree: Tree,
}

/// What a value is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// Null, flag, number or string.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the text, with the place of each key.
    Map(Vec<(String, Place, Node)>),
}

/// The documents of `text`, empty ones left out.
///
/// # Errors
/// A finding with the place of what is not YAML.
pub fn parse(text: &str, file: &str) -> Result<Vec<Node>, Box<Finding>> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        // kubectl reads YAML 1.1, where 0644 is octal; file modes are written so.
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX, max_aliases: ALIASES_MAX, max_merge_keys: ALIASES_MAX, max_total_scalar_bytes: SCALAR_BYTES_MAX },
    };
    let nodes: Vec<Spanned<Raw>> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| Box::new(finding(&error, file)))?;
    Ok(nodes.into_iter().map(node).filter(|node| node.tree != Tree::Scalar(Value::Null)).collect())
}

impl Node {
    /// The value without places.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.tree {
            Tree::Scalar(value) => value.clone(),
            Tree::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Tree::Map(entries) => Value::Object(entries.iter().map(|(key, _, node)| (key.clone(), node.to_json())).collect::<Map<_, _>>()),
        }
    }

    /// The value under `key`, if this is a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.tree {
            Tree::Map(entries) => entries.iter().find(|(name, ..)| name == key).map(|(.., node)| node),
            Tree::List(_) | Tree::Scalar(_) => None,
        }
    }

    /// Where the field at `path` (such as `spec.http[0].route`) stands, or the nearest part of the path that is written.
    ///
    /// Gives the place of the value, and that of its key where `key` is asked for.
    #[must_use]
    pub fn locate(&self, path: &str, key: PlaceOf) -> Place {
        let (mut node, mut place, mut rest) = (self, self.place, path);
        while !rest.is_empty() {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let Some((next, at, tail)) = node.step(rest) else { return place };
            place = match (key, at) {
                (PlaceOf::Key, Some(at)) if tail.is_empty() => at,
                _ => next.place,
            };
            (node, rest) = (next, tail);
        }
        place
    }

    /// One step into the tree: the child that `path` starts with, the place of its key, and the rest of the path.
    fn step<'a, 'p>(&'a self, path: &'p str) -> Option<(&'a Node, Option<Place>, &'p str)> {
        match &self.tree {
            Tree::Scalar(_) => None,
            Tree::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                Some((items.get(index.parse::<usize>().ok()?)?, None, rest))
            }
            Tree::Map(entries) => {
                // Keys may hold dots (labels do), so the longest key that fits is meant.
                let fits = entries.iter().filter_map(|(key, place, node)| {
                    let rest = path.strip_prefix(key.as_str())?;
                    (rest.is_empty() || rest.starts_with(['.', '['])).then_some((node, Some(*place), rest))
                });
                fits.min_by_key(|(.., rest)| rest.len())
            }
        }
    }
}

/// Which end of a field a place is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceOf {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// A value as the parser gives it.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(raw: Spanned<Raw>) -> Node {
    let tree = match raw.value {
        Raw::Scalar(value) => Tree::Scalar(value),
        Raw::List(items) => Tree::List(items.into_iter().map(node).collect()),
        Raw::Map(entries) => Tree::Map(entries.into_iter().map(|(key, value)| (key.value, place(&key.referenced), node(value))).collect()),
    };
    Node { place: place(&raw.referenced), tree }
}

fn place(location: &serde_saphyr::Location) -> Place {
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Place { line: number(location.line()), column: number(location.column()) }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }
    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        Number::from_f64(value).map(|number| Raw::Scalar(Value::Number(number))).ok_or_else(|| E::custom("the number is not finite"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::String(value.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

fn finding(error: &serde_saphyr::Error, file: &str) -> Finding {
    use serde_saphyr::Error;
    let place = error.location().map(|location| place(&location)).unwrap_or(Place { line: 1, column: 1 });
    let cause = match error.without_snippet() {
        Error::AliasError { error, .. } => error.without_snippet(),
        other => other,
    };
    let (code, message, remedy) = match cause {
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map(|key| format!(" \"{key}\"")).unwrap_or_default();
            (Code::Duplicate, format!("key{key} is written twice in one mapping"), "remove or rename one of them")
        }
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            let message = format!("the document is too large or too deep once aliases are expanded ({})", first_line(cause));
            (Code::TooLarge, message, "write the values out instead of nesting aliases, or split the file")
        }
        _ => (Code::YamlSyntax, format!("not valid YAML: {}", first_line(error)), "correct the text; check indentation, quotes and colons"),
    };
    Finding::new(code, message).with_remedy(remedy).with_location(Location { file: file.to_owned(), line: place.line, column: place.column })
}

/// The parser's message without its own line numbers, which the finding has already.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    line.trim_end_matches(':').trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        parse(text, "a.yaml").unwrap().remove(0)
    }

    fn error(text: &str) -> Finding {
        *parse(text, "a.yaml").unwrap_err()
    }

    #[test]
    fn paths_lead_to_lines_and_columns() {
        let node = one("spec:\n  http:\n  - route:\n    - weight: 5\n");
        assert_eq!(node.locate("spec.http[0].route[0].weight", PlaceOf::Value), Place { line: 4, column: 15 });
        assert_eq!(node.locate("spec.http[0].route[0].weight", PlaceOf::Key), Place { line: 4, column: 7 });
    }

    #[test]
    fn a_missing_field_leads_to_what_should_hold_it() {
        let node = one("spec:\n  hosts: [a]\n");
        assert_eq!(node.locate("spec.http[0].route", PlaceOf::Value).line, 2);
    }

    #[test]
    fn keys_with_dots_are_found() {
        let node = one("labels:\n  app.kubernetes.io/name: x\n  app: y\n");
        assert_eq!(node.locate("labels.app.kubernetes.io/name", PlaceOf::Key).line, 2);
    }

    #[test]
    fn the_second_document_keeps_its_lines() {
        let nodes = parse("a: 1\n---\n---\nb: 2\n", "a.yaml").unwrap();
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[1].locate("b", PlaceOf::Key), Place { line: 4, column: 1 });
    }

    #[test]
    fn a_key_given_twice_is_an_error_at_the_second() {
        let finding = error("a: 1\nb: 2\na: 3\n");
        assert_eq!((finding.code, finding.location.unwrap().line), (Code::Duplicate, 3));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let items = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{items}]\n"));
        }
        let finding = error(&text);
        assert_eq!(finding.code, Code::TooLarge, "{finding}");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = format!("a: {}{}", "[".repeat(500), "]".repeat(500));
        let finding = error(&text);
        assert!(matches!(finding.code, Code::TooLarge | Code::YamlSyntax), "{finding}");
    }

    #[test]
    fn numbers_and_text_stay_apart() {
        let value = one("a: 2\nb: \"2\"\nc: 1.5\nd: true\ne: null\n8080: x\n").to_json();
        assert_eq!(value, serde_json::json!({"a": 2, "b": "2", "c": 1.5, "d": true, "e": null, "8080": "x"}));
    }

    #[test]
    fn file_modes_are_octal() {
        assert_eq!(one("mode: 0400\n").to_json(), serde_json::json!({"mode": 256}));
    }

    #[test]
    fn broken_yaml_names_the_place() {
        let finding = error("a: [1, 2\nb: 3\n");
        assert_eq!(finding.code, Code::YamlSyntax);
        assert!(finding.location.unwrap().line >= 1);
    }
}
