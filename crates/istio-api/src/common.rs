//! Messages that several Istio resources share: string matches, selectors, target references.
//!
//! - Reads: parts of the `spec` of `networking.istio.io`, `security.istio.io` and `telemetry.istio.io` objects.
//! - Rule: as everywhere in this crate, unknown fields and words are errors.
#![allow(
    missing_docs,
    reason = "fields carry Istio's own names, documented at istio.io/latest/docs/reference/config"
)]

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

/// `istio.networking.v1alpha3.StringMatch`: how a string must look.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(into = "StringMatchFields")]
pub enum StringMatch {
    /// `{}`: the thing need only be there.
    #[default]
    Present,
    /// Equal, byte for byte.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// RE2 expression that must match the whole string.
    Regex(String),
}

impl StringMatch {
    /// The text matched on; empty for [`StringMatch::Present`].
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Present => "",
            Self::Exact(text) | Self::Prefix(text) | Self::Regex(text) => text,
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct StringMatchFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
}

impl From<StringMatch> for StringMatchFields {
    fn from(value: StringMatch) -> Self {
        match value {
            StringMatch::Present => Self::default(),
            StringMatch::Exact(text) => Self {
                exact: Some(text),
                ..Self::default()
            },
            StringMatch::Prefix(text) => Self {
                prefix: Some(text),
                ..Self::default()
            },
            StringMatch::Regex(text) => Self {
                regex: Some(text),
                ..Self::default()
            },
        }
    }
}

impl<'de> Deserialize<'de> for StringMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match StringMatchFields::deserialize(deserializer)? {
            StringMatchFields {
                exact: None,
                prefix: None,
                regex: None,
            } => Ok(Self::Present),
            StringMatchFields {
                exact: Some(text),
                prefix: None,
                regex: None,
            } => Ok(Self::Exact(text)),
            StringMatchFields {
                exact: None,
                prefix: Some(text),
                regex: None,
            } => Ok(Self::Prefix(text)),
            StringMatchFields {
                exact: None,
                prefix: None,
                regex: Some(text),
            } => Ok(Self::Regex(text)),
            StringMatchFields { .. } => Err(D::Error::custom(
                "a string match takes one of exact, prefix or regex, not several; keep one",
            )),
        }
    }
}

/// `istio.networking.v1alpha3.PortSelector`. `number` 1 to 65535.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortSelector {
    #[serde(deserialize_with = "crate::number::plain")]
    pub number: u32,
}

/// `istio.type.v1beta1.WorkloadSelector`: which pods, by labels that must all match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadSelector {
    pub match_labels: BTreeMap<String, String>,
}

/// `istio.networking.v1alpha3.WorkloadSelector`: the older form, with `labels`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LabelSelector {
    pub labels: BTreeMap<String, String>,
}

/// `istio.type.v1beta1.PolicyTargetReference`: a Gateway, Service or ServiceEntry that a policy attaches to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicyTargetReference {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_match_is_one_of_three_or_presence() {
        let parse = |text: &str| serde_json::from_str::<StringMatch>(text);
        assert_eq!(parse("{}").unwrap(), StringMatch::Present);
        assert_eq!(
            parse(r#"{"prefix": "/a"}"#).unwrap(),
            StringMatch::Prefix("/a".into())
        );
        assert!(
            parse(r#"{"prefix": "/a", "exact": "/b"}"#)
                .unwrap_err()
                .to_string()
                .contains("keep one")
        );
        assert!(
            parse(r#"{"suffix": "/a"}"#)
                .unwrap_err()
                .to_string()
                .contains("unknown field `suffix`")
        );
    }
}
