//! skaffold.yaml agrees with the manifests and the Dockerfile.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::rendered::parse;
use crate::root;

#[test]
fn skaffold_proves_what_the_checker_job_does_and_labels_images_with_the_commit() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let skaffold = &parse(&read("skaffold.yaml"))[0];
    let proof = &skaffold["verify"][0];
    let mode = &proof["executionMode"]["kubernetesCluster"];
    let job = parse(&read(mode["jobManifestPath"].as_str().unwrap())).remove(0);
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    for field in ["name", "args"] {
        assert_eq!(proof["container"][field], container[field]);
    }
    let overrides: Value = serde_json::from_str(mode["overrides"].as_str().unwrap()).unwrap();
    let metadata = &parse(&read("k8s/components/metadata/kustomization.yaml"))[0];
    assert_eq!(overrides["metadata"]["namespace"], metadata["namespace"]);
    // Both Jobs may be there at once.
    assert_ne!(proof["name"], job["metadata"]["name"]);

    let artifacts = skaffold["build"]["artifacts"].as_array().unwrap();
    assert_eq!(artifacts.len(), 4);
    for artifact in artifacts {
        let docker = &artifact["docker"];
        let stage = format!(" AS {}\n", docker["target"].as_str().unwrap());
        assert!(read("Dockerfile").contains(&stage), "{artifact}");
        let revision = docker["buildArgs"]["REVISION"].as_str().unwrap();
        let command = revision
            .strip_prefix("{{cmd \"sh\" \"-c\" \"")
            .and_then(|rest| rest.strip_suffix("\"}}"));
        // As Skaffold runs it, in the repository and outside of any.
        let printed = |folder: &Path| {
            let output = Command::new("sh")
                .args(["-c", command.unwrap()])
                .current_dir(folder)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let commit = printed(&root());
        let commit = commit.trim_end().trim_end_matches("-modified");
        assert!(commit.len() == 40, "{commit}");
        assert_eq!(printed(Path::new("/")), "");
    }
}
