//! The shell commands in manifests, run for real: with other paths and ports, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use e2e::launch::{Launch, Output};
use e2e::port::Port;
use e2e::process::Process;
use e2e::store::Redis;
use e2e::{Service, skip, wait};
use serde_json::Value;
use tempfile::TempDir;

use crate::pod::Pod;
use crate::rendered::{available, everything, parse};
use crate::security::hardened;
use crate::{LIMIT, root};

/// A command with these words in place of others.
fn command(list: &Value, words: &BTreeMap<&str, String>) -> Launch {
    let arguments = list.as_array().unwrap().iter();
    let mut arguments = arguments.map(|argument| {
        let mut text = argument.as_str().unwrap().to_owned();
        for (from, to) in words {
            text = text.replace(from, to);
        }
        text
    });
    Launch::new(arguments.next().unwrap()).args(arguments.collect::<Vec<_>>())
}

#[test]
fn redis_starts_durable_and_with_its_password_and_the_probes_see_it() {
    if skip::unless(available().and_then(|()| Redis::available())) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let port = Port::free();
    let objects = &everything()["redis"];
    let pods = Pod::all(objects);
    let redis = pods
        .iter()
        .find(|pod| pod.name() == "redis")
        .unwrap()
        .containers()[0];
    let config = objects
        .iter()
        .find_map(|object| object["data"]["redis.conf"].as_str());
    // A folder and a port of its own, and all else as it is.
    let mut config = config.unwrap().replace("/data", &path(""));
    config.push_str(&format!("port {}\nbind 127.0.0.1\n", port.number()));
    fs::write(path("given.conf"), config).unwrap();
    fs::write(path("password"), "pass word\n").unwrap();
    let words = BTreeMap::from([
        ("/etc/redis/redis.conf", path("given.conf")),
        ("/run/secrets/store/password", path("password")),
        ("/tmp/redis.conf", path("made.conf")),
        ("redis-cli", format!("redis-cli -p {}", port.number())),
    ]);
    let number = port.number();
    let _server = Process::start(&command(&redis["command"], &words));

    let ready = command(&redis["readinessProbe"]["exec"]["command"], &words);
    wait::until("PONG", Duration::from_secs(20), || {
        ready.run_to_end(LIMIT).status.success().then_some(())
    });
    let cli = |arguments: &[&str]| -> Output {
        let launch = Launch::new("redis-cli").args(["-p", &number.to_string()]);
        launch.args(arguments).run_to_end(LIMIT)
    };
    assert!(cli(&["GET", "x"]).stdout.contains("NOAUTH"));
    let asked = cli(&[
        "-a",
        "pass word",
        "--no-auth-warning",
        "CONFIG",
        "GET",
        "append*",
    ]);
    for line in ["appendonly\nyes", "appendfsync\nalways"] {
        assert!(asked.stdout.contains(line), "{}", asked.stdout);
    }
    // Alive, even without the password.
    assert_eq!(cli(&["ping"]).status.code(), Some(0));
    fs::write(path("password"), "another").unwrap();
    assert!(!ready.run_to_end(LIMIT).status.success());
}

#[test]
fn the_load_for_hello_server_counts_answers_and_failures() {
    let text = fs::read_to_string(root().join("tests/kubernetes/hello-load/job.yaml")).unwrap();
    let objects = parse(&text);
    let pod = Pod::all(&objects)[0];
    hardened("hello-load", pod);

    let service = Service::builder("hello_server").start();
    let port = service.addr().port();
    let words = BTreeMap::from([("hello-server/8080", format!("127.0.0.1/{port}"))]);
    let load = || -> Value {
        let launch = command(&pod.containers()[0]["command"], &words).args(["2"]);
        let stdout = launch.run_to_end(LIMIT).stdout;
        serde_json::from_str(stdout.trim()).unwrap_or_else(|_| panic!("{stdout}"))
    };
    let fine = load();
    assert!(fine["operations"].as_u64() > Some(10), "{fine}");
    assert_eq!(fine["failed"], 0, "{fine}");
    service.kill9();
    let refused = load();
    assert_eq!(refused["operations"], 0, "{refused}");
    assert!(refused["failed"].as_u64() > Some(10), "{refused}");
}
