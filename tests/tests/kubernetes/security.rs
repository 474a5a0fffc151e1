//! Pod Security "restricted", and what we ask beyond it.
//!
//! The rules are those of <https://kubernetes.io/docs/concepts/security/pod-security-standards>,
//! for Linux pods.

use e2e::skip;
use serde_json::{Value, json};

use crate::pod::{Pod, each};
use crate::rendered::{available, everything, of_kind};

/// The volumes that restricted pods may have.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The sysctls that are safe.
const SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];

/// What the admission of "restricted" would refuse.
pub(crate) fn refusals(pod: Pod<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let spec = pod.spec();
    let of_pod = &spec["securityContext"];
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        refuse(&mut found, field, spec[field] == true);
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let kinds = volume
            .as_object()
            .into_iter()
            .flat_map(|fields| fields.keys());
        for kind in kinds.filter(|key| *key != "name") {
            refuse(&mut found, "volumes", !VOLUMES.contains(&kind.as_str()));
        }
    }
    for sysctl in of_pod["sysctls"].as_array().into_iter().flatten() {
        let name = sysctl["name"].as_str().unwrap_or_default();
        refuse(&mut found, "sysctls", !SYSCTLS.contains(&name));
    }
    for container in pod.containers() {
        let own = &container["securityContext"];
        // What a container does not say, the pod may say for it.
        let effective = |field: &str| match &own[field] {
            Value::Null => &of_pod[field],
            value => value,
        };
        let capabilities = &own["capabilities"];
        let drops_all = capabilities["drop"] == json!(["ALL"]);
        let adds = capabilities["add"].as_array().into_iter().flatten();
        let adds_more = adds.filter(|name| *name != "NET_BIND_SERVICE").count() > 0;
        let profile = effective("seccompProfile")["type"]
            .as_str()
            .unwrap_or_default();
        let sealed = ["RuntimeDefault", "Localhost"].contains(&profile);
        let ports = container["ports"].as_array().into_iter().flatten();
        let takes_host_port = ports.filter(|port| !port["hostPort"].is_null()).count() > 0;
        for (rule, broken) in [
            ("privileged", own["privileged"] == true),
            ("escalation", own["allowPrivilegeEscalation"] != false),
            ("capabilities", !drops_all || adds_more),
            ("runAsNonRoot", effective("runAsNonRoot") != true),
            ("runAsUser", effective("runAsUser") == 0),
            ("seccompProfile", !sealed),
            ("procMount", !own["procMount"].is_null()),
            ("hostPort", takes_host_port),
            ("probe's host", asks_elsewhere(container)),
        ] {
            refuse(&mut found, rule, broken);
        }
        for field in ["seLinuxOptions", "appArmorProfile", "windowsOptions"] {
            refuse(&mut found, field, !effective(field).is_null());
        }
    }
    found
}

fn refuse(found: &mut Vec<String>, rule: &str, broken: bool) {
    if broken {
        found.push(rule.to_owned());
    }
}

/// Whether the kubelet would be sent to another host than the pod (forbidden since 1.34).
fn asks_elsewhere(container: &Value) -> bool {
    let probes = ["startupProbe", "livenessProbe", "readinessProbe"];
    let hooks = ["postStart", "preStop"];
    let probes = probes.iter().map(|name| &container[*name]);
    let hooks = hooks.iter().map(|name| &container["lifecycle"][*name]);
    probes.chain(hooks).any(|handler| {
        ["httpGet", "tcpSocket"]
            .iter()
            .any(|kind| !handler[*kind]["host"].is_null())
    })
}

#[test]
fn every_pod_is_restricted() {
    if skip::unless(available()) {
        return;
    }
    each(|name, pod, _| {
        let expected: &[&str] = match pod.name() {
            // It stands where the node looks for it, and nowhere else: components/registry.
            "registry" => &["hostNetwork"],
            _ => &[],
        };
        assert_eq!(refusals(pod), expected, "{name}");
    });
}

#[test]
fn the_namespace_has_it_enforced_for_all_but_the_registry() {
    if skip::unless(available()) {
        return;
    }
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

#[test]
fn every_pod_is_hardened_beyond_that() {
    if skip::unless(available()) {
        return;
    }
    each(|name, pod, _| hardened(name, pod));
}

/// What we ask beyond "restricted".
#[track_caller]
pub(crate) fn hardened(name: &str, pod: Pod<'_>) {
    let spec = pod.spec();
    assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
    assert_eq!(spec["enableServiceLinks"], false, "{name}");
    for field in ["runAsUser", "runAsGroup"] {
        let id = spec["securityContext"][field].as_u64();
        assert!(id.is_some_and(|id| id > 0), "{name}: {field} is {id:?}");
    }
    for container in pod.containers() {
        let root = &container["securityContext"]["readOnlyRootFilesystem"];
        assert_eq!(root, true, "{name}");
    }
}

/// A pod that keeps all rules, for the tests that break one.
fn good() -> Value {
    json!({ "kind": "Pod", "spec": {
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{ "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }] } })
}

#[test]
fn each_rule_is_noticed_when_it_is_broken() {
    let objects = [good()];
    assert!(refusals(Pod::all(&objects)[0]).is_empty());
    for (path, field, value, rule) in [
        ("/spec", "hostPID", json!(true), "hostPID"),
        (
            "/spec",
            "volumes",
            json!([{ "name": "x", "hostPath": {} }]),
            "volumes",
        ),
        (
            "/spec/securityContext",
            "runAsNonRoot",
            json!(false),
            "runAsNonRoot",
        ),
        ("/spec/securityContext", "runAsUser", json!(0), "runAsUser"),
        (
            "/spec/securityContext",
            "sysctls",
            json!([{ "name": "kernel.msgmax" }]),
            "sysctls",
        ),
        (
            "/spec/securityContext",
            "seccompProfile",
            json!({}),
            "seccompProfile",
        ),
        (
            "/spec/containers/0",
            "ports",
            json!([{ "hostPort": 80 }]),
            "hostPort",
        ),
        (
            "/spec/containers/0",
            "livenessProbe",
            json!({ "httpGet": { "host": "a" } }),
            "probe's host",
        ),
        (
            "/spec/containers/0/securityContext",
            "privileged",
            json!(true),
            "privileged",
        ),
        (
            "/spec/containers/0/securityContext",
            "allowPrivilegeEscalation",
            json!(null),
            "escalation",
        ),
        (
            "/spec/containers/0/securityContext",
            "capabilities",
            json!({ "drop": ["KILL"] }),
            "capabilities",
        ),
        (
            "/spec/containers/0/securityContext",
            "procMount",
            json!("Unmasked"),
            "procMount",
        ),
    ] {
        let mut pod = good();
        pod.pointer_mut(path).unwrap()[field] = value;
        assert_eq!(refusals(Pod::all(&[pod])[0]), [rule], "{rule}");
    }
}
