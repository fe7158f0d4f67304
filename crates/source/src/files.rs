//! Files and folders of YAML and JSON as objects, each part of which knows its file, line and column.
//!
//! - Reads: `*.yaml`, `*.yml` and `*.json`, folders recursively in order of name, several documents in one file, `kind: List`.
//! - Rule: everything wrong becomes a finding with a place and a remedy; a file with a syntax error gives no objects at all.
//! - Rule: every served version of a kind is stored in its storage version; objects without a namespace go to `default`.
//! - Limits: [`FILE_BYTES_MAX`] for one file, [`FILES_MAX`] files, [`FOLDER_DEPTH_MAX`] folders deep.
//! - Not here: what fields mean (`kinds`), watching for changes (`local`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lateen_base::{Code, Finding, Findings, Location, annotations, names};
use lateen_kinds::decode::object_name;
use lateen_kinds::{KindInfo, Scope};
use serde_json::{Map, Value};

use crate::snapshot;
use crate::yaml::{self, Node, Place, PlaceOf};

/// Size from which a file is refused. Kubernetes refuses objects of about the same size.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Most files in one load.
pub const FILES_MAX: usize = 5_000;
/// Deepest folder, so that links that form a circle end.
pub const FOLDER_DEPTH_MAX: usize = 32;

/// One object as a user wrote it, ready for the store.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The object: storage version, with namespace and source annotation.
    pub object: Value,
    /// Where its document starts.
    pub location: Location,
    spans: Arc<Node>,
}

impl Loaded {
    /// Where the field at `path` stands, such as `spec.http[0].route`.
    #[must_use]
    pub fn locate(&self, path: &str, of: PlaceOf) -> Location {
        let Place { line, column } = self.spans.locate(path, of);
        Location { file: self.location.file.clone(), line, column }
    }
}

/// What a load gives.
#[derive(Debug, Default)]
pub struct Load {
    /// Objects, in the order of files and documents. Those that have errors are among them; look at the findings.
    pub objects: Vec<Loaded>,
    /// Everything to tell the user.
    pub findings: Findings,
    /// Text of each file that could be read, for showing lines.
    pub texts: BTreeMap<String, String>,
}

impl Load {
    /// Whether anything is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(Finding::is_error)
    }
}

/// Reads files and folders and checks every object in them.
#[must_use]
pub fn load(paths: &[PathBuf]) -> Load {
    let mut load = Load::default();
    let mut files = Vec::new();
    for path in paths {
        collect(path, 0, &mut files, &mut load.findings);
    }
    files.dedup();
    if files.len() > FILES_MAX {
        let message = format!("{} files are too many", files.len());
        load.findings.push(Finding::new(Code::TooLarge, message).with_remedy(format!("give at most {FILES_MAX}; is the path right?")));
        return load;
    }
    for file in files {
        match read(&file) {
            Ok(text) => {
                let name = file.display().to_string();
                parse_into(&text, &name, &mut load);
                load.texts.insert(name, text);
            }
            Err(finding) => load.findings.push(*finding),
        }
    }
    duplicates(&mut load);
    load
}

/// Reads the objects of one text, as from standard input; `name` stands for the file.
#[must_use]
pub fn load_text(text: &str, name: &str) -> Load {
    let mut load = Load::default();
    if text.len() >= FILE_BYTES_MAX {
        load.findings.push(too_large(name, text.len()));
    } else {
        parse_into(text, name, &mut load);
        duplicates(&mut load);
    }
    load.texts.insert(name.to_owned(), text.to_owned());
    load
}

fn whole(file: &str) -> Location {
    Location { file: file.to_owned(), line: 1, column: 1 }
}

fn too_large(file: &str, bytes: usize) -> Finding {
    Finding::new(Code::TooLarge, format!("the file has {bytes} bytes; the limit is {FILE_BYTES_MAX} (1 MiB)"))
        .with_location(whole(file))
        .with_remedy("split it into several files")
}

/// Whether `path` has an ending that holds objects.
#[must_use]
pub fn is_object_file(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| matches!(ending, "yaml" | "yml" | "json"))
}

fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>, findings: &mut Findings) {
    let name = path.display().to_string();
    let unreadable = |error: &std::io::Error| {
        let (what, remedy) = match error.kind() {
            std::io::ErrorKind::NotFound => ("there is no such file or folder", "check the path; it is relative to the folder you are in"),
            std::io::ErrorKind::PermissionDenied => ("it cannot be read: permission denied", "give yourself the right to read it"),
            _ => ("it cannot be read", "check the path and the disk"),
        };
        Finding::new(Code::Unreadable, format!("{name}: {what} ({error})")).with_location(Location { file: name.clone(), line: 0, column: 0 }).with_remedy(remedy)
    };
    match std::fs::metadata(path) {
        Err(error) => return findings.push(unreadable(&error)),
        Ok(metadata) if !metadata.is_dir() => return files.push(path.to_owned()),
        Ok(_) => {}
    }
    if depth > FOLDER_DEPTH_MAX {
        findings.push(Finding::new(Code::TooLarge, format!("{name}: folders are nested too deep")).with_remedy("is there a link that leads back up?"));
        return;
    }
    let entries = match std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return findings.push(unreadable(&error)),
    };
    let mut children: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(|child| is_visible(child)).collect();
    children.sort();
    let before = files.len() + findings.len();
    for child in children {
        if child.is_dir() || is_object_file(&child) {
            collect(&child, depth + 1, files, findings);
        }
    }
    if depth == 0 && files.len() + findings.len() == before {
        let message = format!("folder {name} contains no .yaml, .yml or .json file");
        findings.push(Finding::new(Code::Empty, message).with_location(Location { file: name, line: 0, column: 0 }).with_remedy("put the objects of your mesh there, or give another path"));
    }
}

fn is_visible(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with('.'))
}

fn read(path: &Path) -> Result<String, Box<Finding>> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path).map_or(0, |metadata| usize::try_from(metadata.len()).unwrap_or(usize::MAX));
    if size >= FILE_BYTES_MAX {
        return Err(Box::new(too_large(&name, size)));
    }
    let bytes = std::fs::read(path).map_err(|error| {
        let message = format!("{name}: it cannot be read ({error})");
        Box::new(Finding::new(Code::Unreadable, message).with_location(Location { file: name.clone(), line: 0, column: 0 }).with_remedy("give yourself the right to read it"))
    })?;
    text(bytes, &name)
}

/// Bytes as text, unless they are not meant as text.
fn text(bytes: Vec<u8>, name: &str) -> Result<String, Box<Finding>> {
    let bad = match std::str::from_utf8(&bytes) {
        Ok(_) => bytes.iter().position(|byte| *byte == 0),
        Err(error) => Some(error.valid_up_to()),
    };
    let Some(offset) = bad else { return String::from_utf8(bytes).map_err(|_| Box::new(too_large(name, 0))) };
    let before = bytes.get(..offset).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let byte = bytes.get(offset).copied().unwrap_or_default();
    Err(Box::new(
        Finding::new(Code::YamlSyntax, format!("this is a binary file, not YAML: byte 0x{byte:02x} at offset {offset}"))
            .with_location(Location { file: name.to_owned(), line: number(line), column: number(column) })
            .with_remedy("save it as UTF-8 text, or move it out of the folder"),
    ))
}

fn parse_into(text: &str, file: &str, load: &mut Load) {
    let documents = match yaml::parse(text, file) {
        Ok(documents) => documents,
        Err(finding) => return load.findings.push(*finding),
    };
    if documents.is_empty() {
        let finding = Finding::new(Code::Empty, "the file contains no objects").with_location(whole(file));
        return load.findings.push(finding.with_remedy("add an object, such as a Deployment, or remove the file"));
    }
    for document in documents {
        if document.get("kind").map(Node::to_json) == Some(Value::String("List".into())) {
            let items = document.get("items").map(|items| &items.tree);
            if let Some(yaml::Tree::List(items)) = items {
                items.iter().for_each(|item| add(item.clone(), file, load));
            }
        } else {
            add(document, file, load);
        }
    }
}

/// Checks one document and adds it, with everything there is to say about it.
fn add(document: Node, file: &str, load: &mut Load) {
    let place = document.place;
    let location = Location { file: file.to_owned(), line: place.line, column: place.column };
    let Value::Object(fields) = document.to_json() else {
        let finding = Finding::new(Code::InvalidValue, "the document is not an object").with_location(location);
        return load.findings.push(finding.with_remedy("start it with apiVersion and kind"));
    };
    let row = match kind_of(&fields) {
        Ok(row) => row,
        Err(finding) => return load.findings.push(located(*finding, &document, file)),
    };
    let object = normalised(fields, row, &location);
    for finding in (row.check)(&object) {
        load.findings.push(located(finding, &document, file));
    }
    // The mesh's options are YAML inside YAML: their own places are lost, so the whole text is pointed at.
    if let Some(Err(finding)) = snapshot::mesh_config_text(&object).map(snapshot::parse_mesh_config) {
        let Place { line, column } = document.locate("data.mesh", PlaceOf::Value);
        load.findings.push(finding.with_object(object_name(&object)).with_location(Location { file: file.to_owned(), line, column }));
    }
    load.objects.push(Loaded { object, location, spans: Arc::new(document) });
}

