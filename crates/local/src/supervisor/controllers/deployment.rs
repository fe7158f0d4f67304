//! Deployments: how many pods of which template, and how one template replaces another.
//!
//! - Reads: Deployments, ReplicaSets, Pods.
//! - Rule: [`plan`] is pure. With `RollingUpdate` a new pod is ready before an old one goes; `maxSurge` and `maxUnavailable` are 25 % unless
//!   given, rounded up and down.
//! - Source: Kubernetes' «Deployments»: names are `DEPLOYMENT-HASH-RANDOM`.
//! - Limits: one old ReplicaSet is kept as long as it has pods; there is no revision history to roll back to.

use crate::supervisor::{Context, pod::status::is_ready};
use lateen_base::labels;
use lateen_kube_api::{Deployment, PodTemplateSpec, ReplicaSet};
use lateen_store::Key;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One pod, as planning sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodView {
    /// Name.
    pub name: String,
    /// Whether it has the wanted template.
    pub current: bool,
    /// Whether it takes traffic.
    pub ready: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// How a new template replaces an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// At most so many more, at most so many not ready.
    Rolling { surge: usize, unavailable: usize },
    /// All old ones go first.
    Recreate,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// So many new pods.
    pub create: usize,
    /// These go.
    pub delete: Vec<String>,
}

/// Decides the next step towards `wanted` pods of the current template.
pub(crate) fn plan(wanted: usize, strategy: Strategy, pods: &[PodView]) -> Plan {
    let living = || pods.iter().filter(|pod| !pod.deleting);
    let current: Vec<&PodView> = living().filter(|pod| pod.current).collect();
    let old: Vec<&PodView> = living().filter(|pod| !pod.current).collect();
    let missing = wanted.saturating_sub(current.len());
    match strategy {
        Strategy::Recreate if !old.is_empty() => Plan { create: 0, delete: names(&old) },
        Strategy::Recreate if pods.iter().any(|pod| !pod.current) => Plan::default(),
        Strategy::Recreate => Plan { create: missing, delete: surplus(&current, wanted) },
        Strategy::Rolling { surge, unavailable } => {
            let room = (wanted + surge).saturating_sub(current.len() + old.len());
            let mut delete = surplus(&current, wanted);
            let ready = living().filter(|pod| pod.ready && !delete.contains(&pod.name)).count();
            let mut spare = ready.saturating_sub(wanted.saturating_sub(unavailable));
            for pod in &old {
                // A pod that is not ready is missed by nobody.
                if !pod.ready {
                    delete.push(pod.name.clone());
                } else if spare > 0 {
                    spare -= 1;
                    delete.push(pod.name.clone());
                }
            }
            Plan { create: missing.min(room), delete }
        }
    }
}

fn names(pods: &[&PodView]) -> Vec<String> {
    pods.iter().map(|pod| pod.name.clone()).collect()
}

/// Pods above `wanted`: those that are not ready first.
fn surplus(pods: &[&PodView], wanted: usize) -> Vec<String> {
    let mut ordered = pods.to_vec();
    ordered.sort_by_key(|pod| pod.ready);
    names(ordered.get(..pods.len().saturating_sub(wanted)).unwrap_or_default())
}

/// Takes every Deployment and ReplicaSet one step further.
pub(crate) fn reconcile(context: &Context) {
    let all_pods = context.store.all("Pod");
    let sets = context.store.all("ReplicaSet");
    let mut managed = Vec::new();
    for object in context.store.all("Deployment") {
        let Ok(deployment) = serde_json::from_value::<Deployment>((*object).clone()) else { continue };
        managed.push(deployment.metadata.uid.clone());
        if deployment.spec.paused != Some(true) {
            step(context, &deployment, &sets, &all_pods);
        }
    }
    for object in &sets {
        match owner(object) {
            // Its Deployment is gone: so are its pods, in order.
            Some((kind, uid)) if kind == "Deployment" && !managed.contains(&uid) => retire(context, object, &all_pods),
            Some((kind, _)) if kind == "Deployment" => {}
            _ => stand_alone(context, object, &all_pods),
        }
    }
    orphans(context, &all_pods);
}

