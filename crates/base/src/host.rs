//! Host names as Istio writes them: exact, `*`, or `*.suffix`.
//!
//! - Rule: comparison ignores case and one trailing dot; more specific wins.

use std::fmt;

/// A host name, lower case, without a trailing dot; may start with `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

impl Host {
    /// Normalises `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `*` or `*.suffix`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether every name that `other` stands for is one that this stands for.
    #[must_use]
    pub fn covers(&self, other: &Host) -> bool {
        match self.0.strip_prefix('*') {
            Some(suffix) => match other.0.strip_prefix('*') {
                Some(inner) => inner.ends_with(suffix),
                None => other.0.len() > suffix.len() && other.0.ends_with(suffix) || suffix.is_empty(),
            },
            None => self == other,
        }
    }

    /// Whether some name matches both.
    #[must_use]
    pub fn overlaps(&self, other: &Host) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Larger is more specific: exact names before wildcards, longer suffixes before shorter.
    #[must_use]
    pub fn specificity(&self) -> (bool, usize) {
        (!self.is_wildcard(), self.0.len())
    }

    /// Resolves a short name in `namespace`: `reviews` → `reviews.<namespace>.svc.<domain>`; names with a dot and
    /// wildcards stay. Source: Istio's «host» field of `Destination`.
    #[must_use]
    pub fn resolve(name: &str, namespace: &str, domain: &str) -> Self {
        if name.contains('.') || name.starts_with('*') {
            Self::new(name)
        } else {
            Self::new(&crate::names::service_host(name, namespace, domain))
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Host {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_longer_names_only() {
        let wildcard = Host::new("*.default.svc.cluster.local");
        assert!(wildcard.covers(&Host::new("db.default.svc.cluster.local")));
        assert!(!wildcard.covers(&Host::new("default.svc.cluster.local")));
        assert!(Host::new("*").covers(&wildcard));
    }

    #[test]
    fn short_names_resolve_in_the_rules_namespace() {
        assert_eq!(Host::resolve("db", "shop", "cluster.local").as_str(), "db.shop.svc.cluster.local");
        assert_eq!(Host::resolve("Example.COM.", "shop", "cluster.local").as_str(), "example.com");
    }
}
