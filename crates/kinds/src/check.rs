//! What validation of every kind shares: how findings are made, and the rules for hosts, ports, labels and expressions.
//!
//! - Rule: a message holds the value, the remedy what to write instead.
//! - Limits: regular expressions of at most [`REGEX_BYTES_MAX`] bytes, since each proxy compiles each of them.
//! - Not here: rules of one kind (its folder).

use lateen_base::{Code, Finding, Findings, Severity};
use lateen_istio_api::{GoDuration, PolicyTargetReference, StringMatch, WorkloadSelector};
use lateen_mesh::Meta;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Longest regular expression that is accepted. Source: Istio's bulletin 2026-006 caps them at the same size.
pub const REGEX_BYTES_MAX: usize = 1024;

/// Kinds a policy may attach to, with their groups.
const TARGETS: [(&str, &str); 5] = [
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

/// Gathers findings about one object.
pub struct Check<'a> {
    object: String,
    location: Option<&'a lateen_base::Location>,
    findings: &'a mut Findings,
}

impl<'a> Check<'a> {
    /// For the object of `meta`.
    pub fn new(meta: &'a Meta, findings: &'a mut Findings) -> Self {
        Self { object: format!("{} {}", meta.kind, meta.full_name()), location: meta.location.as_ref(), findings }
    }

    /// Adds a finding about the object.
    pub fn add(&mut self, finding: Finding) {
        let finding = finding.with_object(&self.object);
        self.findings.push(match self.location {
            Some(location) => finding.with_location(location.clone()),
            None => finding,
        });
    }

