//! The program itself: its arguments, its exit codes and what it prints.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::server::{Server, number, ok};

fn checker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_checker"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHECKER_") {
            command.env_remove(name);
        }
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    checker(arguments).output().unwrap()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}{errors}");
    text
}

fn counting() -> Server {
    Server::start(|i, _| number(i + 1))
}

#[test]
fn a_proven_run_exits_with_0_and_says_so() {
    let server = counting();
    let output = run(&["--url", &server.url(), "--requests", "500", "--no-gaps"]);
    let text = assert_exit(&output, 0);
    assert!(
        text.starts_with("PROVEN: 500 numbers, none twice and none out of order\n"),
        "{text}"
    );
    for line in [
        "1 to 500, 0 skipped",
        "answers/s (500 in ",
        "p99.9 ",
        "64 opened",
        "mock 500",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert!(
        output.stderr.is_empty(),
        "no progress bar without a terminal"
    );
}

#[test]
fn a_violation_exits_with_1_and_names_both_operations() {
    let server = Server::start(|i, _| number(if i == 150 { 17 } else { i + 1 }));
    let url = server.url();
    let output = run(&["--url", &url, "--requests", "300", "--connections", "3"]);
    let text = assert_exit(&output, 1);
    assert!(text.starts_with("VIOLATION"), "{text}");
    assert!(text.contains("number 17 was handed out twice"), "{text}");
    let named = text.lines().filter(|line| {
        line.contains("connection ") && line.contains("sent at ") && line.ends_with(" with 17")
    });
    assert_eq!(named.count(), 2, "{text}");
}

#[test]
fn a_wrong_hash_exits_with_1() {
    let server = Server::start(|i, _| {
        let number = i + 1;
        ok(format!(r#"{{"data":{{"number":{number},"hash":"00"}}}}"#))
    });
    let output = run(&["--url", &server.url(), "--requests", "5"]);
    let text = assert_exit(&output, 1);
    assert!(
        text.contains("number 1 came with the hash \"00\""),
        "{text}"
    );
    assert!(text.contains("5 answers are wrong in themselves"), "{text}");
}

#[test]
fn bad_arguments_exit_with_2_and_are_named() {
    for (arguments, message) in [
        (&[][..], "--url <URL>"),
        (&["--url", "https://localhost"], "https is not supported"),
        (&["--url", "localhost:8081"], "must begin with http://"),
        (
            &["--url", "http://[::1]", "--connections", "0"],
            "1..=65535",
        ),
        (&["--url", "http://[::1]", "--count", "65537"], "1..=65536"),
        (
            &["--url", "http://[::1]", "--timeout", "0"],
            "seconds above 0",
        ),
        (
            &["--url", "http://[::1]", "--timeout", "NaN"],
            "seconds above 0",
        ),
        (
            &["--url", "http://[::1]", "--verify", "x"],
            "cannot be used",
        ),
        (
            &["--verify", "/nonexistent/file"],
            "cannot read /nonexistent/file: ",
        ),
        (
            &["--url", "http://[::1]", "--history", "/nonexistent/file"],
            "cannot write /nonexistent/file: ",
        ),
    ] {
        let output = run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(message), "{arguments:?}: {errors}");
    }
}

#[test]
fn nobody_there_exits_with_3() {
    let address = counting().kill();
    let url = format!("http://{address}");
    let output = run(&["--url", &url, "--keep-trying", "0.3"]);
    let text = assert_exit(&output, 3);
    assert!(text.starts_with("GAVE UP: nothing was answered"), "{text}");
    assert!(text.contains("connection refused"), "{text}");
}

#[test]
fn the_help_explains_the_exit_codes() {
    let text = assert_exit(&run(&["--help"]), 0);
    for code in [
        "0  proven",
        "1  violation",
        "2  bad arguments",
        "3  gave up",
    ] {
        assert!(text.contains(code), "{text}");
    }
}

#[test]
fn the_json_summary_is_one_object() {
    let server = counting();
    let output = run(&["--url", &server.url(), "--requests", "200", "--json"]);
    let text = assert_exit(&output, 0);
    let summary: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(summary["verdict"], "proven");
    assert_eq!(summary["operations"], 200);
    assert_eq!(summary["lowest"], 1);
    assert_eq!(summary["highest"], 200);
    assert_eq!(summary["skipped"], 0);
    assert_eq!(summary["served_by"]["mock"], 200);
    assert_eq!(summary["violations"], Value::Array(Vec::new()));
    assert!(summary["per_second"].as_f64().unwrap() > 0.0);
    assert!(summary["latency_ms"]["p99"].as_f64().unwrap() > 0.0);

    let server = Server::start(|_, _| number(1));
    let output = run(&["--url", &server.url(), "--requests", "2", "--json"]);
    let summary: Value = serde_json::from_str(&assert_exit(&output, 1)).unwrap();
    assert_eq!(summary["verdict"], "violation");
    assert_eq!(summary["violations"][0]["kind"], "duplicate");
    let operations = summary["violations"][0]["operations"].as_array().unwrap();
    assert_eq!(operations.len(), 2);
    for operation in operations {
        assert_eq!(operation["number"], 1);
        assert!(operation["sent"].as_u64() < operation["received"].as_u64());
        assert!(operation["connection"].is_u64());
    }
}

#[test]
fn the_environment_can_say_it_all() {
    let server = counting();
    let output = checker(&[])
        .env("CHECKER_URL", server.url())
        .env("CHECKER_REQUESTS", "50")
        .env("CHECKER_JSON", "true")
        .env("CHECKER_NO_GAPS", "0")
        .output()
        .unwrap();
    let summary: Value = serde_json::from_str(&assert_exit(&output, 0)).unwrap();
    assert_eq!(summary["operations"], 50);
}

#[test]
fn recorded_runs_are_proven_together_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (before, after, forgetful) = (path("before"), path("after"), path("forgetful"));

    let last = Arc::new(AtomicU64::new(0));
    record(&last, &before);
    record(&last, &after);
    let together = run(&["--verify", &before, &after, "--no-gaps"]);
    let text = assert_exit(&together, 0);
    assert!(text.contains("PROVEN: 400 numbers"), "{text}");
    assert!(text.contains("1 to 400, 0 skipped"), "{text}");

    // Loses the last hundred numbers: each run is right for itself.
    last.fetch_sub(100, Ordering::SeqCst);
    record(&last, &forgetful);
    assert_exit(&run(&["--verify", &forgetful]), 0);
    let output = run(&["--verify", &before, &after, &forgetful]);
    let text = assert_exit(&output, 1);
    assert!(text.contains("number 301 was handed out twice"), "{text}");
    assert!(text.contains("run 2, connection"), "{text}");
    assert!(text.contains("run 3, connection"), "{text}");

    // A number that was skipped before, and so is not repeated, is stale in a later run.
    last.store(500, Ordering::SeqCst);
    record(&last, &before);
    last.store(200, Ordering::SeqCst);
    record(&last, &after);
    let text = assert_exit(&run(&["--verify", &before, &after]), 1);
    assert!(text.contains("was requested later"), "{text}");
}

/// Records a run of 200 requests to a service that goes on from `last`.
fn record(last: &Arc<AtomicU64>, file: &str) {
    let last = Arc::clone(last);
    let server = Server::start(move |_, _| number(last.fetch_add(1, Ordering::SeqCst) + 1));
    let url = server.url();
    let output = run(&["--url", &url, "--requests", "200", "--history", file]);
    assert_exit(&output, 0);
    assert!(Path::new(file).exists());
}

#[cfg(unix)]
#[test]
fn a_signal_stops_the_load_and_what_there_is_is_proven() {
    let answered = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&answered);
    let server = Server::start(move |i, _| {
        count.store(i, Ordering::SeqCst);
        number(i + 1)
    });
    for signal in ["-INT", "-TERM"] {
        let from = answered.load(Ordering::SeqCst);
        let child = checker(&["--url", &server.url(), "--duration", "60", "--no-gaps"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while answered.load(Ordering::SeqCst) < from + 100 {
            assert!(start.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(1));
        }
        let id = child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
        let text = assert_exit(&child.wait_with_output().unwrap(), 0);
        assert!(text.starts_with("PROVEN"), "{text}");
        assert!(text.contains("stopped early"), "{text}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
