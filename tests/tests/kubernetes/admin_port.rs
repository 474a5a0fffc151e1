//! The admin port is open only to probes and to monitoring.

use std::fs;

use serde_json::{Value, json};

use crate::rendered::{everything, full_name, of_kind};
use crate::root;

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[test]
fn with_network_policies_only_monitoring_reaches_it() {
    let monitoring = json!([{ "namespaceSelector": {
        "matchLabels": { "kubernetes.io/metadata.name": "monitoring" }
    } }]);
    for (name, objects) in everything() {
        let mut opened = 0;
        for policy in of_kind(objects, "NetworkPolicy") {
            for rule in each(&policy["spec"]["ingress"]) {
                let ports: Vec<_> = each(&rule["ports"]).map(|port| &port["port"]).collect();
                // Without ports, or with numbers of them, it would be about others too.
                let named = ports.iter().all(|port| port.is_string());
                assert!(!ports.is_empty() && named, "{name}: {policy}");
                if ports.contains(&&json!("admin")) {
                    assert_eq!(rule["from"], monitoring, "{name}: {policy}");
                    opened += 1;
                }
            }
        }
        // A store brings a policy of its own, also where nothing else is denied.
        let denied = of_kind(objects, "NetworkPolicy")
            .any(|policy| policy["metadata"]["name"] == "default-deny");
        assert_eq!(opened, usize::from(denied), "{name}");
    }
}

#[test]
fn nothing_that_leads_into_the_cluster_leads_to_it() {
    let mut ways = 0;
    for (name, objects) in everything() {
        let services = of_kind(objects, "Service");
        let open = services.filter(|service| {
            !matches!(service["spec"]["type"].as_str(), None | Some("ClusterIP"))
        });
        let routes = ["Ingress", "HTTPRoute"].map(|kind| of_kind(objects, kind));
        for way in open.chain(routes.into_iter().flatten()) {
            let text = way["spec"].to_string();
            for admin in ["admin", "9080", "9081", "9082"] {
                assert!(!text.contains(admin), "{name}: {}", full_name(way));
            }
            ways += 1;
        }
    }
    assert!(everything().is_empty() || ways > 0);
}

#[test]
fn docker_publishes_it_to_this_machine_at_most() {
    let read = |file: &str| fs::read_to_string(root().join(file)).expect(file);
    // `docker run -P` publishes to every network what is exposed.
    let dockerfile = read("Dockerfile");
    let exposed = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("EXPOSE "));
    assert_eq!(exposed.collect::<Vec<_>>(), ["8081", "8082", "8080"]);

    let compose: Value = serde_saphyr::from_str(&read("docker-compose.yml")).expect("YAML");
    let services = compose["services"].as_object().expect("services");
    let published = services
        .values()
        .flat_map(|service| each(&service["ports"]));
    let mut admin: Vec<_> = published
        .filter_map(Value::as_str)
        .filter(|port| port.contains(":90"))
        .collect();
    assert_eq!(admin.len(), 3);
    admin.retain(|port| !port.starts_with("127.0.0.1:"));
    assert!(admin.is_empty(), "{admin:?}");
}
