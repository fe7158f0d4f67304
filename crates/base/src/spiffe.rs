//! SPIFFE identities: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
//!
//! - Source: SPIFFE-ID specification §2; Istio's form of the path.
//! - Rule: exact comparison only; a NUL, a control character or an empty part never parses.

use std::fmt;

/// Identity of one workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// Trust domain, such as `cluster.local`.
    pub trust_domain: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Kubernetes service account.
    pub service_account: String,
}

impl SpiffeId {
    /// Builds an identity from its parts.
    #[must_use]
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Self {
        Self { trust_domain: trust_domain.into(), namespace: namespace.into(), service_account: service_account.into() }
    }

    /// Reads `spiffe://td/ns/N/sa/S`; `None` for any other form.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        if uri.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return None;
        }
        let rest = uri.strip_prefix("spiffe://")?;
        let mut parts = rest.split('/');
        let id = Self {
            trust_domain: parts.next()?.to_owned(),
            namespace: (parts.next()? == "ns").then(|| parts.next()).flatten()?.to_owned(),
            service_account: (parts.next()? == "sa").then(|| parts.next()).flatten()?.to_owned(),
        };
        let whole = parts.next().is_none();
        let filled = ![&id.trust_domain, &id.namespace, &id.service_account].iter().any(|p| p.is_empty());
        (whole && filled).then_some(id)
    }

    /// The form that policies name: without `spiffe://`.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_written() {
        let id = SpiffeId::new("cluster.local", "default", "frontend");
        assert_eq!(SpiffeId::parse(&id.to_string()), Some(id));
    }

    #[test]
    fn odd_identities_are_refused() {
        for uri in ["spiffe://td/ns/a/sa/", "spiffe://td/ns/a/sa/b/c", "spiffe://td/ns/a\0/sa/b", "http://td/ns/a/sa/b", "spiffe:///ns/a/sa/b"] {
            assert_eq!(SpiffeId::parse(uri), None, "{uri:?}");
        }
    }
}
