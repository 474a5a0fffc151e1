//! The chart: the same system as the manifests, and no values that make nonsense.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use e2e::skip;
use serde_json::{Map, Value, json};

use crate::pod::Pod;
use crate::rendered::{Objects, available, everything, full_name};
use crate::tools::{self, python};
use crate::{agreement, conventions, security};

/// Each with the combination of components that is the same.
fn same() -> Vec<(&'static str, Value)> {
    let on = json!({ "enabled": true });
    let both = |value: Value| json!({ "helloServer": value, "hashServer": value });
    vec![
        ("file", json!({})),
        ("redis", json!({ "store": "redis" })),
        ("postgres", json!({ "store": "postgres" })),
        ("etcd", json!({ "store": "etcd" })),
        (
            "etcd-single",
            json!({ "store": "etcd", "etcd": { "members": 1 } }),
        ),
        ("file + autoscaling", both(json!({ "autoscaling": on }))),
        ("file + network-policy", json!({ "networkPolicies": on })),
        ("file + ingress", json!({ "ingress": on })),
        (
            "file + ingress + tls",
            json!({ "ingress": { "enabled": true, "tlsSecret": "microservices-tls" } }),
        ),
        ("file + gateway", json!({ "gateway": on })),
        ("file + monitoring", json!({ "monitoring": on })),
        ("file + checker", json!({})),
    ]
}

/// Others, each of which turns some knobs.
fn others() -> Vec<(&'static str, Value)> {
    vec![
        (
            "images of a registry",
            json!({ "images": { "registry": "localhost:5000", "tag": "0.2.0", "pullSecrets": ["login"] } }),
        ),
        (
            "an image of its own",
            json!({ "hashServer": { "image": "localhost:5000/me/hash:1" },
                "checker": { "image": "checker:2" } }),
        ),
        (
            "labels and annotations",
            json!({ "commonLabels": { "team": "a" }, "podAnnotations": { "note": "b" } }),
        ),
        (
            "no budgets",
            json!({ "podDisruptionBudgets": { "enabled": false } }),
        ),
        (
            "an external store",
            json!({ "store": "external", "externalStore": { "existingSecret": "login", "settings": {
                "STORE": "postgres", "PGHOST": "db.example.com", "PGSSLMODE": "require",
                "PGPASSWORD_FILE": "/run/secrets/store/password" } } }),
        ),
        (
            "a Secret and a class of storage of one's own",
            json!({ "store": "redis", "redis": { "existingSecret": "mine",
                "storage": { "size": "1Gi", "className": "fast" } } }),
        ),
        (
            "settings",
            json!({ "helloServer": { "settings": { "MESSAGE": "1e6: yes", "DRAIN_SECONDS": 0 } },
                "persistenceServer": { "settings": { "SEQUENCE_FLOOR": 9007199254740991_u64,
                "DRAIN_SECONDS": 1, "SEQUENCE": "orders" } } }),
        ),
        (
            "everything at once",
            json!({ "store": "etcd", "networkPolicies": { "enabled": true },
                "helloServer": { "replicas": 3, "autoscaling": { "enabled": true } },
                "ingress": { "enabled": true, "className": "nginx", "annotations": { "a": "b" },
                    "hosts": { "hello": "a.example.org", "hash": "b.example.org" } },
                "gateway": { "enabled": true, "parentRefs": [{ "name": "g", "namespace": "infra" }] },
                "monitoring": { "enabled": true, "labels": { "release": "prometheus" } } }),
        ),
    ]
}

/// What an installation with each of these values did.
fn installed() -> &'static BTreeMap<String, Value> {
    static INSTALLED: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let cases: Map<String, Value> = same()
            .into_iter()
            .chain(others())
            .map(|(name, values)| (name.to_owned(), values))
            .collect();
        install(&cases)
    })
}

fn install(cases: &Map<String, Value>) -> BTreeMap<String, Value> {
    let output = python("helm.py", &[], &Value::from(cases.clone()).to_string());
    serde_json::from_str(&output).unwrap()
}

/// The objects of one installation; the checker, which is a hook, among them.
fn objects(name: &str) -> Objects {
    let result = &installed()[name];
    assert!(result["error"].is_null(), "{name}: {}", result["error"]);
    let lists = ["objects", "hooks"].map(|list| result[list].as_array().unwrap().clone());
    lists.concat()
}

fn cannot_run() -> bool {
    skip::unless(available().and_then(|()| tools::available()))
}

