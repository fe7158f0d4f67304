//! AuthorizationPolicy: who may call what.
//!
//! - Reads: `security.istio.io` AuthorizationPolicy.
//! - Twin: `plan/src/rbac/`, which decides; `compile/src/listener/`, which puts the filters in place;
//!   `proxy/src/filters/rbac.rs`, `proxy/src/network/rbac.rs`.
//! - Rule: CUSTOM before DENY before ALLOW; where an ALLOW policy selects a workload, everything it does not allow is denied.

pub mod attribute;
pub mod matcher;
pub mod rbac;
pub mod rule;

use lateen_base::{Code, Finding, Findings, Severity, annotations};
use lateen_istio_api::{Action, AuthorizationPolicy};
use lateen_mesh::{MtlsMode, Object, Snapshot, selects};

use crate::check::Check;
use crate::kind::{Gvk, Kind};

/// The kind.
pub enum AuthorizationPolicyKind {}

impl Kind for AuthorizationPolicyKind {
    const GVK: Gvk = Gvk { group: "security.istio.io", version: "v1", also: &["v1beta1"], kind: "AuthorizationPolicy", plural: "authorizationpolicies" };
    type Spec = AuthorizationPolicy;

    fn objects(mesh: &Snapshot) -> &[Object<AuthorizationPolicy>] {
        &mesh.authorization_policies
    }

    fn validate(object: &Object<AuthorizationPolicy>, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let spec = &object.spec;
        check.selector(spec.selector.as_ref());
        check.target_refs(spec.target_ref.as_ref(), &spec.target_refs, spec.selector.as_ref());
        validate_action(spec, &mut check);
        let dry_run = object.meta.annotations.get(annotations::DRY_RUN);
        if dry_run.is_some_and(|value| value == "true") && !matches!(spec.action, Action::Allow | Action::Deny) {
            let path = format!("metadata.annotations.{}", annotations::DRY_RUN);
            check.error(path, "a dry run needs action ALLOW or DENY", "remove the annotation, or change the action");
        }
        for (i, rule) in spec.rules.iter().enumerate() {
            rule::validate(rule, &format!("spec.rules[{i}]"), &mut check);
            if spec.action == Action::Custom {
                rule::validate_custom(rule, &format!("spec.rules[{i}]"), &mut check);
            }
        }
    }

    fn analyze(object: &Object<AuthorizationPolicy>, mesh: &Snapshot, findings: &mut Findings) {
        let mut check = Check::new(&object.meta, findings);
        let Some(index) = object.spec.rules.iter().position(needs_identity) else { return };
        let selector = object.spec.selector.as_ref().map(|selector| &selector.match_labels);
        let mesh_wide = object.meta.namespace == mesh.mesh_config.root_namespace;
        let plain = mesh.workloads().iter().find(|workload| {
            (mesh_wide || workload.namespace == object.meta.namespace)
                && selector.is_none_or(|selector| selects(selector, &workload.labels))
                && mesh.mtls_mode_default(&workload.namespace, &workload.labels) == MtlsMode::Disable
        });
        if let Some(workload) = plain {
            let message = format!("the rule asks who calls, but {} accepts plain text only, where callers have no identity", workload.name);
            let finding = Finding::new(Code::StrictMeetsDisable, message).with_severity(Severity::Warning);
            check.add(finding.with_path(format!("spec.rules[{index}].from")).with_remedy("set the PeerAuthentication to PERMISSIVE or STRICT"));
        }
    }
}

fn validate_action(spec: &AuthorizationPolicy, check: &mut Check<'_>) {
    match (spec.action, &spec.provider) {
        (Action::Custom, None) => check.error("spec.provider", "action CUSTOM needs a provider", "add provider.name"),
        (Action::Custom, Some(provider)) if provider.name.is_empty() => check.error("spec.provider.name", "the provider has no name", "name an extension provider"),
        (Action::Custom, Some(_)) => {
            let message = "external authorizers are not supported yet, so requests that match this policy are denied";
            check.add(Finding::new(Code::NotEnforced, message).with_path("spec.action").with_remedy("use ALLOW or DENY"));
        }
        (_, Some(_)) => check.error("spec.provider", "only action CUSTOM takes a provider", "remove provider, or use action: CUSTOM"),
        (Action::Deny, None) if spec.rules.is_empty() => {
            check.error("spec.rules", "a DENY policy without rules denies nothing", "add a rule; rules: [{}] denies everything");
        }
        (_, None) => {}
    }
    if spec.action == Action::Custom && spec.rules.is_empty() {
        check.error("spec.rules", "a CUSTOM policy without rules asks nobody", "add a rule");
    }
}

fn needs_identity(rule: &lateen_istio_api::Rule) -> bool {
    rule.from.iter().filter_map(|from| from.source.as_ref()).any(|source| {
        [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces, &source.service_accounts, &source.not_service_accounts]
            .iter()
            .any(|values| !values.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use lateen_base::Finding;
    use serde_json::json;

    fn errors(spec: serde_json::Value) -> Vec<String> {
        let object = json!({"metadata": {"name": "a", "namespace": "default"}, "spec": spec});
        let found = (crate::find("security.istio.io/v1", "AuthorizationPolicy").unwrap().check)(&object);
        found.into_iter().filter(Finding::is_error).map(|finding| finding.path).collect()
    }

    #[test]
    fn only_frontend_may_call_payments_is_accepted() {
        let spec = json!({"selector": {"matchLabels": {"app": "payments"}}, "action": "ALLOW", "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/default/sa/frontend"]}}]}]});
        assert_eq!(errors(spec), Vec::<String>::new());
    }

    #[test]
    fn empty_sources_and_unknown_keys_are_refused() {
        assert_eq!(errors(json!({"rules": [{"from": [{"source": {}}]}]})), ["spec.rules[0].from[0].source"]);
        assert_eq!(errors(json!({"rules": [{"when": [{"key": "source.color", "values": ["red"]}]}]})), ["spec.rules[0].when[0].key"]);
    }

    #[test]
    fn deny_needs_rules() {
        assert_eq!(errors(json!({"action": "DENY"})), ["spec.rules"]);
    }
}
