//! What we ask of every object.

use std::collections::BTreeSet;

use e2e::skip;
use serde_json::Value;

use crate::pod::{Pod, each};
use crate::rendered::{Objects, available, everything, full_name, kustomize, of_kind, parse};
use crate::root;

const OURS: [&str; 3] = ["hello-server", "hash-server", "persistence-server"];

/// The images there are. Another tag is a decision, to be taken in more than one place.
const IMAGES: [&str; 8] = [
    "hello_server:0.1.0",
    "hash_server:0.1.0",
    "persistence_server:0.1.0",
    "checker:0.1.0",
    "redis:7.4.11-bookworm",
    "postgres:17.11-bookworm",
    "gcr.io/etcd-development/etcd:v3.6.7",
    "registry:2.8.3",
];

#[test]
fn images_have_a_fixed_tag_and_are_pulled_only_where_they_are_missing() {
    each(|name, pod, _| {
        for container in pod.containers() {
            let image = container["image"].as_str().unwrap();
            assert!(IMAGES.contains(&image), "{name}: {image}");
            assert_eq!(container["imagePullPolicy"], "IfNotPresent", "{name}");
        }
    });
}

#[test]
fn versions_are_that_of_the_workspace() {
    let version = env!("CARGO_PKG_VERSION");
    each(|name, pod, _| {
        let image = pod.containers()[0]["image"].as_str().unwrap();
        if OURS.contains(&pod.name()) || pod.name() == "checker" {
            let own = format!("{}:{version}", pod.name().replace('-', "_"));
            assert_eq!(image, own, "{name}");
            assert_eq!(pod.label("app.kubernetes.io/version"), version, "{name}");
        } else {
            let (_, tag) = image.rsplit_once(':').unwrap();
            let label = pod.label("app.kubernetes.io/version");
            assert!(!label.is_empty() && tag.contains(label), "{name}: {label}");
        }
    });
}

#[test]
fn every_object_has_the_recommended_labels() {
    for (name, objects) in everything() {
        for object in objects {
            for label in ["part-of", "managed-by"] {
                let value = &object["metadata"]["labels"][format!("app.kubernetes.io/{label}")];
                assert!(value.is_string(), "{name}: {} {label}", full_name(object));
            }
        }
        for pod in Pod::all(objects) {
            labelled(&format!("{name}: {}", full_name(pod.owner)), pod);
        }
    }
}

/// A pod has the recommended labels.
#[track_caller]
pub(crate) fn labelled(what: &str, pod: Pod<'_>) {
    for label in ["name", "component", "version", "part-of"] {
        let value = pod.label(&format!("app.kubernetes.io/{label}"));
        assert_ne!(value, "", "{what} {label}");
    }
}

#[test]
fn every_container_has_requests_and_limits_and_the_default_is_small() {
    if skip::unless(available()) {
        return;
    }
    each(|name, pod, _| {
        for container in pod.containers() {
            let resources = &container["resources"];
            let memory = |kind: &str| mebibytes(&resources[kind]["memory"]);
            let cpu = |kind: &str| millicores(&resources[kind]["cpu"]);
            assert!(memory("requests") <= memory("limits"), "{name}");
            assert!(cpu("requests") <= cpu("limits"), "{name}");
        }
    });
    let (mut cpu, mut memory) = (0, 0);
    for pod in Pod::all(&parse(&kustomize(&root().join("k8s")))) {
        let replicas = pod.owner["spec"]["replicas"].as_u64().unwrap();
        for container in pod.containers() {
            let requests = &container["resources"]["requests"];
            cpu += replicas * millicores(&requests["cpu"]);
            memory += replicas * mebibytes(&requests["memory"]);
        }
    }
    assert!(cpu > 0 && cpu <= 100, "{cpu}m");
    assert!(memory > 0 && memory <= 128, "{memory}Mi");
}

#[track_caller]
fn millicores(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap();
    match text.strip_suffix('m') {
        Some(number) => number.parse().unwrap(),
        None => text.parse::<u64>().unwrap() * 1000,
    }
}