fn step(context: &Context, deployment: &Deployment, sets: &[Arc<Value>], all_pods: &[Arc<Value>]) {
    let metadata = &deployment.metadata;
    let hash = template_hash(&deployment.spec.template);
    let set_name = format!("{}-{hash}", metadata.name);
    let own_sets: Vec<&Arc<Value>> = sets.iter().filter(|set| owner(set).is_some_and(|(_, uid)| uid == metadata.uid)).collect();
    let Some(set) = own_sets.iter().find(|set| set["metadata"]["name"] == json!(set_name)).map(|set| Arc::clone(set)).or_else(|| make_set(context, deployment, &hash)) else {
        return;
    };
    let wanted = usize::try_from(deployment.spec.replicas.unwrap_or(1)).unwrap_or(0);
    let uids: Vec<&Value> = own_sets.iter().map(|set| &set["metadata"]["uid"]).chain([&set["metadata"]["uid"]]).collect();
    let own_pods: Vec<&Arc<Value>> = all_pods.iter().filter(|pod| owner(pod).is_some_and(|(_, uid)| uids.contains(&&json!(uid)))).collect();
    let views: Vec<PodView> = own_pods.iter().map(|pod| view(pod, &set)).collect();
    carry_out(context, &set, &plan(wanted, strategy(deployment, wanted), &views));
    for old in own_sets.iter().filter(|old| old["metadata"]["uid"] != set["metadata"]["uid"]) {
        if !own_pods.iter().any(|pod| owner(pod).is_some_and(|(_, uid)| old["metadata"]["uid"] == json!(uid))) {
            let _ = Key::of(old).map(|key| context.store.delete(&key));
        }
    }
    write_status(context, deployment, &views, wanted);
}

fn view(pod: &Value, set: &Value) -> PodView {
    PodView {
        name: pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        current: owner(pod).is_some_and(|(_, uid)| set["metadata"]["uid"] == json!(uid)),
        ready: is_ready(pod),
        deleting: pod.pointer("/metadata/deletionTimestamp").is_some(),
    }
}

fn carry_out(context: &Context, set: &Value, plan: &Plan) {
    let namespace = set["metadata"]["namespace"].as_str().unwrap_or_default();
    for _ in 0..plan.create {
        if let Err(finding) = context.create(new_pod(context, set)) {
            context.findings.set(&format!("set {namespace}/{}", set["metadata"]["name"]), vec![finding]);
            return;
        }
    }
    for name in &plan.delete {
        // It may have gone by itself.
        let _ = context.delete(&Key::new("v1", "Pod", namespace, name));
    }
}

fn make_set(context: &Context, deployment: &Deployment, hash: &str) -> Option<Arc<Value>> {
    let metadata = &deployment.metadata;
    let mut template = deployment.spec.template.clone();
    template.metadata.labels.insert(labels::POD_TEMPLATE_HASH.into(), hash.into());
    let mut selector = deployment.spec.selector.clone();
    selector.match_labels.insert(labels::POD_TEMPLATE_HASH.into(), hash.into());
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": format!("{}-{hash}", metadata.name), "namespace": metadata.namespace, "labels": template.metadata.labels,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata.name, "uid": metadata.uid, "controller": true}]},
        "spec": {"replicas": deployment.spec.replicas.unwrap_or(1), "selector": selector, "template": template},
    });
    context.create(set).ok()
}

fn new_pod(context: &Context, set: &Value) -> Value {
    let metadata = &set["metadata"];
    let name = format!("{}-{}", metadata["name"].as_str().unwrap_or_default(), context.random_name(RANDOM_LETTERS));
    let template = &set["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    if !pod["metadata"].is_object() {
        pod["metadata"] = json!({});
    }
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["namespace"] = metadata["namespace"].clone();
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": metadata["name"], "uid": metadata["uid"], "controller": true}]);
    pod
}

