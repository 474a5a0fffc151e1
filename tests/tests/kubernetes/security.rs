//! Pod Security "restricted", and what we ask beyond it.
//!
//! Security contexts are compared as a whole: whatever is not expected here is refused, be it
//! among the rules of <https://kubernetes.io/docs/concepts/security/pod-security-standards> or not.

use serde_json::json;

use crate::pod::{Pod, each};
use crate::rendered::{everything, of_kind};

const VOLUMES: [&str; 4] = ["configMap", "emptyDir", "persistentVolumeClaim", "secret"];

#[test]
fn every_pod_is_restricted_and_hardened_beyond_that() {
    each(|name, pod, _| hardened(name, pod));
}

/// A pod has no more rights than it needs.
#[track_caller]
pub(crate) fn hardened(what: &str, pod: Pod<'_>) {
    let spec = pod.spec();
    assert_eq!(spec["automountServiceAccountToken"], false, "{what}");
    assert_eq!(spec["enableServiceLinks"], false, "{what}");
    let mut host = ["hostNetwork", "hostPID", "hostIPC", "hostUsers"].to_vec();
    host.retain(|field| !spec[*field].is_null());
    let expected: &[&str] = match pod.name() {
        // It stands where the node looks for it, and nowhere else: components/registry.
        "registry" => &["hostNetwork"],
        _ => &[],
    };
    assert_eq!(host, expected, "{what}");

    let mut context = spec["securityContext"].clone();
    let fields = context.as_object_mut().expect("a security context");
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        let id = fields.remove(field);
        assert_ne!(id, Some(json!(0)), "{what}: {field}");
        assert!(id.is_some() || field == "fsGroup", "{what}: {field}");
    }
    fields.remove("fsGroupChangePolicy");
    let of_pod = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    assert_eq!(context, of_pod, "{what}");
    for container in pod.containers() {
        let of_container = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        });
        assert_eq!(container["securityContext"], of_container, "{what}");
        // Neither a port of the node, nor a probe that asks another host.
        let text = container.to_string();
        let elsewhere = text.contains("\"hostPort\":") || text.contains("\"host\":");
        assert!(!elsewhere, "{what}: {text}");
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let kinds = volume.as_object().into_iter().flatten();
        for (kind, _) in kinds.filter(|(kind, _)| *kind != "name") {
            assert!(VOLUMES.contains(&kind.as_str()), "{what}: {kind}");
        }
    }
}

#[test]
fn the_namespace_has_it_enforced_for_all_but_the_registry() {
    for (name, objects) in everything() {
        let namespace = of_kind(objects, "Namespace").next().unwrap();
        let expected = match name.as_str() {
            "overlay registry" => "privileged",
            _ => "restricted",
        };
        let label = "pod-security.kubernetes.io/enforce";
        assert_eq!(namespace["metadata"]["labels"][label], expected, "{name}");
    }
}