#[track_caller]
fn mebibytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap();
    text.strip_suffix("Mi").unwrap().parse().unwrap()
}

#[test]
fn a_roll_takes_no_pod_away_before_its_successor_serves() {
    each(|name, pod, _| {
        if pod.owner["kind"] == "Deployment" && pod.name() != "registry" {
            let spec = &pod.owner["spec"];
            let rolling = &spec["strategy"]["rollingUpdate"];
            assert_eq!(rolling["maxUnavailable"], 0, "{name}");
            assert_eq!(rolling["maxSurge"], 1, "{name}");
            assert!(spec["minReadySeconds"].as_u64() >= Some(1), "{name}");
            let spread = &pod.spec()["topologySpreadConstraints"][0];
            assert_eq!(spread["whenUnsatisfiable"], "ScheduleAnyway", "{name}");
        }
    });
}

#[test]
fn persistence_server_writes_no_line_for_each_request() {
    each(|name, pod, objects| {
        let environment = pod.environment(objects);
        let access_log = environment.iter().find(|(name, _)| name == "ACCESS_LOG");
        let off = access_log.is_some_and(|(_, value)| value == "off");
        assert_eq!(off, pod.name() == "persistence-server", "{name}");
    });
}

#[test]
fn the_autoscaler_s_mark_can_be_reached_on_a_node_with_two_cpus() {
    if skip::unless(available()) {
        return;
    }
    let objects = &everything()["file + autoscaling"];
    let scalers: Vec<&Value> = of_kind(objects, "HorizontalPodAutoscaler").collect();
    assert_eq!(scalers.len(), 2);
    for scaler in scalers {
        let target = &scaler["spec"]["metrics"][0]["resource"]["target"];
        let mark = millicores(&target["averageValue"]);
        let pods = scaler["spec"]["maxReplicas"].as_u64().unwrap();
        // Half of the node for all the pods there can be, half for those who call them.
        assert!(mark * pods <= 1000, "{pods} pods of {mark}m");
    }
}

#[test]
fn numbers_outlive_the_pods_that_keep_them() {
    each(|name, pod, _| {
        if pod.owner["kind"] == "StatefulSet" {
            let retention = &pod.owner["spec"]["persistentVolumeClaimRetentionPolicy"];
            assert_eq!(retention["whenDeleted"], "Retain", "{name}");
            assert_eq!(retention["whenScaled"], "Retain", "{name}");
            let claim = &pod.owner["spec"]["volumeClaimTemplates"][0];
            // Both may never change: a label with a version in it would stop every upgrade.
            assert!(claim["metadata"]["labels"].is_null(), "{name}");
            assert!(claim["spec"]["storageClassName"].is_null(), "{name}");
        }
    });
}

#[test]
fn every_workload_has_a_disruption_budget_that_lets_a_node_be_drained() {
    each(|name, pod, objects| {
        if ["Job", "Pod"].contains(&pod.owner["kind"].as_str().unwrap()) || pod.name() == "registry"
        {
            return;
        }
        let mut budgets = of_kind(objects, "PodDisruptionBudget");
        let budget =
            budgets.find(|budget| selects(&budget["spec"]["selector"]["matchLabels"], pod));
        let budget = budget.unwrap_or_else(|| panic!("{name} has none"));
        assert_eq!(budget["spec"]["maxUnavailable"], 1, "{name}");
    });
}

#[test]
fn every_selector_selects_something() {
    for (name, objects) in everything() {
        let pods = Pod::all(objects);
        let found = |labels: &Value| pods.iter().any(|pod| selects(labels, *pod));
        for service in of_kind(objects, "Service") {
            assert!(
                found(&service["spec"]["selector"]),
                "{name}: {}",
                full_name(service)
            );
        }
        for budget in of_kind(objects, "PodDisruptionBudget") {
            let labels = &budget["spec"]["selector"]["matchLabels"];
            assert!(found(labels), "{name}: {}", full_name(budget));
        }
        for pod in &pods {
            let selector = &pod.owner["spec"]["selector"]["matchLabels"];
            assert!(selector.is_null() || selects(selector, *pod), "{name}");
        }
    }
}