/// Letters after the last dash of a pod's name.
const RANDOM_LETTERS: usize = 5;

/// A ReplicaSet that a user wrote.
fn stand_alone(context: &Context, set: &Value, all_pods: &[Arc<Value>]) {
    let Ok(typed) = serde_json::from_value::<ReplicaSet>(set.clone()) else { return };
    let wanted = usize::try_from(typed.spec.replicas.unwrap_or(1)).unwrap_or(0);
    let views: Vec<PodView> = all_pods.iter().filter(|pod| owner(pod).is_some_and(|(_, uid)| uid == typed.metadata.uid)).map(|pod| view(pod, set)).collect();
    carry_out(context, set, &plan(wanted, Strategy::Rolling { surge: 0, unavailable: 0 }, &views));
}

fn retire(context: &Context, set: &Value, all_pods: &[Arc<Value>]) {
    let pods: Vec<Key> = all_pods.iter().filter(|pod| owner(pod).is_some_and(|(_, uid)| set["metadata"]["uid"] == json!(uid))).filter_map(|pod| Key::of(pod)).collect();
    for key in &pods {
        let _ = context.delete(key);
    }
    if pods.is_empty() {
        let _ = Key::of(set).map(|key| context.store.delete(&key));
    }
}

/// Pods whose ReplicaSet is gone.
fn orphans(context: &Context, all_pods: &[Arc<Value>]) {
    let sets = context.store.all("ReplicaSet");
    for pod in all_pods {
        let Some((kind, uid)) = owner(pod) else { continue };
        if kind == "ReplicaSet" && !sets.iter().any(|set| set["metadata"]["uid"] == json!(uid)) {
            let _ = Key::of(pod).map(|key| context.delete(&key));
        }
    }
}

/// Kind and uid of an object's controller.
fn owner(object: &Value) -> Option<(String, String)> {
    let owner = object.pointer("/metadata/ownerReferences/0")?;
    Some((owner["kind"].as_str()?.to_owned(), owner["uid"].as_str()?.to_owned()))
}

fn strategy(deployment: &Deployment, wanted: usize) -> Strategy {
    let given = deployment.spec.strategy.clone().unwrap_or_default();
    if given["type"] == "Recreate" {
        return Strategy::Recreate;
    }
    let part = |field: &str, round: fn(f64) -> f64| share(&given["rollingUpdate"][field], wanted, round);
    let (surge, unavailable) = (part("maxSurge", f64::ceil), part("maxUnavailable", f64::floor));
    // Both zero would never move.
    Strategy::Rolling { surge: if surge == 0 && unavailable == 0 { 1 } else { surge }, unavailable }
}

/// A number, or a percentage of `wanted`; 25 % where nothing is given.
fn share(value: &Value, wanted: usize, round: fn(f64) -> f64) -> usize {
    if let Some(number) = value.as_u64() {
        return usize::try_from(number).unwrap_or(usize::MAX);
    }
    let percent: f64 = value.as_str().and_then(|text| text.strip_suffix('%')?.parse().ok()).unwrap_or(25.0);
    let pods = u32::try_from(wanted).map_or(0.0, f64::from);
    // Replicas are far below what a float holds exactly; a negative share is none.
    let rounded = round(pods * percent / 100.0).clamp(0.0, f64::from(u16::MAX));
    (0..=usize::from(u16::MAX)).rev().find(|count| u16::try_from(*count).is_ok_and(|count| f64::from(count) <= rounded)).unwrap_or(0)
}

fn write_status(context: &Context, deployment: &Deployment, views: &[PodView], wanted: usize) {
    let living = || views.iter().filter(|pod| !pod.deleting);
    let (ready, total) = (living().filter(|pod| pod.ready).count(), living().count());
    let updated = living().filter(|pod| pod.current).count();
    let available = ready >= wanted.saturating_sub(wanted / 4);
    let status = json!({
        "observedGeneration": deployment.metadata.generation, "replicas": total, "updatedReplicas": updated, "readyReplicas": ready,
        "availableReplicas": ready, "unavailableReplicas": wanted.saturating_sub(ready),
        "conditions": [{"type": "Available", "status": if available { "True" } else { "False" }}],
    });
    let key = Key::new("apps/v1", "Deployment", &deployment.metadata.namespace, &deployment.metadata.name);
    let _ = context.store.set_status(&key, status);
}

