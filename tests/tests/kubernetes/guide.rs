//! The guide: its overlays build, and what it names is there.

use std::fs;

use e2e::skip;

use crate::rendered::{available, kustomize};
use crate::root;

fn guide() -> String {
    fs::read_to_string(root().join("docs/kubernetes.md")).unwrap()
}

#[test]
fn the_overlays_in_the_guide_build() {
    if skip::unless(available()) {
        return;
    }
    let guide = guide();
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
    let guide = guide();
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
