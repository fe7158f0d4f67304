//! Findings on standard error: one line as istioctl prints it, then the place in the file.
//!
//! - Reads: `Finding.location`; the file itself, for the lines around it.
//! - Rule: the first line alone says everything; what follows only shows it.
//! - Limits: [`FILE_BYTES_MAX`] of a file are read; a file that changed since may show another line.

use std::{collections::BTreeMap, fs::File, io::Read as _};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use lateen_base::{Finding, Location, Severity};

const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Lines shown above the one that is meant.
const CONTEXT_LINES: usize = 2;

/// Texts of files that were read already, by name; other files are read again.
pub(crate) type Texts = BTreeMap<String, String>;

/// Prints findings to standard error, the worst last, where the eye is.
pub(crate) fn eprint(findings: &[Finding], texts: &Texts, colour: bool) {
    eprint!("{}", render(findings, texts, colour));
}

/// Findings as text, the worst last.
pub(crate) fn render(findings: &[Finding], texts: &Texts, colour: bool) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by(|a, b| (a.severity, &a.location, a.code).cmp(&(b.severity, &b.location, b.code)));
    sorted.dedup();
    sorted.into_iter().map(|finding| one(finding, texts, colour)).collect()
}

fn one(finding: &Finding, texts: &Texts, colour: bool) -> String {
    let mut text = format!("{finding}\n");
    if let Some(location) = &finding.location
        && let Some(frame) = frame(location, finding.severity, texts, colour)
    {
        text.push_str(&frame);
        text.push('\n');
    }
    text
}

fn frame(location: &Location, severity: Severity, texts: &Texts, colour: bool) -> Option<String> {
    let line = usize::try_from(location.line).ok().filter(|line| *line > 0)?;
    let source = match texts.get(&location.file) {
        Some(text) => text.clone(),
        None => {
            let mut text = String::new();
            File::open(&location.file).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
            text
        }
    };
    let first = line.saturating_sub(CONTEXT_LINES + 1);
    let shown: Vec<&str> = source.lines().skip(first).take(line - first).collect();
    let last = shown.last()?;
    let before: usize = shown.iter().rev().skip(1).map(|line| line.len() + 1).sum();
    let (start, end) = span(last, location.column);
    let text = shown.join("\n");
    let level = match severity {
        Severity::Info => Level::INFO,
        Severity::Warning => Level::WARNING,
        Severity::Error => Level::ERROR,
    };
    let snippet = Snippet::source(text)
        .path(location.file.clone())
        .line_start(first + 1)
        .fold(false)
        .annotation(AnnotationKind::Primary.span(before + start..before + end));
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    Some(renderer.render(&[Group::with_level(level).element(snippet)]).to_string())
}

/// Byte range of the word at `column` (from 1, in characters; 0 is the whole line).
fn span(line: &str, column: u32) -> (usize, usize) {
    let trimmed = line.trim_end();
    let indent = trimmed.len() - trimmed.trim_start().len();
    let skip = usize::try_from(column).unwrap_or(0).saturating_sub(1);
    let start = if column == 0 { indent } else { trimmed.char_indices().nth(skip).map_or(indent, |(index, _)| index) };
    let rest = trimmed.get(start..).unwrap_or_default();
    let length = if column == 0 { rest.len() } else { rest.find(|c: char| c.is_whitespace() || c == ':').unwrap_or(rest.len()) };
    (start, start + length.max(1).min(rest.len().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_base::Code;

    #[test]
    fn span_is_the_word_at_the_column() {
        assert_eq!(span("    routee: x", 5), (4, 10));
        assert_eq!(span("  - weight: 90", 0), (2, 14));
        assert_eq!(span("", 9), (0, 1));
    }

    #[test]
    fn the_line_is_shown_with_its_number() {
        let folder = std::env::temp_dir().join(format!("lateen-findings-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let file = folder.join("a.yaml");
        std::fs::write(&file, "a: 1\nb: 2\nroutee: x\n").expect("file");
        let location = Location { file: file.to_string_lossy().into_owned(), line: 3, column: 1 };
        let text = render(&[Finding::new(Code::UnknownField, "unknown field `routee`").with_location(location)], &Texts::new(), false);
        std::fs::remove_dir_all(&folder).expect("removed");
        assert!(text.starts_with("Error [LTN0002] ("), "{text}");
        assert!(text.contains("3 | routee: x") && text.contains("^^^^^^"), "{text}");
    }

    #[test]
    fn worst_findings_come_last() {
        let findings = [Finding::new(Code::YamlSyntax, "bad"), Finding::new(Code::WeightSum, "odd")];
        let text = render(&findings, &Texts::new(), false);
        assert!(text.find("odd") < text.find("bad"), "{text}");
    }
}
