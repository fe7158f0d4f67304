//! docs/compat/istio-api.md is what validation says: each field of each Istio kind, whether it is enforced, and where it is read.
//!
//! - Reads: the structs in `istio-api/src` for the fields; [`lateen_kinds::validate`] for the verdict on each, set alone in an object;
//!   the sources of `kinds`, `mesh` and `compile` for who reads it outside validation (found by name).
//! - Rule: a field that nobody reads and that gives no finding fails the test: nothing is ignored in silence.
//! - Rule: `cargo xtask compat` writes the file; otherwise the test fails when it is out of date.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use lateen_base::{Code, Finding};
use lateen_kinds::{KINDS, KindInfo};
use regex::Regex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const FILE: &str = "docs/compat/istio-api.md";

/// What an object needs besides the field, for validation to look at the field at all.
const AROUND: &[(&str, &str)] = &[("Gateway", r#"{"servers": [{"port": {"number": 443, "protocol": "HTTPS", "name": "https"}}]}"#)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// One field of a struct: its Rust name, its JSON name, how it repeats, and the name of its innermost type.
struct Field {
    rust: String,
    json: String,
    container: Container,
    inner: String,
}

#[derive(Clone, Copy)]
enum Container {
    One,
    List,
    Map,
}

#[derive(Default)]
struct Types {
    structs: BTreeMap<String, Vec<Field>>,
    enums: BTreeMap<String, Vec<String>>,
}

fn types() -> Types {
    let mut types = Types::default();
    let item = Regex::new(r"(?ms)^pub (struct|enum) (\w+) \{\n(.*?)^\}").unwrap();
    let field = Regex::new(r"(?m)^ {4}pub (?:r#)?(\w+): (.+),$").unwrap();
    let variant = Regex::new(r#"rename = "(\w+)""#).unwrap();
    for file in rust_files(&root().join("crates/istio-api/src")).iter().filter(|file| !file.ends_with("duration.rs")) {
        let text = fs::read_to_string(file).unwrap();
        for found in item.captures_iter(&text) {
            let name = found[2].to_owned();
            if &found[1] == "enum" {
                types.enums.insert(name, variant.captures_iter(&found[3]).map(|v| v[1].to_owned()).collect());
            } else {
                types.structs.insert(name, field.captures_iter(&found[3]).map(|f| parsed(&f[1], &f[2])).collect());
            }
        }
    }
    types
}

fn parsed(rust: &str, of: &str) -> Field {
    let mut of = of.trim_start_matches("Option<");
    let mut container = Container::One;
    for (prefix, kind) in [("Vec<", Container::List), ("BTreeMap<String, ", Container::Map), ("BTreeMap<u32, ", Container::Map)] {
        if let Some(rest) = of.strip_prefix(prefix) {
            (of, container) = (rest, kind);
        }
    }
    Field { rust: rust.to_owned(), json: camel(rust), container, inner: of.trim_end_matches('>').to_owned() }
}

fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Source files by path from the root, without tests and without the functions that only validate or analyse.
fn sources() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for dir in ["crates/kinds/src", "crates/mesh/src", "crates/compile/src"] {
        for file in rust_files(&root().join(dir)).iter().filter(|file| !file.ends_with("analyze.rs")) {
            let text = fs::read_to_string(file).unwrap();
            let body = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
            let shown = file.strip_prefix(root()).unwrap().display().to_string();
            let body = if dir.contains("kinds") { without_judging(&body) } else { body };
            all.push((shown, body));
        }
    }
    all
}

/// `text` without the functions that only judge; a function ends at the brace that closes its indentation.
fn without_judging(text: &str) -> String {
    let head = Regex::new(r"^( *)(?:pub(?:\(crate\))? )?fn (?:validate|check|analyze)").unwrap();
    let mut kept = String::new();
    let mut until: Option<String> = None;
    for line in text.lines() {
        match &until {
            Some(end) if line == end => until = None,
            Some(_) => {}
            None => match head.captures(line).filter(|_| !line.ends_with(';') && !line.ends_with('}')) {
                Some(found) => until = Some(format!("{}}}", &found[1])),
                None => kept.extend([line, "\n"]),
            },
        }
    }
    kept
}

struct Report<'a> {
    types: &'a Types,
    sources: &'a [(String, String)],
    row: &'a KindInfo,
    folder: String,
    seen: BTreeMap<String, String>,
    out: String,
    unread: Vec<String>,
}

impl Report<'_> {
    /// One line per field of `name`, then the fields of its messages, depth first.
    fn message(&mut self, name: &str, path: &[(String, Container)]) {
        for field in &self.types.structs[name] {
            let mut below = path.to_vec();
            below.push((field.json.clone(), field.container));
            let shown = below.iter().map(|(name, container)| format!("{name}{}", mark(*container))).collect::<Vec<_>>().join(".");
            let read = self.read(&field.rust);
            let verdict = self.verdict(&below, &field.inner, read);
            let message = self.types.structs.contains_key(&field.inner);
            if verdict == "**not enforced**" {
                writeln!(self.out, "| `{shown}` | {verdict} | |").unwrap();
                continue;
            }
            if !read && !message && verdict == "enforced" {
                self.unread.push(format!("{} spec.{shown}", self.row.gvk.kind));
            }
            let place = self.lowered(name, &field.rust).map(|file| format!("`{file}`")).unwrap_or_default();
            let again = self.seen.get(&field.inner).cloned();
            let note = again.as_ref().map(|first| format!(" (fields as `{first}`)")).unwrap_or_default();
            writeln!(self.out, "| `{shown}` | {verdict}{note} | {place} |").unwrap();
            if message && again.is_none() {
                self.seen.insert(field.inner.clone(), shown);
                self.message(&field.inner, &below);
            }
        }
    }

    /// What validation says when this field alone is set, for each value that its type has.
    fn verdict(&self, path: &[(String, Container)], inner: &str, read: bool) -> String {
        let bare = format!("spec.{}", path.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("."));
        let (mut ignored, mut refused, mut fine) = (Vec::new(), Vec::new(), 0);
        let samples = self.samples(inner);
        for sample in &samples {
            let findings = self.validate(path, sample.clone());
            // An error about the only sample of a field may be about the sample; if nobody reads the field it is about the field.
            let judged = samples.len() > 1 || !read;
            let says = |code: Code, at: &dyn Fn(&str) -> bool| findings.iter().any(|f| f.code == code && at(&without_indices(&f.path)));
            let shown = sample.as_str().unwrap_or_default().to_owned();
            if says(Code::NotEnforced, &|at| bare == at || bare.starts_with(&format!("{at}."))) {
                ignored.push(shown);
            } else if judged && findings.iter().any(Finding::is_error) && says(Code::InvalidValue, &|at| bare == at) {
                refused.push(shown);
            } else {
                fine += 1;
            }
        }
        match (fine, ignored.len(), refused.len()) {
            (0, _, 0) => return "**not enforced**".to_owned(),
            (0, 0, _) => return "refused".to_owned(),
            _ => {}
        }
        let words = |what: &str, values: &[String]| if values.is_empty() { String::new() } else { format!("; {what}: {}", values.join(", ")) };
        format!("enforced{}{}", words("**not enforced**", &ignored), words("refused", &refused))
    }

    fn validate(&self, path: &[(String, Container)], sample: Value) -> Vec<Finding> {
        let spec = path.iter().rev().fold(sample, |value, (name, container)| {
            let value = match container {
                Container::One => value,
                Container::List => json!([value]),
                Container::Map => json!({ "1": value }),
            };
            json!({ name: value })
        });
        let around = AROUND.iter().find(|(kind, _)| *kind == self.row.gvk.kind).map(|(_, text)| serde_json::from_str(text).unwrap());
        let spec = merged(around.unwrap_or_else(|| json!({})), spec);
        let object = json!({"apiVersion": self.row.gvk.api_version(), "kind": self.row.gvk.kind, "metadata": {"name": "x", "namespace": "default"}, "spec": spec});
        let findings = (self.row.check)(&object);
        let unreadable = findings.iter().find(|f| f.code == Code::UnknownField || f.message.contains("invalid type") || f.message.contains("expected"));
        assert!(unreadable.is_none(), "the sample {object} is not read: {unreadable:?}");
        findings
    }

    fn samples(&self, inner: &str) -> Vec<Value> {
        match inner {
            "String" => vec![json!("x")],
            "bool" => vec![json!(true)],
            "u32" | "i32" | "i64" | "u64" | "f64" => vec![json!(1)],
            "GoDuration" => vec![json!("1s")],
            "StringMatch" => vec![json!({"exact": "x"})],
            name if self.types.enums.contains_key(name) => self.types.enums[name].iter().map(|word| json!(word)).collect(),
            name if self.types.structs.contains_key(name) => vec![json!({})],
            other => panic!("no sample of type {other}"),
        }
    }

    /// Whether anything reads `.field` outside validation and analysis.
    fn read(&self, field: &str) -> bool {
        let read = reader(field);
        self.sources.iter().any(|(_, text)| read.is_match(text))
    }

    /// The file that names the struct and reads the field: in the kind's own folder, else where kinds are put together.
    fn lowered(&self, of: &str, field: &str) -> Option<&str> {
        let (named, read) = (Regex::new(&format!(r"\b{of}\b")).unwrap(), reader(field));
        let places = [self.folder.as_str(), "crates/kinds/", "crates/compile/", "crates/mesh/"];
        let lowers = |text: &str| named.is_match(text) && read.is_match(text);
        places.iter().find_map(|place| self.sources.iter().find(|(file, text)| file.starts_with(place) && lowers(text)).map(|(file, _)| file.as_str()))
    }
}

