//! The pods that objects make.

use serde_json::Value;

use crate::rendered::{Objects, everything, full_name};

/// The template of a pod, and the object that holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod<'a> {
    pub(crate) owner: &'a Value,
    /// With `metadata` and `spec`.
    pub(crate) template: &'a Value,
}

impl<'a> Pod<'a> {
    /// The pods that these objects make.
    pub(crate) fn all(objects: &'a [Value]) -> Vec<Self> {
        let pods = objects.iter().filter_map(|owner| {
            let template = match owner["kind"].as_str() {
                Some("Pod") => owner,
                Some("CronJob") => &owner["spec"]["jobTemplate"]["spec"]["template"],
                _ => &owner["spec"]["template"],
            };
            template["spec"]["containers"]
                .is_array()
                .then_some(Self { owner, template })
        });
        pods.collect()
    }

    /// Its name, as in `app.kubernetes.io/name`.
    pub(crate) fn name(&self) -> &'a str {
        self.label("app.kubernetes.io/name")
    }

    /// A label of the pod; empty if it has none.
    pub(crate) fn label(&self, label: &str) -> &'a str {
        self.template["metadata"]["labels"][label]
            .as_str()
            .unwrap_or_default()
    }

    /// Its specification.
    pub(crate) fn spec(&self) -> &'a Value {
        &self.template["spec"]
    }

    /// All of its containers.
    pub(crate) fn containers(&self) -> Vec<&'a Value> {
        let kinds = ["initContainers", "containers", "ephemeralContainers"];
        let lists = kinds
            .iter()
            .filter_map(|kind| self.spec()[*kind].as_array());
        lists.flatten().collect()
    }

    /// What its one container reads from its environment, by name.
    pub(crate) fn environment(&self, objects: &Objects) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut variables = Vec::new();
        for container in self.containers() {
            for source in container["envFrom"].as_array().into_iter().flatten() {
                let name = &source["configMapRef"]["name"];
                let mut maps = objects.iter().filter(|o| o["kind"] == "ConfigMap");
                let map = maps.find(|map| map["metadata"]["name"] == *name);
                let map = map.unwrap_or_else(|| panic!("no ConfigMap {name}"));
                let data = map["data"].as_object().into_iter().flatten();
                variables.extend(data.map(|(name, value)| (name.clone(), text(value))));
            }
            for variable in container["env"].as_array().into_iter().flatten() {
                variables.push((text(&variable["name"]), text(&variable["value"])));
            }
        }
        variables
    }
}

/// Calls `look` with every pod of every combination, and words that say which it is.
pub(crate) fn each(mut look: impl FnMut(&str, Pod<'_>, &Objects)) {
    let mut count = 0;
    for (name, objects) in everything() {
        for pod in Pod::all(objects) {
            look(&format!("{name}: {}", full_name(pod.owner)), pod, objects);
            count += 1;
        }
    }
    assert!(count > 100 || everything().is_empty(), "{count}");
}