/// A short name for a template: equal templates have equal names.
fn template_hash(template: &PodTemplateSpec) -> String {
    let text = serde_json::to_value(template).map(|value| canonical(&value)).unwrap_or_default();
    // FNV-1a, 64 bits: not secret, only unlikely to collide among a handful of templates.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let letters: Vec<char> = SAFE_LETTERS.chars().collect();
    (0..9).filter_map(|index| letters.get(usize::try_from((hash >> (index * 6)) % letters.len() as u64).unwrap_or(0))).collect()
}

/// Letters that form no words, as Kubernetes uses.
pub(crate) const SAFE_LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";

/// JSON with the fields of every object in order.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, String> = fields.iter().map(|(field, value)| (field, canonical(value))).collect();
            let parts: Vec<String> = sorted.iter().map(|(field, value)| format!("{field:?}:{value}")).collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLING: Strategy = Strategy::Rolling { surge: 1, unavailable: 0 };

    fn pods(text: &str) -> Vec<PodView> {
        let one = |word: &str| PodView { name: word.into(), current: word.contains('n'), ready: word.contains('r'), deleting: word.contains('d') };
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn missing_pods_are_made_and_surplus_ones_go() {
        assert_eq!(plan(2, ROLLING, &[]).create, 2);
        assert_eq!(plan(1, ROLLING, &pods("nr1 n2 nr3")).delete, ["n2", "nr1"]);
        assert_eq!(plan(2, ROLLING, &pods("nr1 nr2")), Plan::default());
    }

    #[test]
    fn a_new_pod_is_ready_before_the_old_one_goes() {
        assert_eq!(plan(1, ROLLING, &pods("r1")), Plan { create: 1, delete: vec![] });
        assert_eq!(plan(1, ROLLING, &pods("r1 n2")), Plan::default());
        assert_eq!(plan(1, ROLLING, &pods("r1 nr2")), Plan { create: 0, delete: vec!["r1".into()] });
        assert_eq!(plan(1, ROLLING, &pods("rd1 nr2")), Plan::default());
    }

    #[test]
    fn an_old_pod_that_is_not_ready_goes_at_once() {
        assert_eq!(plan(1, ROLLING, &pods("o1 n2")).delete, ["o1"]);
    }

    #[test]
    fn a_deleted_pod_is_replaced_at_once() {
        assert_eq!(plan(1, ROLLING, &pods("nd1")).create, 1);
    }

    #[test]
    fn recreate_waits_until_the_old_ones_have_gone() {
        assert_eq!(plan(1, Strategy::Recreate, &pods("r1")), Plan { create: 0, delete: vec!["r1".into()] });
        assert_eq!(plan(1, Strategy::Recreate, &pods("rd1")), Plan::default());
        assert_eq!(plan(1, Strategy::Recreate, &[]).create, 1);
    }

    #[test]
    fn shares_are_a_quarter_unless_given() {
        assert_eq!([share(&Value::Null, 5, f64::ceil), share(&Value::Null, 5, f64::floor)], [2, 1]);
        assert_eq!([share(&json!(3), 5, f64::ceil), share(&json!("50%"), 4, f64::floor)], [3, 2]);
    }

    #[test]
    fn equal_templates_have_equal_names() {
        let template = |text: &str| template_hash(&serde_json::from_str(text).unwrap());
        assert_eq!(template(r#"{"metadata":{"labels":{"a":"1","b":"2"}}}"#), template(r#"{"metadata":{"labels":{"b":"2","a":"1"}}}"#));
        assert_ne!(template(r#"{"metadata":{"labels":{"a":"1"}}}"#), template(r#"{"metadata":{"labels":{"a":"2"}}}"#));
    }
}
