//! What `kubectl apply` does the second time, as far as that shows without a cluster.

use std::fs;

use e2e::skip;
use serde_json::Value;

use crate::rendered::{available, everything, full_name, kustomize, overlays, parse};
use crate::root;

#[test]
fn a_second_apply_finds_nothing_to_change() {
    // kubectl replaces these as a whole, so what the API server fills in has to be there.
    for (name, objects) in everything() {
        for object in objects.iter().filter(|object| !object["spec"].is_null()) {
            let what = format!("{name}: {}", full_name(object));
            let spec = &object["spec"];
            let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
            if spec["strategy"].is_object() {
                assert!(spec["strategy"]["type"].is_string(), "{what}");
            }
            for claim in list(&spec["volumeClaimTemplates"]) {
                assert_eq!(claim["apiVersion"], "v1", "{what}");
                assert_eq!(claim["kind"], "PersistentVolumeClaim", "{what}");
                assert_eq!(claim["spec"]["volumeMode"], "Filesystem", "{what}");
                assert_eq!(claim["status"]["phase"], "Pending", "{what}");
            }
            if object["kind"] == "NetworkPolicy" {
                let rules = [list(&spec["ingress"]), list(&spec["egress"])].concat();
                for port in rules.iter().flat_map(|rule| list(&rule["ports"])) {
                    assert!(port["protocol"].is_string(), "{what}: {port}");
                }
            }
            if object["kind"] == "HTTPRoute" {
                assert_eq!(spec["parentRefs"][0]["kind"], "Gateway", "{what}");
                let rule = &spec["rules"][0];
                assert_eq!(rule["matches"][0]["path"]["value"], "/", "{what}");
                assert_eq!(rule["backendRefs"][0]["weight"], 1, "{what}");
            }
        }
    }
}

#[test]
fn every_overlay_can_be_applied_again_with_other_tags_and_labels() {
    if skip::unless(available()) {
        return;
    }
    let next = "images:
  - {name: hello_server, newTag: next}
  - {name: hash_server, newTag: next}
  - {name: persistence_server, newTag: next}
  - {name: checker, newTag: next}
labels:
  - pairs: {app.kubernetes.io/version: next}
    fields:
      - {path: spec/template/metadata/labels, kind: Deployment}
      - {path: spec/template/metadata/labels, kind: StatefulSet}
      - {path: spec/template/metadata/labels, kind: Job}
";
    // What the API server refuses to change.
    let fixed = |object: &Value| -> Value {
        let mut spec = object["spec"].clone();
        match object["kind"].as_str().unwrap() {
            "StatefulSet" => {
                for field in [
                    "replicas",
                    "template",
                    "updateStrategy",
                    "revisionHistoryLimit",
                ] {
                    spec.as_object_mut().unwrap().remove(field);
                }
                spec
            }
            "Deployment" => spec["selector"].take(),
            "Job" => spec["template"].take(),
            "PersistentVolumeClaim" => spec,
            _ => Value::Null,
        }
    };
    for overlay in overlays() {
        let folder = tempfile::tempdir_in(root().join("target")).unwrap();
        let text = format!("resources: [../../k8s/overlays/{overlay}]\n{next}");
        fs::write(folder.path().join("kustomization.yaml"), text).unwrap();
        let text = kustomize(folder.path());
        assert!(text.contains("version: next"), "{overlay}");
        for object in parse(&text) {
            let mut before = everything()[&format!("overlay {overlay}")].iter();
            let before = before.find(|before| full_name(before) == full_name(&object));
            assert_eq!(
                before.map(fixed),
                Some(fixed(&object)),
                "{overlay}: {}",
                full_name(&object)
            );
        }
    }
}