#[test]
fn the_chart_makes_the_same_objects_as_the_manifests() {
    if cannot_run() {
        return;
    }
    for (name, _) in same() {
        let mut chart = comparable(&objects(name));
        let mut manifests = comparable(&everything()[name]);
        // Helm makes no namespace, and always has the test.
        manifests.remove("Namespace/mine");
        if !manifests.contains_key("Job/checker") {
            chart.remove("Job/checker");
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

#[test]
fn every_variant_of_the_chart_keeps_to_the_rules_for_pods() {
    if cannot_run() {
        return;
    }
    for name in installed().keys() {
        let objects = objects(name);
        for pod in Pod::all(&objects) {
            let what = format!("{name}: {}", full_name(pod.owner));
            assert!(security::refusals(pod).is_empty(), "{what}");
            security::hardened(&what, pod);
            agreement::known(&what, pod, &objects);
            agreement::timely(&what, pod, &objects);
            conventions::labelled(&what, pod);
        }
    }
}

#[test]
fn values_reach_the_objects() {
    if cannot_run() {
        return;
    }
    let text = |name: &str| Value::from(objects(name)).to_string();
    for (name, words) in [
        (
            "images of a registry",
            vec![
                "\"localhost:5000/hash_server:0.2.0\"",
                "\"imagePullSecrets\":[{\"name\":\"login\"}]",
            ],
        ),
        (
            "an image of its own",
            vec![
                "\"localhost:5000/me/hash:1\"",
                "\"checker:2\"",
                "\"hello_server:0.1.0\"",
            ],
        ),
        (
            "labels and annotations",
            vec!["\"team\":\"a\"", "\"note\":\"b\""],
        ),
        (
            "an external store",
            vec![
                "\"STORE\":\"postgres\"",
                "\"PGHOST\":\"db.example.com\"",
                "\"secretName\":\"login\"",
            ],
        ),
        (
            "a Secret and a class of storage of one's own",
            vec!["\"secretName\":\"mine\"", "\"storageClassName\":\"fast\""],
        ),
        (
            "settings",
            vec![
                "\"MESSAGE\":\"1e6: yes\"",
                "\"SEQUENCE_FLOOR\":\"9007199254740991\"",
                "\"terminationGracePeriodSeconds\":25",
            ],
        ),
        (
            "everything at once",
            vec![
                "\"ingressClassName\":\"nginx\"",
                "\"a.example.org\"",
                "\"release\":\"prometheus\"",
            ],
        ),
    ] {
        for word in words {
            assert!(text(name).contains(word), "{name}: {word}");
        }
    }
    assert!(!text("no budgets").contains("PodDisruptionBudget"));
    assert!(!text("a Secret and a class of storage of one's own").contains("\"kind\":\"Secret\""));
}

#[test]
fn a_password_is_made_up_and_is_another_one_each_time() {
    if cannot_run() {
        return;
    }
    let password = |objects: Objects| {
        let mut secrets = objects
            .into_iter()
            .filter(|object| object["kind"] == "Secret");
        secrets.next().unwrap()["data"]["password"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let [redis, postgres] = ["redis", "postgres"].map(|store| password(objects(store)));
    assert!(redis.len() > 40, "32 characters, in base64");
    assert_ne!(redis, postgres);
}

#[test]
fn another_setting_of_the_chart_makes_new_pods() {
    if cannot_run() {
        return;
    }
    let templates = |name: &str| -> Vec<Value> {
        let objects = objects(name);
        let mut pods = Pod::all(&objects);
        pods.retain(|pod| pod.name() == "hello-server");
        pods.into_iter()
            .map(|pod| pod.template["metadata"]["annotations"].clone())
            .collect()
    };
    assert_eq!(templates("file"), templates("redis"));
    assert_ne!(templates("file"), templates("settings"));
}

#[test]
fn values_that_make_no_sense_are_refused_in_words_that_help() {
    if cannot_run() {
        return;
    }
    let bad = [
        (
            json!({ "store": "mongo" }),
            "'/store': value must be one of 'file', 'redis'",
        ),
        (
            json!({ "stroe": "redis" }),
            "additional properties 'stroe' not allowed",
        ),
        (
            json!({ "hashServer": { "replicas": -1 } }),
            "'/hashServer/replicas': minimum: got -1, want 1",
        ),
        (
            json!({ "helloServer": { "replicas": "two" } }),
            "'/helloServer/replicas': got string, want integer",
        ),
        (
            json!({ "helloServer": { "settings": { "MESAGE": "x" } } }),
            "'/helloServer/settings': additional properties 'MESAGE' not allowed",
        ),
        (
            json!({ "hashServer": { "settings": { "ACCESS_LOG": "yes" } } }),
            "'/hashServer/settings/ACCESS_LOG': value must be one of 'on', 'off'",
        ),
        (
            json!({ "hashServer": { "settings": { "PORT": 80 } } }),
            "additional properties 'PORT' not allowed",
        ),
        (
            json!({ "etcd": { "members": 2 } }),
            "'/etcd/members': value must be one of 1, 3",
        ),
        (
            json!({ "images": { "tag": "latest" } }),
            "images.tag is latest",
        ),
        (
            json!({ "images": { "pullPolicy": "Sometimes" } }),
            "'/images/pullPolicy': value must be one of",
        ),
        (
            json!({ "redis": { "image": "redis" } }),
            "'/redis/image': 'redis' does not match pattern",
        ),
        (
            json!({ "redis": { "image": "redis:latest" } }),
            "redis.image ends in :latest",
        ),
        (
            json!({ "store": "external" }),
            "externalStore.settings must say which one in STORE",
        ),
        (
            json!({ "externalStore": { "settings": { "PGPASSWORD": "x" } } }),
            "additional properties 'PGPASSWORD' not allowed",
        ),
        (
            json!({ "hashServer": { "settings": { "REQUEST_TIMEOUT_MS": 60000 } } }),
            "requests would be cut off when a pod stops",
        ),
        (
            json!({ "hashServer": { "autoscaling": { "minReplicas": 9 } } }),
            "minReplicas (9) is more than maxReplicas (5)",
        ),
        (
            json!({ "commonLabels": { "app.kubernetes.io/name": "x" } }),
            "the chart sets it itself",
        ),
        (
            json!({ "ingress": { "hosts": { "hello": "Not A Host" } } }),
            "'/ingress/hosts/hello'",
        ),
        (
            json!({ "hashServer": { "resources": { "limits": { "memory": "lots" } } } }),
            "'/hashServer/resources/limits/memory': 'lots' does not match",
        ),
    ];
    let cases = bad.iter().enumerate();
    let cases = cases
        .map(|(index, (values, _))| (index.to_string(), values.clone()))
        .collect();
    let results = install(&cases);
    for (index, (values, words)) in bad.iter().enumerate() {
        let error = results[&index.to_string()]["error"]
            .as_str()
            .unwrap_or_default();
        assert!(error.contains(words), "{values}: {error}");
    }
}

#[test]
fn helm_lint_finds_nothing() {
    if cannot_run() {
        return;
    }
    let result: Value = serde_json::from_str(&python("helm.py", &["lint"], "")).unwrap();
    assert_eq!(result["TotalChartsLinted"], 1);
    // 1 is a hint (a chart without an icon), 2 a warning, 3 an error.
    for message in result["Messages"].as_array().unwrap() {
        assert_eq!(message["Severity"], 1, "{result}");
    }
    assert!(result["Errors"].is_null(), "{result}");
}

#[test]
fn the_settings_of_the_chart_are_those_that_the_programs_know() {
    let text = std::fs::read_to_string(crate::root().join("helm/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    for (values, binary) in [
        ("helloServer", "hello_server"),
        ("hashServer", "hash_server"),
        ("persistenceServer", "persistence_server"),
        ("externalStore", "persistence_server"),
    ] {
        let path = format!("/properties/{values}/properties/settings/properties");
        let allowed = schema.pointer(&path).unwrap().as_object().unwrap();
        let known = agreement::known_settings(binary);
        for name in allowed.keys() {
            assert!(known.contains_key(name), "{binary} knows no {name}");
        }
        // Every one can be set somewhere, but for those that the chart itself decides.
        let decided = [
            "HOST",
            "PORT",
            "PERSISTENCE",
            "STORE",
            "DATA_DIR",
            "PG",
            "REDIS",
            "ETCD",
            "SEQUENCE",
        ];
        for name in known.keys().filter(|_| values != "externalStore") {
            let is_decided = decided.iter().any(|part| name.contains(part));
            assert!(is_decided || allowed.contains_key(name), "{values}: {name}");
        }
    }
}

#[test]
fn the_notes_show_commands_that_fit_the_values() {
    if cannot_run() {
        return;
    }
    let notes = |name: &str| installed()[name]["notes"].as_str().unwrap().to_owned();
    assert!(notes("file").contains("curl localhost:8082"));
    assert!(notes("file").contains("app.kubernetes.io/name=persistence-server"));
    assert!(notes("redis").contains("app.kubernetes.io/name=redis"));
    assert!(notes("file + ingress + tls").contains("https://hash.example.com"));
}