fn kind_of(fields: &Map<String, Value>) -> Result<&'static KindInfo, Box<Finding>> {
    let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default();
    for field in ["apiVersion", "kind"] {
        if text(field).is_empty() {
            let message = format!("the document has no {field}");
            return Err(Box::new(Finding::new(Code::InvalidValue, message).with_path(field).with_remedy(format!("add {field}, such as {}", example(field)))));
        }
    }
    let name = object_name(&Value::Object(fields.clone()));
    lateen_kinds::find(text("apiVersion"), text("kind")).map_err(|finding| Box::new(finding.with_object(name)))
}

fn example(field: &str) -> &'static str {
    if field == "kind" { "Deployment" } else { "apps/v1" }
}

/// The object as the store keeps it.
fn normalised(mut fields: Map<String, Value>, row: &KindInfo, location: &Location) -> Value {
    fields.insert("apiVersion".into(), row.gvk.api_version().into());
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata {
        let missing = metadata.get("namespace").is_none_or(|namespace| namespace.is_null() || namespace == "");
        match row.scope {
            Scope::Namespaced if missing => {
                metadata.insert("namespace".into(), names::DEFAULT_NAMESPACE.into());
            }
            Scope::Namespaced => {}
            Scope::Cluster => {
                metadata.remove("namespace");
            }
        }
        if metadata.get("annotations").is_none_or(Value::is_null) {
            metadata.insert("annotations".into(), Value::Object(Map::new()));
        }
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.insert(annotations::SOURCE.into(), format!("{}:{}", location.file, location.line).into());
        }
    }
    Value::Object(fields)
}

fn located(finding: Finding, document: &Node, file: &str) -> Finding {
    let of = if matches!(finding.code, Code::UnknownField | Code::UnknownKind | Code::NotEnforced) { PlaceOf::Key } else { PlaceOf::Value };
    let of = if finding.code == Code::UnknownKind { PlaceOf::Value } else { of };
    let Place { line, column } = document.locate(&finding.path, of);
    finding.with_location(Location { file: file.to_owned(), line, column })
}

/// Two documents with one kind, namespace and name: only one of them could hold.
fn duplicates(load: &mut Load) {
    let mut seen: BTreeMap<String, Location> = BTreeMap::new();
    for loaded in &load.objects {
        let name = object_name(&loaded.object);
        let group = loaded.object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let key = format!("{group} {name}");
        match seen.get(&key) {
            Some(first) => load.findings.push(
                Finding::new(Code::Duplicate, format!("{name} is already defined at {first}"))
                    .with_object(name)
                    .with_path("metadata.name")
                    .with_location(loaded.locate("metadata.name", PlaceOf::Value))
                    .with_remedy("rename or remove one of them"),
            ),
            None => drop(seen.insert(key, loaded.location.clone())),
        }
    }
}

