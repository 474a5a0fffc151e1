//! Settings and the command line: what is invalid is named, with what is expected.

use std::time::Duration;

use e2e::{
    launch::Output,
    service::{Service, run_to_end},
};

use crate::started::{hello, ready};

const SERVICES: [&str; 3] = ["hello_server", "persistence_server", "hash_server"];
const LIMIT: Duration = Duration::from_secs(10);

#[track_caller]
fn refused(binary: &str, env: &[(&str, &str)]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = run_to_end(binary, env, &[], LIMIT);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(stdout, "");
    for line in stderr.lines() {
        assert!(line.starts_with(&format!("{binary}: ")), "{line}");
    }
    stderr
}

#[test]
fn an_invalid_value_stops_every_service_with_exit_code_2() {
    for binary in SERVICES {
        for (name, value, accepts) in [
            ("PORT", "http", "a number from 0 to 65535"),
            ("RUST_LOG", "warning", "warn"),
            ("HOST", "localhost\r", "without a port"),
        ] {
            let line = refused(binary, &[(name, value)]);
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(
                line.contains(&format!("invalid {name} {value:?}: ")),
                "{line}"
            );
            assert!(line.contains(accepts), "{line}");
        }
    }
}

#[test]
fn all_bad_values_are_named_at_once() {
    let bad = [
        ("PORT", "x"),
        ("STORE", "mongo"),
        ("SEQUENCE", "../up"),
        ("WORKERS", "many"),
    ];
    let lines = refused("persistence_server", &bad);
    assert_eq!(lines.lines().count(), bad.len(), "{lines}");
    for (name, value) in bad {
        assert!(
            lines.contains(&format!("invalid {name} {value:?}: ")),
            "{lines}"
        );
    }
    assert!(lines.contains("file"), "the stores there are: {lines}");
}

#[test]
fn every_bad_setting_of_the_store_in_use_is_refused_and_no_other() {
    let bad = [
        ("redis", "REDIS_HOST", "redis://:hush@h"),
        ("redis", "REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("redis", "REDIS_TLS_CA_FILE", "/nowhere.pem"),
        ("redis", "REDIS_PASSWORD_FILE", "/nowhere"),
        ("postgres", "PGHOST", "db:5432"),
        ("postgres", "PGSSLROOTCERT", "/nowhere.pem"),
        ("postgres", "PGPASSWORD_FILE", "/nowhere"),
        ("etcd", "ETCD_ENDPOINTS", "http://me:hush@h:2379"),
        ("etcd", "ETCD_CA_FILE", "/nowhere.pem"),
        ("etcd", "ETCD_USERNAME", "me"),
    ];
    for (store, name, value) in bad {
        let line = refused("persistence_server", &[("STORE", store), (name, value)]);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(name) && !line.contains("hush"), "{line}");
    }
    let memory = bad.iter().fold(
        Service::builder("persistence_server"),
        |service, (_, name, value)| service.env(name, value),
    );
    assert!(ready(memory.env("STORE", "memory")).alive());
}

#[test]
fn bad_settings_that_contradict_each_other_are_named_at_once() {
    let lines = refused(
        "persistence_server",
        &[
            ("STORE", "etcd"),
            ("ETCD_CA_FILE", "/nowhere.pem"),
            ("ETCD_USERNAME", "me"),
        ],
    );
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

#[test]
fn help_prints_the_settings_of_every_store() {
    let help = run_to_end("persistence_server", &[], &["--help"], LIMIT).stdout;
    for line in [
        "STORE (default: file)",
        "DATA_DIR (default: data)",
        "PGHOST (default: 127.0.0.1)",
        "REDIS_PASSWORD or REDIS_PASSWORD_FILE (default: none)",
        "REDIS_REQUIRE_DURABLE (default: off)",
        "ETCD_ENDPOINTS (default: http://127.0.0.1:2379)",
    ] {
        assert!(help.contains(&format!("  {line}\n")), "{help}");
    }
}

#[test]
fn a_port_in_use_is_named_with_its_setting() {
    let first = hello();
    let taken = first.addr().port().to_string();
    for name in ["PORT", "ADMIN_PORT"] {
        let other = if name == "PORT" { "ADMIN_PORT" } else { "PORT" };
        let env = [(name, taken.as_str()), (other, "0")];
        let output = run_to_end("hello_server", &env, &[], LIMIT);
        assert_eq!(output.status.code(), Some(1));
        let words = [name, taken.as_str(), "another process is using the port"];
        assert!(
            words.iter().all(|word| output.stderr.contains(word)),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn a_host_that_is_not_there_is_named() {
    let env = [("HOST", "192.0.2.1"), ("PORT", "0"), ("ADMIN_PORT", "0")];
    let output = run_to_end("hello_server", &env, &[], LIMIT);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("192.0.2.1") && output.stderr.contains("HOST"));
}

#[test]
fn every_service_listens_on_all_interfaces_when_told_to() {
    for host in ["0.0.0.0", "::", "[::]"] {
        let service = ready(Service::builder("hello_server").env("HOST", host));
        let port = service.addr().port();
        let answer = e2e::http::get(([127, 0, 0, 1], port).into(), "/").unwrap();
        assert_eq!(answer.status, 200, "{host}");
    }
}

#[test]
fn help_and_version_are_printed() {
    for binary in SERVICES {
        let help = run_to_end(binary, &[], &["--help"], LIMIT);
        assert!(help.status.success());
        for name in ["HOST", "PORT", "DRAIN_SECONDS", "RUST_LOG"] {
            assert!(
                help.stdout.contains(&format!("  {name} (default: ")),
                "{}",
                help.stdout
            );
        }
        let version = run_to_end(binary, &[], &["--version"], LIMIT);
        assert!(version.status.success());
        assert!(
            version.stdout.starts_with(&format!("{binary} ")),
            "{}",
            version.stdout
        );
        let unknown = run_to_end(binary, &[], &["--port", "80"], LIMIT);
        assert_eq!(unknown.status.code(), Some(2));
        assert!(unknown.stderr.contains("--port 80") && unknown.stderr.contains("--help"));
    }
}

#[test]
fn the_health_check_asks_the_running_service() {
    let service = hello();
    let port = service.admin_addr().port().to_string();
    let check = || {
        run_to_end(
            "hello_server",
            &[("ADMIN_PORT", &port)],
            &["healthcheck"],
            LIMIT,
        )
    };
    assert_eq!(check().status.code(), Some(0));
    service.kill9();
    let failed = check();
    assert_eq!(failed.status.code(), Some(1));
    assert!(failed.stderr.contains(&port), "{}", failed.stderr);
}

#[test]
fn the_health_check_says_why_a_service_is_not_ready() {
    let hash = Service::builder("hash_server")
        .env("PERSISTENCE_PORT", "1")
        .start();
    let port = hash.admin_addr().port().to_string();
    hash.stderr().wait_for("dependency is down", LIMIT);
    let failed = run_to_end(
        "hash_server",
        &[("ADMIN_PORT", &port)],
        &["healthcheck"],
        LIMIT,
    );
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(
        failed.stderr,
        "hash_server: persistence: persistence at 127.0.0.1:1: connection refused\n"
    );
}
