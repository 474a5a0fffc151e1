//! The chart: the same system as the manifests, and no values that make nonsense.

mod parity;

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

use e2e::skip;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::pod::Pod;
use crate::rendered::{Objects, available, full_name};
use crate::tools::python;
use crate::{agreement, conventions, security, timing};

/// What the file of cases holds; it says what each is.
#[derive(Deserialize)]
struct Cases {
    same: BTreeMap<String, Value>,
    others: BTreeMap<String, Other>,
    bad: Vec<Bad>,
    with_numbers: Vec<WithNumbers>,
}

#[derive(Deserialize)]
struct Other {
    values: Value,
    #[serde(default)]
    has: Vec<String>,
    #[serde(default)]
    has_not: Vec<String>,
}

#[derive(Deserialize)]
struct Bad {
    values: Value,
    error: String,
}

#[derive(Debug, Deserialize)]
struct WithNumbers {
    running: Option<Value>,
    #[serde(default)]
    external: bool,
    claim: Option<String>,
    store: String,
    #[serde(default)]
    floor: u64,
    error: Option<String>,
}

fn cases() -> Cases {
    let file = crate::root().join("tests/kubernetes/helm-cases.yaml");
    serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// What an installation with each of the good values did.
fn installed() -> &'static BTreeMap<String, Value> {
    static INSTALLED: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let Cases { same, others, .. } = cases();
        let others = others.into_iter().map(|(name, other)| (name, other.values));
        install(&same.into_iter().chain(others).collect())
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
    skip::unless(available().and_then(|()| skip::python_tools().map(drop)))
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
    for (name, Other { has, has_not, .. }) in cases().others {
        let text = Value::from(objects(&name)).to_string();
        for words in has {
            assert!(text.contains(&words), "{name}: {words}");
        }
        for words in has_not {
            assert!(!text.contains(&words), "{name}: {words}");
        }
    }
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
    let bad = cases().bad;
    let numbered = bad.iter().enumerate();
    let numbered = numbered.map(|(index, Bad { values, .. })| (index.to_string(), values.clone()));
    let results = install(&numbered.collect());
    for (index, Bad { values, error }) in bad.iter().enumerate() {
        let said = &results[&index.to_string()]["error"];
        let said = said.as_str().unwrap_or_default();
        assert!(said.contains(error), "{values}: {said}");
    }
}

#[test]
fn another_store_is_refused_where_numbers_would_be_repeated() {
    if cannot_run() {
        return;
    }
    let cases = cases().with_numbers;
    let numbered = cases.iter().enumerate();
    let numbered = numbered.map(|(index, case)| (index.to_string(), case.to_values()));
    let results = install(&numbered.collect());
    for (index, case) in cases.iter().enumerate() {
        let said = results[&index.to_string()]["error"].as_str();
        let as_expected = match &case.error {
            Some(error) => said.is_some_and(|said| said.contains(error)),
            None => said.is_none(),
        };
        assert!(as_expected, "{case:?}: {said:?}");
    }
}

impl WithNumbers {
    /// The values to install with, and what the cluster has.
    fn to_values(&self) -> Value {
        let settings = json!({ "SEQUENCE_FLOOR": self.floor });
        let mut case = vec![match &*self.store {
            "external" => json!({ "store": "external",
                "externalStore": { "settings": { "STORE": "redis", "REDIS_HOST": "b" } } }),
            store => json!({ "store": store, "persistenceServer": { "settings": settings } }),
        }];
        if let Some(data) = &self.running {
            let store = match self.external {
                true => json!("external"),
                false => data["STORE"].clone(),
            };
            let metadata = json!({ "name": "persistence-server" });
            case.push(json!({ "kind": "ConfigMap", "metadata": metadata, "data": data }));
            let selector = json!({ "store": store });
            case.push(json!({ "kind": "Service", "metadata": metadata,
                "spec": { "selector": selector } }));
        }
        if let Some(of) = &self.claim {
            let metadata = json!({ "name": format!("data-{of}-0") });
            case.push(json!({ "kind": "PersistentVolumeClaim", "metadata": metadata }));
        }
        Value::from(case)
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
