//! Every example of the repository loads without errors, and without warnings about fields that do nothing.

use std::path::Path;

use lateen_base::{Code, Finding};

#[test]
fn examples_load_without_errors() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut folders: Vec<_> = std::fs::read_dir(&examples).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    for folder in folders {
        let load = lateen_source::load(std::slice::from_ref(&folder));
        let bad: Vec<&Finding> = load.findings.iter().filter(|finding| finding.is_error() || finding.code == Code::NotEnforced).collect();
        assert!(bad.is_empty(), "{}: {bad:#?}", folder.display());
        assert!(!load.objects.is_empty(), "{}", folder.display());
    }
}
