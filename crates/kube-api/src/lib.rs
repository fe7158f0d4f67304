//! The part of Kubernetes' API that a mesh on one machine needs, as strict Rust types.
//!
//! - Reads: Kubernetes objects as JSON, whole (`apiVersion`, `kind`, `metadata`, `spec`, `status`).
//! - Rule: a field that Kubernetes does not have is an error. A field that it has and that is not acted on is typed as JSON, kept, and accepted.
//! - Rule: writing an object gives back what was read, without empty fields.
//! - Limits: the kinds re-exported here and no others.
//! - Not here: Istio's kinds (`istio-api`), defaults and storage (`store`).
#![forbid(unsafe_code)]

pub mod core;
pub mod int_or_string;
pub mod meta;
pub mod pod;
pub mod service;
pub mod workload;

pub use crate::core::*;
pub use int_or_string::IntOrString;
pub use meta::*;
pub use pod::*;
pub use service::*;
pub use workload::*;

/// Whether `value` is what its type starts as, and so need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_yaml_fields_round_trip() {
        let text = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"web","image":"x","ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1"}}}]}}}}"#;
        let deployment: Deployment = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&deployment).unwrap(), serde_json::from_str::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn a_field_kubernetes_does_not_have_is_refused() {
        let error = serde_json::from_str::<Service>(r#"{"spec":{"selectors":{}}}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `selectors`"), "{error}");
    }

    #[test]
    fn cluster_ip_keeps_kubernetes_spelling() {
        let service: Service = serde_json::from_str(r#"{"spec":{"clusterIP":"None"}}"#).unwrap();
        assert_eq!(service.spec.cluster_ip, "None");
    }
}
