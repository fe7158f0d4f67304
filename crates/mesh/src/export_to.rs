//! `exportTo`: the namespaces in which a Service, VirtualService or DestinationRule is seen.
//!
//! - Reads: `exportTo` lists and the annotation `networking.istio.io/exportTo`.
//! - Rule: no list means everywhere; `~` means nowhere, whatever else is listed.
//! - Not here: the mesh-wide default lists (`MeshConfig`).

use std::collections::BTreeSet;

/// Namespaces in which something is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportTo {
    /// Every namespace (`*`).
    All,
    /// The namespace of the object itself if `own` (`.`), and these.
    Some {
        /// The object's own namespace.
        own: bool,
        /// Namespaces by name.
        names: BTreeSet<String>,
    },
}

impl ExportTo {
    /// Reads a list; an empty one means everywhere.
    pub fn of(list: &[String]) -> Self {
        if list.iter().any(|n| n.trim() == "~") {
            return Self::Some { own: false, names: BTreeSet::new() };
        }
        if list.is_empty() || list.iter().any(|n| n.trim() == "*") {
            return Self::All;
        }
        let names = list.iter().map(|n| n.trim().to_owned()).filter(|n| n != ".").collect();
        Self::Some { own: list.iter().any(|n| n.trim() == "."), names }
    }

    /// Whether an object of namespace `own_namespace` is seen in `namespace`.
    pub fn reaches(&self, own_namespace: &str, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some { own, names } => (*own && own_namespace == namespace) || names.contains(namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_reaches_everywhere() {
        assert!(ExportTo::of(&[]).reaches("a", "b"));
    }

    #[test]
    fn a_dot_reaches_only_home() {
        let export = ExportTo::of(&[".".to_owned()]);
        assert!(export.reaches("a", "a") && !export.reaches("a", "b"));
    }

    #[test]
    fn a_tilde_reaches_nowhere() {
        assert!(!ExportTo::of(&["~".to_owned()]).reaches("a", "a"));
    }
}
