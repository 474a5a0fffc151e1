//! What kustomize makes of the manifests, in every combination that makes sense.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use e2e::launch::Launch;
use e2e::skip::{self, Missing};
use serde_json::Value;

use crate::{LIMIT, root};

/// The stores, each with the components that bring it; the embedded one needs none.
const STORES: [(&str, &[&str]); 6] = [
    ("file", &[]),
    ("redis", &["redis"]),
    ("postgres", &["postgres"]),
    ("etcd", &["etcd"]),
    ("etcd-single", &["etcd", "etcd-single"]),
    // Its overlay says which store that is.
    (EXTERNAL, &[]),
];

const EXTERNAL: &str = "external-store";

/// What can be added to each of them, in any number.
const ADDITIONS: [&str; 9] = [
    "autoscaling",
    "network-policy",
    "ingress",
    "tls",
    "gateway",
    "monitoring",
    "scrape-annotations",
    "node-port",
    "checker",
];

/// The objects of one combination.
pub(crate) type Objects = Vec<Value>;

/// Whether there is a kustomize here.
pub(crate) fn available() -> Result<(), Missing> {
    let works = |program: &str, args: &[&str]| {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|folder| folder.join(program).is_file());
        found && {
            let launch = Launch::new(program).args(args.iter().copied());
            launch.run_to_end(LIMIT).status.success()
        }
    };
    match works("kubectl", &["kustomize", "--help"]) {
        true => Ok(()),
        false => Err(Missing::elsewhere(
            "kubectl 1.32 or newer",
            "https://kubernetes.io/docs/tasks/tools",
        )),
    }
}

/// What `kubectl kustomize` prints.
#[track_caller]
pub(crate) fn kustomize(folder: &Path) -> String {
    let launch = Launch::new("kubectl").args(["kustomize".as_ref(), folder.as_os_str()]);
    let output = launch.run_to_end(LIMIT);
    assert!(
        output.status.success(),
        "{}: {}",
        folder.display(),
        output.stderr
    );
    assert_eq!(output.stderr, "", "{}", folder.display());
    output.stdout
}

/// The objects in a YAML text.
#[track_caller]
pub(crate) fn parse(yaml: &str) -> Objects {
    serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// Every overlay, and every store with nothing, each addition, and all of them; the embedded one
/// with each two of them as well. Also written to `target/kubernetes`, for other tools. None where
/// there is no kustomize, which is reported.
pub(crate) fn everything() -> &'static BTreeMap<String, Objects> {
    static EVERYTHING: OnceLock<BTreeMap<String, Objects>> = OnceLock::new();
    EVERYTHING.get_or_init(|| {
        if skip::unless(available()) {
            return BTreeMap::new();
        }
        let mut texts = BTreeMap::new();
        for overlay in overlays() {
            let folder = root().join("k8s/overlays").join(&overlay);
            texts.insert(format!("overlay {overlay}"), kustomize(&folder));
        }
        for (store, components) in STORES {
            for additions in selections(store) {
                let name = [&[store], &additions[..]].concat().join(" + ");
                texts.insert(name, combination(store, &[components, &additions].concat()));
            }
        }
        let folder = root().join("target/kubernetes");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in &texts {
            let file = format!("{}.yaml", name.replace(" + ", "+").replace(' ', "-"));
            fs::write(folder.join(file), text).unwrap();
        }
        let parsed = texts.iter().map(|(name, text)| (name.clone(), parse(text)));
        parsed.collect()
    })
}

/// The names of the overlays.
pub(crate) fn overlays() -> Vec<String> {
    let folders = fs::read_dir(root().join("k8s/overlays")).unwrap();
    let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn selections(store: &str) -> Vec<Vec<&'static str>> {
    let mut selections = vec![vec![], ADDITIONS.to_vec()];
    for (index, first) in ADDITIONS.iter().enumerate() {
        selections.push(vec![*first]);
        if store == "file" {
            let second = ADDITIONS[index + 1..].iter();
            selections.extend(second.map(|second| vec![*first, *second]));
        }
    }
    selections
}

/// The base with these components, as a user would put it together, in another namespace.
fn combination(store: &str, components: &[&str]) -> String {
    let parent = root().join("target/tmp");
    fs::create_dir_all(&parent).unwrap();
    let folder = tempfile::tempdir_in(parent).unwrap();
    let base = match store {
        EXTERNAL => "overlays/external-store",
        _ => "base",
    };
    let mut text = format!("namespace: mine\nresources: [../../../k8s/{base}]\ncomponents:\n");
    for component in components.iter().chain(&["metadata"]) {
        text.push_str(&format!("  - ../../../k8s/components/{component}\n"));
    }
    fs::write(folder.path().join("kustomization.yaml"), text).unwrap();
    kustomize(folder.path())
}

#[test]
fn every_combination_builds_and_stays_in_its_namespace() {
    for (name, objects) in everything() {
        assert!(objects.len() > 2, "{name}");
        let namespaces: Vec<&Value> = of_kind(objects, "Namespace").collect();
        assert_eq!(namespaces.len(), 1, "{name}");
        let namespace = &namespaces[0]["metadata"]["name"];
        for object in objects
            .iter()
            .filter(|object| object["kind"] != "Namespace")
        {
            assert_eq!(&object["metadata"]["namespace"], namespace, "{name}");
        }
        let mut names: Vec<String> = objects.iter().map(full_name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), objects.len(), "{name}");
    }
}

#[test]
fn every_component_is_part_of_a_combination() {
    let folders = fs::read_dir(root().join("k8s/components")).unwrap();
    for folder in folders {
        let component = folder.unwrap().file_name().into_string().unwrap();
        let in_stores = STORES.iter().any(|(_, parts)| parts.contains(&&*component));
        let elsewhere = ["shared-store", EXTERNAL, "metadata", "registry"].contains(&&*component);
        assert!(
            in_stores || elsewhere || ADDITIONS.contains(&&*component),
            "{component}"
        );
    }
}

#[test]
fn the_rendered_file_is_current() {
    if skip::unless(available()) {
        return;
    }
    let kept = fs::read_to_string(root().join("k8s/microservices.yaml")).unwrap();
    let lines = kept.split_inclusive('\n');
    let body: String = lines.skip_while(|line| line.starts_with('#')).collect();
    assert!(
        body == kustomize(&root().join("k8s")),
        "run: make k8s-render"
    );
}

#[test]
fn another_setting_makes_new_pods() {
    if skip::unless(available()) {
        return;
    }
    let folder = tempfile::tempdir_in(root().join("target")).unwrap();
    let changed = "resources: [../../k8s]\nconfigMapGenerator:\n  - name: hello-server\n    \
                   behavior: merge\n    literals: [MESSAGE=Hi]\n";
    fs::write(folder.path().join("kustomization.yaml"), changed).unwrap();
    let (before, after) = (
        parse(&kustomize(&root().join("k8s"))),
        parse(&kustomize(folder.path())),
    );
    let template = |objects: &Objects, name: &str| {
        let found =
            of_kind(objects, "Deployment").find(|object| object["metadata"]["name"] == name);
        found.unwrap()["spec"]["template"].clone()
    };
    assert_ne!(
        template(&before, "hello-server"),
        template(&after, "hello-server")
    );
    assert_eq!(
        template(&before, "hash-server"),
        template(&after, "hash-server")
    );
}

/// The objects of one kind.
pub(crate) fn of_kind<'a>(
    objects: &'a [Value],
    kind: &'static str,
) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// What tells one object from another.
pub(crate) fn full_name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    format!("{kind}/{name}")
}
