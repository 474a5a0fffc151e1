//! Settings and the command line: what cannot be used is named, with what can.

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
fn a_value_that_cannot_be_used_stops_every_service_with_exit_code_2() {
    for binary in SERVICES {
        for (name, value, accepts) in [
            ("PORT", "http", "a number from 0 to 65535"),
            ("PORT", "65536", "a number from 0 to 65535"),
            ("ADMIN_PORT", "-1", "a number from 0 to 65535"),
            ("WORKERS", "0", "from 1 to 512"),
            ("LOG_FORMAT", "yaml", "text or json"),
            ("ACCESS_LOG", "maybe", "on or off"),
            ("RUST_LOG", "a=b=c", "levels"),
            ("REQUEST_TIMEOUT_MS", "1s", "milliseconds"),
            ("DRAIN_SECONDS", "99999999", "seconds"),
        ] {
            let line = refused(binary, &[(name, value)]);
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(line.contains(&format!("{name}=\"{value}\"")), "{line}");
            assert!(line.contains(accepts), "{line}");
        }
    }
}

#[test]
fn a_service_link_of_kubernetes_is_explained() {
    let line = refused("hello_server", &[("PORT", "tcp://10.0.0.1:80")]);
    assert!(line.contains("enableServiceLinks: false"), "{line}");
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
        assert!(lines.contains(&format!("{name}=\"{value}\"")), "{lines}");
    }
    assert!(lines.contains("file"), "the stores there are: {lines}");
}

#[test]
fn a_value_that_is_not_utf8_is_refused_where_it_is_a_setting_and_ignored_elsewhere() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    let odd = OsStr::from_bytes(b"\xff\xfe");
    let service = ready(Service::builder("hello_server").env("SOMETHING_ELSE", odd));
    assert!(service.alive());
    let launch = e2e::launch::Launch::new(e2e::service::binary_path("hello_server"));
    let output = launch.env("MESSAGE", odd).run_to_end(LIMIT);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.contains("MESSAGE=") && output.stderr.contains("not UTF-8"));
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
    assert!(
        failed.stderr.contains("connection refused"),
        "{}",
        failed.stderr
    );
}
