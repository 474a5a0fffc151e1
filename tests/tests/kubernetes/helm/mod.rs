//! The chart: the same system as the manifests, and no values that make nonsense.

mod cases;
mod parity;

use std::collections::BTreeMap;
use std::slice;
use std::sync::OnceLock;

use e2e::skip;
use serde_json::{Map, Value, json};

use crate::pod::Pod;
use crate::rendered::{Objects, available, full_name};
use crate::tools::{self, python};
use crate::{agreement, conventions, security, timing};

/// What an installation with each of these values did.
fn installed() -> &'static BTreeMap<String, Value> {
    static INSTALLED: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let cases: Map<String, Value> = cases::same()
            .into_iter()
            .chain(cases::others())
            .map(|(name, values)| (name.to_owned(), values))
            .collect();
        install(&cases)
    })
}

/// Installs with the values of each case, or with the first of a list, whose others are objects
/// that the cluster has already.
fn install(cases: &Map<String, Value>) -> BTreeMap<String, Value> {
    let lists = cases.iter().map(|(name, case)| match case {
        Value::Array(_) => (name.clone(), case.clone()),
        values => (name.clone(), json!([values])),
    });
    let lists: Map<String, Value> = lists.collect();
    let output = python("helm.py", &[], &Value::from(lists).to_string());
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
            timing::timely(&what, pod, &objects);
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
            "switches",
            vec![
                "\"ACCESS_LOG\":\"false\"",
                "\"ACCESS_LOG\":\"0\"",
                "\"REDIS_TLS\":\"true\"",
                "\"REDIS_REQUIRE_DURABLE\":\"Yes\"",
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
    let bad = cases::bad();
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
fn another_store_is_refused_where_numbers_would_be_repeated() {
    if cannot_run() {
        return;
    }
    let with_numbers = cases::with_numbers();
    let cases = with_numbers.iter().enumerate();
    let cases = cases.map(|(index, (existing, values, _))| {
        let case = [slice::from_ref(values), existing].concat();
        (index.to_string(), Value::from(case))
    });
    let results = install(&cases.collect());
    for (index, (existing, values, words)) in with_numbers.iter().enumerate() {
        let error = results[&index.to_string()]["error"].as_str();
        let as_expected = match words {
            Some(words) => error.is_some_and(|error| error.contains(words)),
            None => error.is_none(),
        };
        assert!(as_expected, "{existing:?} {values}: {error:?}");
    }
}

#[test]
fn an_autoscaler_for_a_running_deployment_keeps_its_pods() {
    if cannot_run() {
        return;
    }
    let values = json!({ "hashServer": { "autoscaling": { "enabled": true } } });
    let running = json!({ "kind": "Deployment", "metadata": { "name": "hash-server" },
        "spec": { "replicas": 4 } });
    let case = ("x".to_owned(), json!([values, running]));
    let result = &install(&Map::from_iter([case]))["x"];
    let mut objects = result["objects"].as_array().unwrap().iter();
    let deployment = objects.find(|object| full_name(object) == "Deployment/hash-server");
    assert_eq!(deployment.unwrap()["spec"]["replicas"], 4, "{result}");
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