/// The label that a `StatefulSet` gives to each of its pods.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";

/// Whether these labels are all on the pod, or on the first one of a `StatefulSet`.
pub(crate) fn selects(labels: &Value, pod: Pod<'_>) -> bool {
    let has = |(name, value): (&String, &Value)| match &**name {
        POD_NAME => pod.owner["kind"] == "StatefulSet" && *value == format!("{}-0", pod.name()),
        name => pod.label(name) == value,
    };
    let mut labels = labels.as_object().into_iter().flatten().peekable();
    labels.peek().is_some() && labels.all(has)
}

#[test]
fn a_second_pod_with_a_disk_of_its_own_gets_no_requests() {
    each(|name, pod, objects| {
        // The members of etcd are one store.
        if pod.owner["kind"] != "StatefulSet" || pod.name() == "etcd" {
            return;
        }
        let services = of_kind(objects, "Service");
        let mine: Vec<&Value> = services
            .map(|service| &service["spec"]["selector"])
            .filter(|selector| selects(selector, pod))
            .collect();
        assert!(!mine.is_empty(), "{name}");
        for selector in mine {
            assert!(!selector[POD_NAME].is_null(), "{name}: {selector}");
        }
    });
}

#[test]
fn every_reference_leads_to_an_object() {
    for (name, objects) in everything() {
        let named = |kind: &'static str| -> BTreeSet<&str> {
            let objects = of_kind(objects, kind);
            objects
                .filter_map(|o| o["metadata"]["name"].as_str())
                .collect()
        };
        for pod in Pod::all(objects) {
            for volume in pod.spec()["volumes"].as_array().into_iter().flatten() {
                let optional = volume["secret"]["optional"] == true;
                for (reference, kind) in [
                    (&volume["configMap"]["name"], "ConfigMap"),
                    (&volume["secret"]["secretName"], "Secret"),
                    (
                        &volume["persistentVolumeClaim"]["claimName"],
                        "PersistentVolumeClaim",
                    ),
                ] {
                    let leads = reference.as_str().is_none_or(|to| named(kind).contains(to));
                    assert!(leads || optional, "{name}: {reference}");
                }
            }
        }
        for scaler in of_kind(objects, "HorizontalPodAutoscaler") {
            let target = scaler["spec"]["scaleTargetRef"]["name"].as_str().unwrap();
            let mut deployments = of_kind(objects, "Deployment");
            let deployment = deployments
                .find(|o| o["metadata"]["name"] == target)
                .unwrap();
            // An apply would undo what the autoscaler has done.
            assert!(deployment["spec"]["replicas"].is_null(), "{name}: {target}");
        }
    }
}

#[test]
fn a_shared_store_means_replicas_and_the_embedded_one_means_one_pod() {
    for (name, objects) in everything()
        .iter()
        .filter(|(name, _)| !name.contains("registry"))
    {
        let persistence: Vec<Pod<'_>> = persistence(objects);
        assert_eq!(persistence.len(), 1, "{name}");
        let owner = persistence[0].owner;
        match persistence[0].label("store") {
            "file" => assert_eq!(
                (&owner["kind"], &owner["spec"]["replicas"]),
                (&"StatefulSet".into(), &1.into())
            ),
            _ => assert_eq!(
                (&owner["kind"], &owner["spec"]["replicas"]),
                (&"Deployment".into(), &2.into())
            ),
        }
        let service =
            of_kind(objects, "Service").find(|o| o["metadata"]["name"] == "persistence-server");
        let selector = &service.unwrap()["spec"]["selector"];
        assert!(selects(selector, persistence[0]), "{name}");
        // Never the pods that an earlier store has left.
        let decides = |label: &str| !selector[label].is_null();
        assert!(decides(POD_NAME) || decides("store"), "{name}: {selector}");
    }
}

fn persistence(objects: &Objects) -> Vec<Pod<'_>> {
    let mut pods = Pod::all(objects);
    pods.retain(|pod| pod.name() == "persistence-server");
    pods
}