/// A finding as text, with the line of the source that it is about.
#[must_use]
pub fn render(finding: &Finding, source_text: &str) -> String {
    let mut text = finding.to_string();
    let Some(location) = finding.location.as_ref().filter(|location| location.line > 0) else { return text };
    let index = usize::try_from(location.line).unwrap_or(usize::MAX).saturating_sub(1);
    let Some(line) = source_text.lines().nth(index) else { return text };
    let number = location.line.to_string();
    let margin = " ".repeat(number.len());
    let shown: String = line.chars().take(160).collect();
    let indent = " ".repeat(usize::try_from(location.column).unwrap_or(1).saturating_sub(1).min(160));
    text.push_str(&format!("\n{margin} |\n{number} | {shown}\n{margin} | {indent}^"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(load: &Load) -> Vec<(Code, u32, u32)> {
        let place = |finding: &Finding| finding.location.as_ref().map_or((0, 0), |location| (location.line, location.column));
        load.findings.iter().map(|finding| (finding.code, place(finding).0, place(finding).1)).collect()
    }

    const RULE: &str = "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata:\n  name: a\nspec:\n  hosts: [a]\n  http:\n  - route:\n    - destination: {host: a}\n";

    #[test]
    fn an_object_is_normalised_and_knows_its_source() {
        let load = load_text(RULE, "a.yaml");
        assert_eq!(load.findings, []);
        let object = &load.objects[0].object;
        assert_eq!(object["apiVersion"], "networking.istio.io/v1");
        assert_eq!(object["metadata"]["namespace"], "default");
        assert_eq!(object["metadata"]["annotations"][annotations::SOURCE], "a.yaml:1");
    }

    #[test]
    fn an_unknown_field_is_shown_at_its_key() {
        let load = load_text(&RULE.replace("{host: a}", "{host: a, subsett: v1}"), "a.yaml");
        assert_eq!(codes(&load), [(Code::UnknownField, 9, 30)]);
        assert!(load.findings[0].remedy.contains("subset"));
    }

    #[test]
    fn a_wrong_type_is_shown_at_its_value() {
        let load = load_text(&RULE.replace("- destination: {host: a}", "- destination: {host: 5}"), "a.yaml");
        assert_eq!(codes(&load), [(Code::InvalidValue, 9, 27)]);
    }

    #[test]
    fn a_semantic_error_is_shown_at_its_value() {
        let load = load_text(&format!("{RULE}    retries: {{attempts: -1}}\n"), "a.yaml");
        assert_eq!(codes(&load), [(Code::InvalidValue, 10, 25)]);
    }

    #[test]
    fn mesh_options_are_checked_with_their_config_map() {
        let load = load_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    accessLogFil: /dev/stdout\n", "a.yaml");
        assert_eq!(codes(&load), [(Code::UnknownField, 6, 5)]);
        assert!(load.findings[0].remedy.contains("accessLogFile"), "{}", load.findings[0]);
    }

    #[test]
    fn an_empty_file_says_what_to_do() {
        for text in ["", "# nothing\n", "---\n---\n"] {
            let load = load_text(text, "a.yaml");
            assert_eq!(codes(&load), [(Code::Empty, 1, 1)], "{text:?}");
        }
    }

    #[test]
    fn an_unknown_kind_lists_the_known_ones() {
        let load = load_text("apiVersion: v1\nkind: Podd\nmetadata: {name: a}\n", "a.yaml");
        assert_eq!(codes(&load), [(Code::UnknownKind, 2, 7)]);
        assert!(load.findings[0].remedy.starts_with("did you mean \"Pod\"?"));
    }

    #[test]
    fn two_objects_of_one_name_are_refused_at_the_second() {
        let load = load_text(&format!("{RULE}---\n{RULE}"), "a.yaml");
        assert_eq!(codes(&load), [(Code::Duplicate, 14, 9)]);
        assert!(load.findings[0].message.contains("a.yaml:1"));
    }

    #[test]
    fn a_list_gives_its_items() {
        let load = load_text("apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n", "a.yaml");
        assert_eq!((load.objects.len(), load.findings.len()), (1, 0));
        assert_eq!(load.objects[0].location.line, 4);
    }

    #[test]
    fn a_mebibyte_is_too_much() {
        let load = load_text(&"#".repeat(FILE_BYTES_MAX), "a.yaml");
        assert_eq!(codes(&load), [(Code::TooLarge, 1, 1)]);
    }

    #[test]
    fn a_binary_file_is_called_one() {
        let finding = text(b"kind: Pod\n\x00\x01".to_vec(), "a.yaml").unwrap_err();
        assert!(finding.message.starts_with("this is a binary file"));
        assert_eq!(finding.location.unwrap().line, 2);
        assert!(text(vec![0xff, 0xfe], "a.yaml").is_err());
    }

    #[test]
    fn a_missing_path_is_named() {
        let load = load(&[PathBuf::from("/nowhere/at/all")]);
        assert_eq!(load.findings[0].code, Code::Unreadable);
        assert!(load.findings[0].message.contains("/nowhere/at/all"));
    }

    #[test]
    fn folders_are_read_in_order_of_name() {
        let folder = std::env::temp_dir().join(format!("lateen-files-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        let namespace = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        std::fs::write(folder.join("b.yaml"), namespace("b")).unwrap();
        std::fs::write(folder.join("sub/a.json"), "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"a\"}}").unwrap();
        std::fs::write(folder.join("notes.txt"), "not yaml: [").unwrap();
        let load = load(std::slice::from_ref(&folder));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(load.findings, []);
        let names: Vec<_> = load.objects.iter().map(|loaded| loaded.object["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn a_rendered_finding_points_at_the_place() {
        let load = load_text(&RULE.replace("{host: a}", "{host: a, subsett: v1}"), "a.yaml");
        let text = render(&load.findings[0], &load.texts["a.yaml"]);
        assert!(text.contains("a.yaml:9:30"), "{text}");
        assert!(text.ends_with(&format!("  | {}^", " ".repeat(29))), "{text}");
    }
}