    /// A value that refuses the object.
    pub fn error(&mut self, path: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Finding::new(Code::InvalidValue, message).with_path(path).with_remedy(remedy));
    }

    /// A value that is accepted but probably not what was meant.
    pub fn warn(&mut self, path: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Finding::new(Code::InvalidValue, message).with_severity(Severity::Warning).with_path(path).with_remedy(remedy));
    }

    /// A field that is understood but has no effect in this version.
    pub fn not_enforced(&mut self, path: impl Into<String>) {
        let path = path.into();
        let field = path.rsplit('.').next().unwrap_or_default().to_owned();
        self.add(
            Finding::new(Code::NotEnforced, format!("\"{field}\" is not enforced yet; traffic behaves as if it were absent"))
                .with_path(path)
                .with_remedy("remove it, so that nobody relies on it"),
        );
    }

    /// [`Check::not_enforced`] for each field whose flag is set.
    pub fn not_enforced_if(&mut self, path: &str, fields: &[(&str, bool)]) {
        for (field, set) in fields {
            if *set {
                self.not_enforced(format!("{path}.{field}"));
            }
        }
    }

    /// A port number from 1 to 65535.
    pub fn port(&mut self, path: &str, port: u32) {
        if port == 0 || port > 65_535 {
            self.error(path, format!("port {port} is out of range"), "use a port from 1 to 65535");
        }
    }

    /// A percentage from 0 to 100.
    pub fn percent(&mut self, path: &str, value: f64) {
        if !(0.0..=100.0).contains(&value) {
            self.error(path, format!("percentage {value} is out of range"), "use a number from 0 to 100");
        }
    }

    /// A duration of at least a millisecond.
    pub fn duration(&mut self, path: &str, value: Option<GoDuration>) {
        if let Some(value) = value.filter(|value| value.nanos < 1_000_000) {
            self.error(path, format!("duration {value} is shorter than 1ms"), "use at least 1ms, or remove the field");
        }
    }

    /// A duration that is zero or more, in whole milliseconds.
    pub fn duration_or_zero(&mut self, path: &str, value: Option<GoDuration>) {
        if value.is_some_and(|value| value.nanos < 0) {
            self.error(path, "the duration is negative", "use 0s or more");
        }
    }

    /// A host name: DNS name, or `*`, or `*.` and a DNS name, and no IP address.
    pub fn wildcard_host(&mut self, path: &str, host: &str) {
        if host == "*" {
            return;
        }
        self.host(path, host.strip_prefix("*.").or_else(|| host.strip_prefix("*-")).unwrap_or(host));
    }

    /// A DNS name without wildcard.
    pub fn host(&mut self, path: &str, host: &str) {
        if host.is_empty() {
            self.error(path, "the host is empty", "name a service, such as reviews or reviews.default.svc.cluster.local");
        } else if !is_dns_name(host) {
            self.error(path, format!("\"{host}\" is not a host name"), "use letters, digits, \"-\" and \".\", such as reviews.default.svc.cluster.local");
        }
    }

    /// An RE2 expression that this build compiles.
    pub fn regex(&mut self, path: &str, regex: &str) {
        if regex.is_empty() {
            self.error(path, "the regular expression is empty", "write an expression, or remove the match");
        } else if regex.len() > REGEX_BYTES_MAX {
            self.error(path, format!("the regular expression has {} bytes", regex.len()), format!("use at most {REGEX_BYTES_MAX}"));
        } else if let Err(error) = regex::Regex::new(regex) {
            let cause = error.to_string();
            let cause = cause.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            self.error(path, format!("\"{regex}\" is not a valid RE2 regular expression: {cause}"), "correct the expression; the whole string has to match it");
        }
    }

    /// A string match: its expression compiles, its prefix is not empty. `*` as an expression asks for presence.
    pub fn string_match(&mut self, path: &str, value: &StringMatch) {
        match value {
            StringMatch::Regex(regex) if regex != "*" => self.regex(&format!("{path}.regex"), regex),
            StringMatch::Prefix(prefix) if prefix.is_empty() => {
                self.error(format!("{path}.prefix"), "the prefix is empty", "write a prefix, or {} to ask only for presence");
            }
            StringMatch::Regex(_) | StringMatch::Prefix(_) | StringMatch::Exact(_) | StringMatch::Present => {}
        }
    }

    /// Labels of a selector.
    pub fn labels(&mut self, path: &str, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            let path = format!("{path}.{key}");
            if key.contains('*') || value.contains('*') {
                self.error(path, format!("label \"{key}: {value}\" has a wildcard"), "name the label and its value in full");
            } else if !is_label_key(key) {
                self.error(path, format!("\"{key}\" is not a label name"), "use letters, digits, \"-\", \"_\", \".\", with an optional prefix and \"/\"");
            } else if !is_label_value(value) {
                self.error(path, format!("\"{value}\" is not a label value"), "use at most 63 letters, digits, \"-\", \"_\", \".\"");
            }
        }
    }

    /// A `selector.matchLabels`.
    pub fn selector(&mut self, selector: Option<&WorkloadSelector>) {
        if let Some(selector) = selector {
            self.labels("spec.selector.matchLabels", &selector.match_labels);
        }
    }

    /// The objects a policy attaches to, in place of a selector.
    pub fn target_refs(&mut self, one: Option<&PolicyTargetReference>, list: &[PolicyTargetReference], selector: Option<&WorkloadSelector>) {
        if selector.is_some() && (one.is_some() || !list.is_empty()) {
            self.error("spec.selector", "selector and targetRefs are both set", "keep one of them");
        }
        if one.is_some() && !list.is_empty() {
            self.error("spec.targetRef", "targetRef and targetRefs are both set", "keep targetRefs");
        }
        let listed = list.iter().enumerate().map(|(i, target)| (format!("spec.targetRefs[{i}]"), target));
        for (path, target) in one.map(|target| ("spec.targetRef".to_owned(), target)).into_iter().chain(listed) {
            if target.name.is_empty() {
                self.error(format!("{path}.name"), "the reference names nothing", "add name");
            }
            if target.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty()) {
                self.error(format!("{path}.namespace"), "a policy attaches only to objects of its own namespace", "remove namespace");
            }
            if !TARGETS.contains(&(target.group.as_str(), target.kind.as_str())) {
                let message = format!("a policy cannot attach to {}/{}", target.group, target.kind);
                self.error(format!("{path}.kind"), message, "use a Gateway, GatewayClass, Service or ServiceEntry");
            }
        }
        self.not_enforced_if("spec", &[("targetRef", one.is_some()), ("targetRefs", !list.is_empty())]);
    }

    /// An `exportTo` list: `.`, `*`, `~` or namespaces; `~` and `*` alone.
    pub fn export_to(&mut self, list: &[String]) {
        for (i, namespace) in list.iter().enumerate() {
            let path = format!("spec.exportTo[{i}]");
            let special = matches!(namespace.as_str(), "." | "*" | "~");
            if !special && !is_dns_label(namespace) {
                self.error(path, format!("\"{namespace}\" is no namespace"), "use \".\", \"*\", \"~\" or the name of a namespace");
            } else if list.iter().take(i).any(|other| other == namespace) {
                self.error(path, format!("\"{namespace}\" is listed twice"), "list it once");
            } else if list.len() > 1 && matches!(namespace.as_str(), "*" | "~") {
                self.error(path, format!("\"{namespace}\" must stand alone"), "remove the other entries, or this one");
            }
        }
    }
}

/// Whether `text` is one DNS label of RFC 1123, at most 63 bytes.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether `text` is a DNS name of at most 255 bytes that is no IP address; a trailing dot is allowed.
#[must_use]
pub fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| is_dns_label(&label.replace('_', "x"));
    name.len() <= 255 && text.parse::<IpAddr>().is_err() && name.split('.').all(label)
}

/// Whether `text` is an address or a CIDR block.
#[must_use]
pub fn is_ip_or_cidr(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok()
}

/// Whether `name` is a token, as header names are. Source: RFC 9110 §5.6.2.
#[must_use]
pub fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_dns_name) && !name.is_empty() && is_label_value(name)
}

fn is_label_value(value: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    value.len() <= 63
        && value.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
        && (value.is_empty() || value.starts_with(edge) && value.ends_with(edge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_host_names() {
        assert!(is_dns_name("reviews.default.svc.cluster.local"));
        assert!(!is_dns_name("10.0.0.1"));
        assert!(!is_dns_name("a..b"));
        assert!(!is_dns_name("-a"));
    }

    #[test]
    fn label_names_may_have_a_prefix() {
        assert!(is_label_key("app.kubernetes.io/name") && is_label_key("app"));
        assert!(!is_label_key("a/b/c!") && !is_label_key("/x/"));
    }
}