fn reader(field: &str) -> Regex {
    Regex::new(&format!(r"(?:\.(?:r#)?|[{{,] ?(?:r#)?){field}\b")).unwrap()
}

/// `base` with `over` laid over it; the first elements of lists are merged.
fn merged(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (key, value) in over {
                let below = base.remove(&key).unwrap_or(Value::Null);
                base.insert(key, merged(below, value));
            }
            Value::Object(base)
        }
        (Value::Array(mut base), Value::Array(mut over)) if base.len() == 1 && over.len() == 1 => Value::Array(vec![merged(base.remove(0), over.remove(0))]),
        (_, over) => over,
    }
}

fn mark(container: Container) -> &'static str {
    match container {
        Container::One => "",
        Container::List => "[]",
        Container::Map => "{}",
    }
}

fn without_indices(path: &str) -> String {
    Regex::new(r"\[[^\]]*\]").unwrap().replace_all(path, "").into_owned()
}

fn snake(camel: &str) -> String {
    camel.char_indices().fold(String::new(), |name, (i, c)| if i > 0 && c.is_uppercase() { name + "_" + &c.to_lowercase().to_string() } else { name + &c.to_lowercase().to_string() })
}

#[test]
fn the_support_matrix_is_what_validation_says() {
    let (types, sources) = (types(), sources());
    let mut page = String::from(
        "# Istio's resources, field by field\n\n\
         Written by `cargo xtask compat`; do not edit. Each field is set alone in an object; the verdict is what validation says.\n\n\
         - *enforced*: accepted without a finding, and read when configuration is compiled.\n\
         - ***not enforced***: read, and reported as `LTN0009` wherever it is used, also everything below it.\n\
         - *refused*: an error, as is every unknown field.\n\n\
         The last column is the file that names the message and reads the field.\n",
    );
    let mut unread = Vec::new();
    let mut kinds = BTreeSet::new();
    for row in KINDS.iter().filter(|row| row.gvk.group.ends_with(".istio.io")) {
        kinds.insert(row.gvk.kind);
        let folder = format!("crates/kinds/src/{}/", snake(row.gvk.kind));
        let mut report = Report { types: &types, sources: &sources, row, folder, seen: BTreeMap::new(), out: String::new(), unread: Vec::new() };
        report.message(row.gvk.kind, &[]);
        write!(page, "\n## {}\n\n`{}`\n\n| Field of `spec` | | Read in |\n|---|---|---|\n{}", row.gvk.kind, row.gvk.api_versions().join("`, `"), report.out).unwrap();
        unread.append(&mut report.unread);
    }
    assert!(unread.is_empty(), "read by nobody, and no finding says so:\n{}", unread.join("\n"));
    let path = root().join(FILE);
    if std::env::var_os("UPDATE_COMPAT").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "{FILE} is out of date; run cargo xtask compat");
}
