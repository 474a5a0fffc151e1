//! The manifests and the programs agree: settings, ports and paths.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use e2e::service::{Service, run_to_end};
use e2e::{http, skip};
use serde_json::Value;

use crate::conventions::selects;
use crate::pod::{Pod, each};
use crate::rendered::{Objects, available, everything, of_kind};

const LIMIT: Duration = Duration::from_secs(20);

/// The binary that runs in a pod of ours.
pub(crate) fn binary(pod: Pod<'_>) -> Option<String> {
    let ours = ["hello-server", "hash-server", "persistence-server"].contains(&pod.name());
    ours.then(|| pod.name().replace('-', "_"))
}

/// The settings that a program knows, each with its default.
pub(crate) fn known_settings(binary: &str) -> BTreeMap<String, String> {
    static KNOWN: Mutex<BTreeMap<String, BTreeMap<String, String>>> = Mutex::new(BTreeMap::new());
    let mut cache = KNOWN.lock().unwrap();
    let known = cache.entry(binary.to_owned());
    known.or_insert_with(|| ask_for_settings(binary)).clone()
}

fn ask_for_settings(binary: &str) -> BTreeMap<String, String> {
    let help = run_to_end(binary, &[], &["--help"], LIMIT).stdout;
    let lines = help
        .lines()
        .filter_map(|line| line.trim().split_once(" (default: "));
    let known = lines.flat_map(|(names, default)| {
        let default = default.trim_end_matches(')').to_owned();
        let names = names
            .split([' ', ','])
            .filter(|name| name.contains(|c: char| c.is_ascii_uppercase()));
        names.map(move |name| (name.to_owned(), default.clone()))
    });
    known.collect()
}

#[test]
fn every_setting_is_known_to_the_program_and_its_value_is_accepted() {
    if skip::unless(available()) {
        return;
    }
    let mut started = Vec::new();
    each(|name, pod, objects| {
        let Some(binary) = binary(pod) else {
            return;
        };
        known(name, pod, objects);
        let environment = pod.environment(objects);
        // Each different environment is tried once.
        if !started.contains(&environment) {
            accepts(&binary, &environment);
            started.push(environment);
        }
    });
    assert!(started.len() >= 7, "{}", started.len());
}

/// The program knows all settings of its pod.
#[track_caller]
pub(crate) fn known(what: &str, pod: Pod<'_>, objects: &Objects) {
    if let Some(binary) = binary(pod) {
        let known = known_settings(&binary);
        for (variable, _) in pod.environment(objects) {
            assert!(
                known.contains_key(&variable),
                "{what}: {binary} knows no {variable}"
            );
        }
    }
}

/// Starts the program with these settings, and what a pod gives it besides.
#[track_caller]
fn accepts(binary: &str, environment: &[(String, String)]) {
    let data = tempfile::tempdir().unwrap();
    let password = data.path().join("password");
    std::fs::write(&password, "sample").unwrap();
    let mut service = Service::builder(binary);
    for (name, value) in environment {
        service = match name.as_str() {
            "DATA_DIR" => service.env(name, data.path()),
            name if name.ends_with("_FILE") => service.env(name, &password),
            _ => service.env(name, value),
        };
    }
    let service = service.env("DRAIN_SECONDS", "0").start();
    assert_eq!(
        http::get(service.admin_addr(), "/livez").unwrap().status,
        200
    );
}

#[test]
fn ports_are_those_of_the_program_everywhere() {
    each(|name, pod, objects| {
        let Some(binary) = binary(pod) else {
            return;
        };
        let known = known_settings(&binary);
        let [public, admin] =
            ["PORT", "ADMIN_PORT"].map(|name| known[name].parse::<u64>().unwrap());
        let of_container = ports(&pod.containers()[0]["ports"], "containerPort");
        assert_eq!(of_container, [("http", public), ("admin", admin)], "{name}");
        let services = of_kind(objects, "Service");
        let mine = services.filter(|service| selects(&service["spec"]["selector"], pod));
        for service in mine {
            for (port, number) in ports(&service["spec"]["ports"], "port") {
                assert!(
                    of_container.contains(&(port, number)),
                    "{name}: {port} {number}"
                );
            }
            for port in service["spec"]["ports"].as_array().unwrap() {
                assert_eq!(port["name"], port["targetPort"], "{name}");
            }
        }
    });
}

