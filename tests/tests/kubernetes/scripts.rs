//! `make k8s-e2e` and `make k8s-forward`, against a kubectl that only writes down what it is asked,
//! since there may be no cluster here. What it would apply is built for real.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::launch::{Launch, Output};
use e2e::{skip, wait};
use tempfile::TempDir;

use crate::rendered::available;
use crate::{LIMIT, root};

/// A Job runs when it is asked for the first time, and is complete at the second.
const KUBECTL: &str = r#"#!/usr/bin/env bash
echo "$*" >>"$RECORD"
case "$*" in
*"apply -k "*) PATH=$REAL_PATH kubectl kustomize "${@: -1}" >"$RECORD.yaml" || exit ;;
*"get job "*) if rm "$RECORD.asked" 2>/dev/null; then echo Complete; else touch "$RECORD.asked"; fi ;;
*"get deployments,statefulsets"*) printf 'deployment/hash-server\nstatefulset/x\n' ;;
*"get pods"*) echo pod/some-pod ;;
*" logs "*) echo 'some progress'; echo "$SUMMARY" ;;
*"$FAIL_AT"*) exit 1 ;;
esac
"#;

/// No command has this in it.
const NEVER: &str = "no such words";

const FINE: &str = r#"{"verdict":"proven","violations":[],"wrong_answers":0,"operations":1234,"numbers":1234,"failed":0,"failures":[]}"#;

struct Run {
    output: Output,
    commands: Vec<String>,
}

fn run(stores: &[&str], summary: &str, fail_at: &str) -> Run {
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("record");
    for (program, text) in [("kubectl", KUBECTL), ("sleep", "#!/bin/sh\n")] {
        let file = folder.path().join(program);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let real_path = std::env::var("PATH").unwrap();
    let launch = Launch::new(root().join("scripts/k8s-e2e"))
        .args(stores)
        .env("PATH", format!("{}:{real_path}", folder.path().display()))
        .env("REAL_PATH", real_path)
        .env("RECORD", &record)
        .env("SUMMARY", summary)
        .env("FAIL_AT", fail_at);
    let output = launch.run_to_end(LIMIT);
    let commands = fs::read_to_string(&record).unwrap_or_default();
    Run {
        output,
        commands: commands.lines().map(str::to_owned).collect(),
    }
}

impl Run {
    #[track_caller]
    fn position(&self, words: &str) -> usize {
        let mut commands = self.commands.iter();
        let found = commands.position(|command| command.contains(words));
        found.unwrap_or_else(|| panic!("no {words} in {:#?}", self.commands))
    }
}

#[test]
fn everything_is_disturbed_under_load_and_cleaned_up() {
    if skip::unless(available()) {
        return;
    }
    let run = run(&["file", "redis"], FINE, NEVER);
    let Output {
        status,
        stdout,
        stderr,
    } = &run.output;
    assert!(status.success(), "{stdout}{stderr}");
    for store in ["file", "redis"] {
        let namespace = format!("-n microservices-e2e-{store} ");
        let persistence = match store {
            "file" => "statefulset/persistence-server",
            _ => "deployment/persistence-server",
        };
        let mut last = 0;
        for command in [
            "rollout restart deployment/hash-server".to_owned(),
            format!("rollout restart {persistence}"),
            "delete --wait=false pod/some-pod".to_owned(),
            "scale deployment/hash-server --replicas=4".to_owned(),
        ] {
            let at = run.position(&format!("{namespace}{command}"));
            assert!(at > last, "{command}");
            last = at;
            // The load is under way, and is still when it is done.
            let before = &run.commands[..at];
            let loads = before
                .iter()
                .rposition(|command| command.contains("apply -k"));
            let ends = before
                .iter()
                .rposition(|command| command.contains("delete job"));
            assert!(loads > ends, "{command}");
        }
        let end = run.position(&format!("delete namespace microservices-e2e-{store}"));
        assert!(end > last);
    }
    run.position("rollout restart statefulset/redis");
    run.position("rollout restart deployment/hello-server");
    let lines = stdout
        .lines()
        .filter(|line| line.contains(" 1234 ") && line.ends_with(" ok"));
    assert_eq!(lines.count(), 14, "{stdout}");
}

#[test]
fn a_failed_request_or_a_broken_promise_fails_it() {
    if skip::unless(available()) {
        return;
    }
    let lost = FINE.replace("\"failed\":0", "\"failed\":2");
    let broken = FINE.replace("\"violations\":[]", "\"violations\":[{}]");
    for (summary, words) in [
        (lost.as_str(), "REQUESTS LOST"),
        (broken.as_str(), "PROMISE BROKEN"),
        ("", "no summary"),
    ] {
        let run = run(&["file"], summary, NEVER);
        assert_eq!(run.output.status.code(), Some(1), "{words}");
        assert!(run.output.stdout.contains(words), "{}", run.output.stdout);
        run.position("delete namespace microservices-e2e-file");
    }
}

#[test]
fn it_cleans_up_when_it_cannot_go_on() {
    if skip::unless(available()) {
        return;
    }
    let run = run(&["file"], FINE, "wait pod");
    assert!(!run.output.status.success());
    run.position("delete namespace microservices-e2e-file");
}

#[test]
fn a_port_forward_that_ends_is_named_and_ends_the_others() {
    let folder = TempDir::new().unwrap();
    let record = folder.path().join("record");
    let kubectl = folder.path().join("kubectl");
    let text = r#"#!/bin/sh
case $* in *hash-server*) until [ "$(wc -l <"$RECORD")" = 2 ]; do sleep 0.1; done; exit 1 ;; esac
echo $$ >>"$RECORD"
exec sleep 600
"#;
    fs::write(&kubectl, text).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&record, "").unwrap();
    let path = std::env::var("PATH").unwrap();
    let launch = Launch::new(root().join("scripts/k8s-forward"))
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env("RECORD", &record);
    let output = launch.run_to_end(LIMIT);
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    let words = "the port-forward to hash-server:8082 has ended";
    assert!(output.stderr.contains(words), "{}", output.stderr);
    let others = fs::read_to_string(record).unwrap();
    assert_eq!(others.lines().count(), 2);
    for process in others.lines() {
        wait::until("the end of the others", LIMIT, || {
            (!Path::new("/proc").join(process).exists()).then_some(())
        });
    }
}

#[test]
fn a_store_that_does_not_exist_is_named() {
    let run = run(&["mongo"], FINE, NEVER);
    assert_eq!(run.output.status.code(), Some(2));
    assert!(run.output.stderr.contains("no store mongo"));
    assert_eq!(run.commands, Vec::<String>::new());
}
