//! The chart makes the same objects as the manifests.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{cannot_run, cases, objects};
use crate::rendered::{Objects, everything, full_name};

#[test]
fn the_chart_makes_the_same_objects_as_the_manifests() {
    if cannot_run() {
        return;
    }
    for name in cases().same.keys() {
        let mut chart = comparable(&objects(name));
        let mut manifests = comparable(&everything()[name]);
        // Helm makes no namespace, and always has the test.
        manifests.remove("Namespace/mine");
        if !manifests.contains_key("Job/checker") {
            chart.remove("Job/checker");
        }
        // A chart has no way to a file outside of its folder.
        for file in ["PrometheusRule/microservices", "ConfigMap/dashboard"] {
            manifests.remove(file);
        }
        // A number to begin with, which kustomize has no way to give only once.
        if name.contains("autoscaling") {
            for front_end in ["Deployment/hello-server", "Deployment/hash-server"] {
                let spec = &mut chart.get_mut(front_end).unwrap()["spec"];
                let begin = spec.as_object_mut().unwrap().remove("replicas");
                assert_eq!(begin, Some(json!(2)), "{name}: {front_end}");
            }
        }
        assert_eq!(
            chart.keys().collect::<Vec<_>>(),
            manifests.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for (object, manifest) in &manifests {
            // Printed as text, in which the line that differs can be found.
            let text = |value: &Value| serde_json::to_string_pretty(value).unwrap();
            assert!(
                &chart[object] == manifest,
                "{name}: {object} of the chart:\n{}\nof the manifests:\n{}",
                text(&chart[object]),
                text(manifest)
            );
        }
    }
}

/// The objects by name, without what may differ: who manages them, and how a change of their
/// configuration makes new pods.
fn comparable(objects: &Objects) -> BTreeMap<String, Value> {
    let normal = objects.iter().map(|object| {
        let mut object = object.clone();
        if object["kind"] == "Secret" {
            object["data"] = json!("a password");
        }
        normalise(&mut object);
        (full_name(&object), object)
    });
    normal.collect()
}

fn normalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("namespace");
            fields.remove("annotations");
            fields.remove("app.kubernetes.io/managed-by");
            // What the API server fills in, Helm sends along.
            fields.remove("status");
            for (name, field) in fields.iter_mut() {
                normalise(field);
                if ["name", "secretName"].contains(&name.as_str()) {
                    without_hash(field);
                }
            }
            fields.retain(|_, field| !field.is_null());
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        _ => {}
    }
}

/// Takes away the hash that kustomize puts behind a name.
fn without_hash(name: &mut Value) {
    let Some((stem, hash)) = name.as_str().and_then(|name| name.rsplit_once('-')) else {
        return;
    };
    let digits = hash.bytes().filter(u8::is_ascii_digit).count();
    if hash.len() == 10 && digits > 0 {
        *name = json!(stem);
    }
}
