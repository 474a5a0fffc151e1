//! The guide: its commands are right, its overlays build, and what it names is there.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    time::Duration,
};

use e2e::{
    guide::{self, Step},
    launch::Launch,
    skip,
};

use crate::rendered::{available, kustomize};
use crate::root;

fn overview() -> String {
    fs::read_to_string(root().join("docs/kubernetes.md")).unwrap()
}

#[test]
fn the_overlays_in_the_guide_build() {
    if skip::unless(available()) {
        return;
    }
    let guide = overview();
    let blocks: Vec<&str> = guide
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(blocks.len(), 2);
    for (block, expected) in blocks
        .iter()
        .zip(["  password: bXlwYXNz\n", "  MESSAGE: Hi\n"])
    {
        let parent = root().join("target/tmp");
        fs::create_dir_all(&parent).unwrap();
        let folder = tempfile::tempdir_in(parent).unwrap();
        // Beside the overlays, as the guide means it, but not in the repository.
        let text = block
            .replace("../../components", "../../../k8s/components")
            .replace("[../redis]", "[../../../k8s/overlays/redis]");
        fs::write(folder.path().join("kustomization.yaml"), text).unwrap();
        fs::write(folder.path().join("password"), "mypass").unwrap();
        let rendered = kustomize(folder.path());
        assert!(rendered.contains(expected), "{block}");
    }
}

#[test]
fn every_overlay_component_and_task_in_the_guide_exists() {
    let guide = overview();
    let tasks =
        ["Makefile", "k8s/k8s.mk"].map(|file| fs::read_to_string(root().join(file)).unwrap());
    let mut count = 0;
    for word in guide.split([' ', '`', '\n', ',', ':', ')', ';']) {
        if word.starts_with("k8s/") || word.starts_with("scripts/") || word.starts_with("helm/") {
            assert!(root().join(word.trim_end_matches('.')).exists(), "{word}");
            count += 1;
        }
    }
    for task in guide
        .split("`make ")
        .skip(1)
        .chain(guide.split("\nmake ").skip(1))
    {
        let task = task.split([' ', '`', '\n']).next().unwrap();
        let rule = format!("\n{task}: ");
        assert!(tasks.iter().any(|file| file.contains(&rule)), "make {task}");
        count += 1;
    }
    let table = guide.split("| Component |").nth(1).unwrap();
    for entry in fs::read_dir(root().join("k8s/components")).unwrap() {
        let component = entry.unwrap().file_name().into_string().unwrap();
        let inner = ["shared-store", "metadata", "registry"].contains(&&*component);
        assert!(
            inner || table.contains(&format!("`{component}`")),
            "{component}"
        );
    }
    assert!(count > 15, "{count}");
}

/// The pages that need a cluster, by file name.
fn cluster_pages() -> BTreeMap<String, String> {
    let entries = fs::read_dir(root().join("docs/guide")).unwrap();
    let pages = entries.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    let needs = |text: &str| {
        ["kubectl", "helm", "skaffold"]
            .map(|tool| format!("\n$ {tool} "))
            .iter()
            .any(|command| text.contains(command))
    };
    pages.filter(|(_, text)| needs(text)).collect()
}

#[test]
#[ignore = "it changes the cluster that kubectl points to: make k8s-guide"]
fn the_guide_shows_what_a_cluster_does() {
    // Numbers of pages: all, if there are none.
    let asked = env::var("PAGES").unwrap_or_default();
    let asked: Vec<&str> = asked.split_whitespace().collect();
    for name in cluster_pages().keys() {
        if asked.is_empty() || asked.iter().any(|page| name.starts_with(page)) {
            // The reader waits for minutes.
            let _ = writeln!(io::stderr(), "{name}");
            // What an earlier run left: the first of these pages makes it.
            if name.starts_with("05") {
                kubectl(&["delete", "namespace", "guide", "--ignore-not-found"]);
            }
            guide::follow(name, &[]);
        }
    }
}

/// What `kubectl WORDS` prints.
fn kubectl(words: &[&str]) -> String {
    let launch = Launch::new("kubectl")
        .args(words)
        .inherit(&["HOME", "KUBECONFIG"]);
    launch.run_to_end(Duration::from_secs(120)).stdout
}

#[test]
fn kubectl_knows_every_command_of_the_guide() {
    if skip::unless(available()) {
        return;
    }
    let global = kubectl(&["options"]);
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut flags = 0;
    for (name, page) in cluster_pages() {
        let steps = guide::steps(&page).into_iter();
        let commands = steps.map(|step| match step {
            Step::Run(command) | Step::Type(command, _) => command + "\n",
        });
        for call in commands.collect::<String>().split("kubectl ").skip(1) {
            // Up to what follows in the shell, or is run in a container.
            let call = call.split(['|', ';', ')', '\n']).next().unwrap();
            let call = call.split(" -- ").next().unwrap();
            let words: Vec<&str> = call.split_whitespace().collect();
            let verb = match &words[..] {
                ["-n", _namespace, rest @ ..] => rest,
                words => words,
            };
            let verb = verb.split(|word| word.starts_with('-')).next().unwrap();
            let help = helps
                .entry(verb.join(" "))
                .or_insert_with(|| kubectl(&[verb, &["--help"]].concat()));
            assert!(help.contains("Usage:"), "{name}: kubectl {call}");
            for word in words.iter().filter(|word| word.starts_with("--")) {
                let flag = word.split('=').next().unwrap();
                let known = format!(" {flag}=");
                assert!(
                    help.contains(&known) || global.contains(&known),
                    "{name}: {flag} in kubectl {call}"
                );
                flags += 1;
            }
            for file in words.iter().filter(|word| word.starts_with("k8s")) {
                assert!(root().join(file).exists(), "{name}: {file}");
            }
        }
    }
    assert!(flags > 100, "{flags}");
}