fn ports<'a>(list: &'a Value, number: &str) -> Vec<(&'a str, u64)> {
    let list = list.as_array().into_iter().flatten();
    let port = |port: &'a Value| {
        (
            port["name"].as_str().unwrap(),
            port[number].as_u64().unwrap(),
        )
    };
    list.map(port).collect()
}

#[test]
fn everything_that_names_a_service_or_a_port_of_ours_names_one_that_is_there() {
    for (name, objects) in everything() {
        let numbers = |wanted: &str| -> Vec<u64> {
            let services = of_kind(objects, "Service").filter(|o| o["metadata"]["name"] == wanted);
            let ports = services.flat_map(|service| ports(&service["spec"]["ports"], "port"));
            ports.map(|(_, number)| number).collect()
        };
        let mut called = Vec::new();
        for pod in Pod::all(objects) {
            let environment: BTreeMap<_, _> = pod.environment(objects).into_iter().collect();
            for (host, port) in [
                ("PERSISTENCE_HOST", "PERSISTENCE_PORT"),
                ("REDIS_HOST", "REDIS_PORT"),
                ("PGHOST", "PGPORT"),
            ] {
                if let Some(host) = environment.get(host) {
                    called.push((host.clone(), environment[port].parse().unwrap()));
                }
            }
            let args = pod.containers()[0]["args"].as_array().into_iter().flatten();
            for url in args.filter_map(|arg| arg.as_str()?.strip_prefix("--url=http://")) {
                let (host, port) = url.split_once(':').unwrap();
                called.push((host.to_owned(), port.parse().unwrap()));
            }
            // Members have names of their own, in the headless Service.
            let endpoints = environment.get("ETCD_ENDPOINTS").map_or("", String::as_str);
            for url in endpoints.split(',').filter(|url| !url.is_empty()) {
                let (member, port) = url
                    .strip_prefix("http://")
                    .unwrap()
                    .split_once(':')
                    .unwrap();
                let (member, service) = member.split_once('.').unwrap();
                let replicas = of_kind(objects, "StatefulSet")
                    .find(|o| o["metadata"]["name"] == "etcd")
                    .unwrap()["spec"]["replicas"]
                    .as_u64()
                    .unwrap();
                let index: u64 = member.strip_prefix("etcd-").unwrap().parse().unwrap();
                assert!(index < replicas, "{name}: {member} of {replicas}");
                called.push((service.to_owned(), port.parse().unwrap()));
            }
        }
        for route in of_kind(objects, "HTTPRoute") {
            let backend = &route["spec"]["rules"][0]["backendRefs"][0];
            called.push((
                backend["name"].as_str().unwrap().to_owned(),
                backend["port"].as_u64().unwrap(),
            ));
        }
        for (host, port) in called {
            assert!(
                numbers(&host).contains(&port) || host.ends_with(".example.com"),
                "{name}: {host}:{port}"
            );
        }
        for ingress in of_kind(objects, "Ingress") {
            for rule in ingress["spec"]["rules"].as_array().unwrap() {
                let service = &rule["http"]["paths"][0]["backend"]["service"];
                assert_eq!(service["port"]["name"], "http", "{name}");
                assert!(
                    !numbers(service["name"].as_str().unwrap()).is_empty(),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn probes_are_distinct_and_ask_what_the_program_answers_on_its_admin_port() {
    if skip::unless(available()) {
        return;
    }
    let mut paths = Vec::new();
    each(|name, pod, _| {
        for container in pod.containers() {
            if pod.owner["kind"] == "Job" {
                continue;
            }
            let probes =
                ["startupProbe", "livenessProbe", "readinessProbe"].map(|probe| &container[probe]);
            assert!(probes.iter().all(|probe| probe.is_object()), "{name}");
            assert!(
                probes[0] != probes[1] && probes[1] != probes[2] && probes[0] != probes[2],
                "{name}"
            );
            if binary(pod).is_none() {
                continue;
            }
            for (probe, path) in probes.iter().zip(["/livez", "/livez", "/readyz"]) {
                assert_eq!(probe["httpGet"]["port"], "admin", "{name}");
                // Liveness never asks a dependency, and neither does the start.
                assert_eq!(probe["httpGet"]["path"], path, "{name}");
                paths.push(path);
            }
        }
    });
    let service = Service::builder("hello_server").start();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let answer = http::get(service.admin_addr(), path).unwrap();
        assert_eq!(answer.status, 200, "{path}");
    }
}
