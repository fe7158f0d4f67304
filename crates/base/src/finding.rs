//! Findings: what we tell a user about their YAML.
//!
//! - Rule: each finding says what, where, why and what to do. Codes with an `IST` number are Istio's; `LTN` are ours.
//! - Source of Istio's codes: Istio's «Analysis Messages» page.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Probably not what was meant.
    Warning,
    /// Refused, or certain to fail.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Info => "Info",
            Severity::Warning => "Warning",
            Severity::Error => "Error",
        })
    }
}

/// A place in a file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// Path as the user gave it.
    pub file: String,
    /// Line, from 1; 0 where the whole file is meant.
    pub line: u32,
    /// Column in characters, from 1; 0 where the whole line is meant.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => f.write_str(&self.file),
            (line, 0) => write!(f, "{}:{line}", self.file),
            (line, column) => write!(f, "{}:{line}:{column}", self.file),
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $severity:ident;)*) => {
        /// What kind of finding it is; the table of all there are.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[allow(clippy::upper_case_acronyms)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as users see it, such as `IST0101`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// Severity where nothing says otherwise.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Code::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    /// A referenced host, subset, gateway or other object does not exist.
    ReferencedResourceNotFound = "IST0101", Error;
    /// The namespace is not labelled for injection.
    NamespaceNotInjected = "IST0102", Info;
    /// A pod has no sidecar though its namespace is labelled.
    PodMissingProxy = "IST0103", Warning;
    /// The object does not satisfy its schema.
    SchemaValidationError = "IST0106", Error;
    /// An annotation is not known or not valid.
    MisplacedAnnotation = "IST0107", Warning;
    /// An annotation is unknown.
    UnknownAnnotation = "IST0108", Warning;
    /// Two VirtualServices define routes for one host.
    ConflictingMeshGatewayVirtualServiceHosts = "IST0109", Error;
    /// A Sidecar's selector conflicts with another's.
    ConflictingSidecarWorkloadSelectors = "IST0110", Error;
    /// A VirtualService host has no match for its destination port.
    VirtualServiceDestinationPortSelectorRequired = "IST0112", Error;
    /// A port's name does not follow `<protocol>[-<suffix>]`.
    PortNameIsNotUnderNamingConvention = "IST0118", Info;
    /// A VirtualService host is not known.
    VirtualServiceHostNotFoundInGateway = "IST0132", Warning;
    /// A rule can never match.
    VirtualServiceUnreachableRule = "IST0130", Warning;
    /// A match duplicates an earlier one.
    VirtualServiceIneffectiveMatch = "IST0131", Info;
    /// Port clash between Gateways.
    ConflictingGateways = "IST0145", Error;
    /// A subset selects no pod.
    DestinationRuleSubsetNotSelectPods = "IST0173", Warning;
    /// The text is not YAML.
    YamlSyntax = "LTN0001", Error;
    /// A field no schema knows.
    UnknownField = "LTN0002", Error;
    /// A value of the wrong type or out of range.
    InvalidValue = "LTN0003", Error;
    /// One document defines a key, or two documents define an object, twice.
    Duplicate = "LTN0004", Error;
    /// A file or folder that cannot be read.
    Unreadable = "LTN0005", Error;
    /// A file with no objects in it.
    Empty = "LTN0006", Error;
    /// Input larger than the limit, or aliases that expand without bound.
    TooLarge = "LTN0007", Error;
    /// A kind or apiVersion this build does not know.
    UnknownKind = "LTN0008", Error;
    /// A field that is understood but not enforced yet.
    NotEnforced = "LTN0009", Warning;
    /// An image with no command and no stand-in.
    UnknownImage = "LTN0010", Error;
    /// A Service's target port is one that no container declares.
    TargetPortNotDeclared = "LTN0011", Warning;
    /// Retries that never fire on a 5xx answer.
    RetryDoesNotCover5xx = "LTN0012", Info;
    /// A DestinationRule forces mutual TLS on workloads that have no sidecar.
    MutualTlsToPlainWorkload = "LTN0013", Warning;
    /// Two listeners or programs want one port.
    PortClash = "LTN0014", Error;
    /// A pod that cannot be started, or keeps failing.
    PodFailed = "LTN0015", Error;
    /// A proxy refused configuration.
    ProxyRejected = "LTN0016", Error;
    /// Weights that do not add up as written.
    WeightSum = "LTN0017", Info;
    /// STRICT mutual TLS meets a rule that turns TLS off.
    StrictMeetsDisable = "LTN0018", Warning;
}

/// One thing to tell a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of finding.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// The object: `VirtualService default/reviews`; empty where no object could be read.
    pub object: String,
    /// The field: `spec.http[0].retries.attempts`; empty for the object as a whole.
    pub path: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// Where it is written.
    pub location: Option<Location>,
}

impl Finding {
    /// A finding of the code's own severity; add the rest with the `with_…` methods.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            object: String::new(),
            path: String::new(),
            message: message.into(),
            remedy: String::new(),
            location: None,
        }
    }

    /// Names the object, such as `VirtualService default/reviews`.
    #[must_use]
    pub fn with_object(mut self, object: impl Into<String>) -> Self {
        self.object = object.into();
        self
    }

    /// Names the field.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Says where.
    #[must_use]
    pub fn with_location(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }

    /// Overrides the severity.
    #[must_use]
    pub fn with_severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Whether this refuses the object.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `Error [IST0101] (VirtualService default/my-app file.yaml:12:9) spec.…: message; remedy`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.severity, self.code.as_str())?;
        match (&self.object, &self.location) {
            (object, Some(location)) if object.is_empty() => write!(f, " ({location})")?,
            (object, Some(location)) => write!(f, " ({object} {location})")?,
            (object, None) if !object.is_empty() => write!(f, " ({object})")?,
            _ => {}
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Findings gathered while looking at something.
pub type Findings = Vec<Finding>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_istioctl() {
        let finding = Finding::new(Code::ReferencedResourceNotFound, "Referenced host+subset in destinationrule not found: \"my-app+v1\"")
            .with_object("VirtualService default/my-app")
            .with_location(Location { file: "app.yaml".into(), line: 12, column: 9 });
        assert_eq!(
            finding.to_string(),
            "Error [IST0101] (VirtualService default/my-app app.yaml:12:9) Referenced host+subset in destinationrule not found: \"my-app+v1\""
        );
    }

    #[test]
    fn no_two_codes_share_a_name() {
        let mut names: Vec<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
