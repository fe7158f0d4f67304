//! Apply: what a live object becomes when a user gives its wanted form again.
//!
//! - Reads: the live object, what was applied last time, what is applied now.
//! - Rule: a field taken out of the user's form is taken out of the object; a field that somebody else set stays. Lists are replaced whole.
//! - Source: Kubernetes' «Declarative Management of Objects Using Configuration Files», for kinds without merge keys.

use lateen_base::annotations;
use serde_json::{Map, Value};

/// Merges `wanted` into `live`, removing what `last` had and `wanted` has not.
pub fn merge(live: &mut Value, last: Option<&Value>, wanted: &Value) {
    let (Value::Object(live), Value::Object(wanted)) = (&mut *live, wanted) else {
        *live = wanted.clone();
        return;
    };
    if let Some(Value::Object(last)) = last {
        live.retain(|field, _| !last.contains_key(field) || wanted.contains_key(field));
    }
    for (field, value) in wanted {
        let before = last.and_then(|last| last.get(field));
        match live.get_mut(field) {
            _ if value.is_null() => drop(live.remove(field)),
            Some(current) => merge(current, before, value),
            None => drop(live.insert(field.clone(), value.clone())),
        }
    }
}

/// What a user may say about an object: without `status` and without the metadata that the store sets.
#[must_use]
pub fn user_part(mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.remove("status");
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            SERVER_FIELDS.iter().for_each(|field| drop(metadata.remove(*field)));
        }
    }
    object
}

/// Whether two objects differ outside of `metadata` and `status`.
#[must_use]
pub fn spec_differs(left: &Value, right: &Value) -> bool {
    let part = |object: &Value| -> Map<String, Value> {
        let mut fields = object.as_object().cloned().unwrap_or_default();
        fields.remove("metadata");
        fields.remove("status");
        fields.remove("apiVersion");
        fields
    };
    part(left) != part(right)
}

/// Whether two objects are the same but for the place they were read from.
#[must_use]
pub fn same_but_for_source(left: &Value, right: &Value) -> bool {
    let part = |object: &Value| {
        let mut object = object.clone();
        if let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") {
            annotations.remove(annotations::SOURCE);
        }
        object
    };
    left == right || part(left) == part(right)
}

/// Metadata that only the store sets.
const SERVER_FIELDS: [&str; 8] =
    ["uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_removed_field_goes_and_a_foreign_field_stays() {
        let mut live = json!({"spec": {"replicas": 3, "paused": true, "clusterIP": "10.96.0.4"}});
        merge(&mut live, Some(&json!({"spec": {"replicas": 3, "paused": true}})), &json!({"spec": {"replicas": 5}}));
        assert_eq!(live, json!({"spec": {"replicas": 5, "clusterIP": "10.96.0.4"}}));
    }

    #[test]
    fn a_list_is_replaced_whole() {
        let mut live = json!({"ports": [1, 2]});
        merge(&mut live, None, &json!({"ports": [3]}));
        assert_eq!(live, json!({"ports": [3]}));
    }

    #[test]
    fn a_pasted_object_loses_what_only_the_store_sets() {
        let part = user_part(json!({"metadata": {"name": "a", "uid": "x", "generation": 4}, "status": {}}));
        assert_eq!(part, json!({"metadata": {"name": "a"}}));
    }
}
