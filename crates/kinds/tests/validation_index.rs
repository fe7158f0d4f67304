//! Validation must accept what Istio accepts and refuse what it refuses.
//!
//! - Reads: `../shared/data/validation/index.jsonl` beside the repository; without it the test says so and passes.
//! - Rule: cases of kinds that this build does not know are left out. Cases where we differ on purpose are listed with the reason.

use std::path::{Path, PathBuf};

use lateen_base::Finding;
use serde_json::Value;

fn data() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    path.join("validation/index.jsonl").exists().then_some(path)
}

/// Cases where we answer otherwise, and why.
const DIFFERENT: &[(&str, &str)] =
    &[("val-80896bbc14", "an annotation that Istio keeps for its own Gateway API conversion relaxes its check; users cannot set it here")];

#[test]
fn answers_are_those_of_istio() {
    let Some(data) = data() else {
        eprintln!("skipped: ../shared/data/validation is not here");
        return;
    };
    let index = std::fs::read_to_string(data.join("validation/index.jsonl")).unwrap();
    let (mut total, mut wrong) = (0, Vec::new());
    for case in index.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let text = |field: &str| case[field].as_str().unwrap_or_default();
        let known = lateen_kinds::find(text("apiVersion"), text("kind")).is_ok();
        if !known || DIFFERENT.iter().any(|(id, _)| *id == text("id")) {
            continue;
        }
        let file = std::fs::read_to_string(data.join(text("file"))).unwrap();
        let Ok(documents) = serde_saphyr::from_multiple::<Value>(&file) else { continue };
        let document = usize::try_from(case["doc"].as_u64().unwrap()).unwrap();
        let findings = lateen_kinds::validate(&documents[document]);
        let error = findings.iter().find(|finding| finding.is_error());
        let got = if error.is_some() { "reject" } else { "accept" };
        total += 1;
        // Istio's warnings leave the object in force; ours may be about other things.
        let expected = if text("expected") == "reject" { "reject" } else { "accept" };
        if got != expected {
            let theirs = ["crd_error", "webhook_error", "error"].iter().find_map(|field| case[*field].as_str()).unwrap_or_default();
            wrong.push(format!("{} {} {}: ours {:?}, theirs {} {theirs}", text("id"), text("kind"), text("file"), error.map(Finding::to_string), expected));
        }
    }
    assert!(wrong.is_empty(), "{} of {total} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}
