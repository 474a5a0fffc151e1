//! What other people's tools say of the manifests.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use e2e::skip;
use serde_json::Value;

use crate::rendered::{self, everything};
use crate::root;

/// A program among the tools in Python.
fn tool(program: &str) -> PathBuf {
    let tools = skip::python_tools().expect("it was looked for");
    tools.join("bin").join(program)
}

/// What a script beside these tests prints.
#[track_caller]
pub(crate) fn python(script: &str, args: &[&str], input: &str) -> String {
    let mut command = Command::new(tool("python"));
    command
        .arg(root().join("tests/kubernetes").join(script))
        .args(args);
    let (stdout, stderr, success) = run(&mut command, input);
    assert!(success, "{script}: {stdout}{stderr}");
    stdout
}

fn run(command: &mut Command, input: &str) -> (String, String, bool) {
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = pipes.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.success(),
    )
}

fn cannot_run() -> bool {
    skip::unless(rendered::available().and_then(|()| skip::python_tools().map(drop)))
}

#[test]
fn kubernetes_1_32_and_newer_accept_every_object() {
    if cannot_run() {
        return;
    }
    let minimal = minimal();
    let all: Vec<&Value> = everything().values().flatten().chain(&minimal).collect();
    let report = python("validate.py", &[], &serde_json::to_string(&all).unwrap());
    let report: Value = serde_json::from_str(&report).unwrap();
    let versions = report["versions"].as_array().unwrap();
    assert!(versions.len() >= 6 && versions[0] == "1.32", "{versions:?}");
    assert!(report["validated"].as_u64().unwrap() > 100, "{report}");
    assert_eq!(report["errors"].as_array().unwrap(), &[] as &[Value]);
    // Custom resources, which it does not know.
    assert_eq!(
        report["unknown"].to_string(),
        r#"["HTTPRoute","PrometheusRule","ServiceMonitor"]"#
    );
}

/// What the guide begins with.
fn minimal() -> Vec<Value> {
    let files = std::fs::read_dir(root().join("k8s/minimal")).unwrap();
    let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    texts.flat_map(|text| rendered::parse(&text)).collect()
}

#[test]
fn the_smallest_manifests_have_the_images_and_the_ports_of_the_others() {
    if cannot_run() {
        return;
    }
    let (minimal, base) = (minimal(), &everything()["file"]);
    assert!(minimal.len() == 7, "{minimal:?}");
    for service in minimal.iter().filter(|object| object["kind"] == "Service") {
        let name = &service["metadata"]["name"];
        let find = |objects: &[Value], kind: &[&str]| {
            let mut found = objects.iter();
            let is_it = |object: &&Value| {
                object["metadata"]["name"] == *name
                    && kind.iter().any(|kind| object["kind"] == *kind)
            };
            found.find(is_it).unwrap().clone()
        };
        let port = "/spec/ports/0/port";
        assert_eq!(
            service.pointer(port),
            find(base, &["Service"]).pointer(port)
        );
        let labels = "/spec/template/metadata/labels";
        let deployment = find(&minimal, &["Deployment"]);
        assert_eq!(
            deployment.pointer(labels),
            service.pointer("/spec/selector")
        );
        let image = "/spec/template/spec/containers/0/image";
        let hardened = find(base, &["Deployment", "StatefulSet"]);
        assert_eq!(deployment.pointer(image), hardened.pointer(image));
    }
}

#[test]
fn an_object_with_a_mistake_is_not_accepted() {
    if cannot_run() {
        return;
    }
    let mut object = everything()["file"]
        .iter()
        .find(|o| o["kind"] == "Deployment")
        .unwrap()
        .clone();
    object["spec"]["template"]["spec"]["enableServiceLink"] = Value::from(false);
    let report = python(
        "validate.py",
        &[],
        &serde_json::to_string(&[object]).unwrap(),
    );
    assert!(report.contains("enableServiceLink"), "{report}");
}

#[test]
fn checkov_finds_nothing_but_what_is_listed_with_a_reason() {
    if cannot_run() {
        return;
    }
    let listed =
        std::fs::read_to_string(root().join("tests/kubernetes/checkov-accepted.txt")).unwrap();
    let listed: BTreeSet<String> = listed
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect();
    everything();
    let mut command = Command::new(tool("checkov"));
    command.args([
        "--framework",
        "kubernetes",
        "--skip-download",
        "--compact",
        "--output",
        "json",
    ]);
    // Each overlay, and each store with all that can be added to it.
    let folder = root().join("target/kubernetes");
    let files = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let chosen = files.filter(|file| {
        let name = file.file_name().unwrap().to_string_lossy();
        name.starts_with("overlay") || name.matches('+').count() > 2
    });
    for file in chosen {
        command.arg("--file").arg(file);
    }
    let (stdout, stderr, _) = run(&mut command, "");
    let report: Value =
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
    assert!(
        report["summary"]["passed"].as_u64().unwrap() > 3000,
        "{}",
        report["summary"]
    );
    let failed = report["results"]["failed_checks"].as_array().unwrap();
    let found: BTreeSet<String> = failed
        .iter()
        .map(|check| {
            let resource = check["resource"].as_str().unwrap();
            let name = resource.rsplit('.').next().unwrap();
            format!("{} {name}", check["check_id"].as_str().unwrap())
        })
        .collect();
    assert_eq!(found, listed);
}

#[test]
fn yamllint_finds_nothing() {
    if cannot_run() {
        return;
    }
    let mut command = Command::new(tool("yamllint"));
    command.current_dir(root()).args([
        "--strict",
        "--config-file",
        "tests/kubernetes/yamllint.yaml",
    ]);
    command.args(["k8s", "helm", "skaffold.yaml"]);
    let (stdout, stderr, success) = run(&mut command, "");
    assert!(success, "{stdout}{stderr}");
}
