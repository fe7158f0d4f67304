//! Which objects a list asks for: kind, namespace, name and labels.
//!
//! - Reads: label selectors as `kubectl -l` takes them: `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, joined by commas.

use serde_json::Value;

/// What a list asks for; empty fields ask for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub selector: Selector,
}

/// A label selector: all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    label: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

impl Selector {
    /// Reads a selector; an empty text selects everything.
    ///
    /// # Errors
    /// The part that could not be read, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        split_outside_brackets(text).into_iter().map(str::trim).filter(|part| !part.is_empty()).map(requirement).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an object's labels satisfy every requirement.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        let label = |name: &str| object.pointer("/metadata/labels").and_then(|labels| labels.get(name)).and_then(Value::as_str);
        self.0.iter().all(|requirement| {
            let value = label(&requirement.label);
            match &requirement.test {
                Test::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
                Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|unwanted| unwanted != value)),
                Test::Exists => value.is_some(),
                Test::Missing => value.is_none(),
            }
        })
    }
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let bad = || format!("label selector: cannot read `{part}`; use a=b, a!=b, a in (b,c), a notin (b,c), a or !a");
    let make = |label: &str, test| {
        let label = label.trim();
        if label.is_empty() || label.contains(char::is_whitespace) { Err(bad()) } else { Ok(Requirement { label: label.to_owned(), test }) }
    };
    if let Some(head) = part.strip_suffix(')') {
        let (head, values) = head.split_once('(').ok_or_else(bad)?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let head = head.trim_end();
        return match (head.strip_suffix(" notin"), head.strip_suffix(" in")) {
            (Some(label), _) => make(label, Test::NotIn(values)),
            (None, Some(label)) => make(label, Test::In(values)),
            (None, None) => Err(bad()),
        };
    }
    if let Some((label, value)) = part.split_once("!=") {
        return make(label, Test::NotIn(vec![value.trim().to_owned()]));
    }
    if let Some((label, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return make(label, Test::In(vec![value.trim().to_owned()]));
    }
    match part.strip_prefix('!') {
        Some(label) => make(label, Test::Missing),
        None => make(part, Test::Exists),
    }
}

fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(selector: &str) -> bool {
        Selector::parse(selector).unwrap().matches(&json!({"metadata": {"labels": {"app": "web", "version": "v1"}}}))
    }

    #[test]
    fn every_form_of_requirement_is_understood() {
        for yes in ["", "app=web", "app==web,version=v1", "version in (v1, v2)", "version notin (v3)", "app", "!other", "app!=db", "other!=x"] {
            assert!(matches(yes), "{yes}");
        }
        for no in ["app=db", "version in (v2)", "version notin (v1)", "other", "!app", "app!=web", "other=x"] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["=x", "a b", "a of (b)"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }
}
