//! A handler that panics costs its request a 500 and nothing else.
//!
//! What a panic does to a process is seen on one, with the log and the threads of a service: the test
//! starts itself again as that service.

use std::{env, process::ExitCode, time::Duration};

use actix_web::{HttpRequest, http::Method};
use chassis::{Program, Service, resource};
use e2e::{Signal, http::Connection, service};
use serde_json::json;

const ROUNDS: usize = 3;

const PROGRAM: Program = Program {
    name: "panics",
    version: "0.0.0",
    revision: None,
    about: "Panics when it is asked to.",
    port: 8080,
    admin_port: 9080,
};

chassis::settings! {
    struct Settings {
        /// Query of the requests that it panics at.
        panics_at: String = "panic", "any text";
    }
}

#[test]
fn a_handler_that_panics_costs_one_request() {
    // The test sets it for the service.
    if env::var_os("PANICS_AT").is_none() {
        return check();
    }
    let code = chassis::run(PROGRAM, async |settings: Settings, _| {
        Ok(Service::new("/", move |path| {
            let panics_at = settings.panics_at.clone();
            let answer = move |request: HttpRequest| {
                let panics = request.query_string() == panics_at;
                async move {
                    assert!(!panics, "planted");
                    "good"
                }
            };
            resource(path, [Method::GET], answer)
        }))
    });
    assert_eq!(code, ExitCode::SUCCESS);
}

fn check() {
    let program = env::current_exe().expect("a program knows its own path");
    let service = service::Service::builder_at(program)
        .env("RUST_TEST_NOCAPTURE", "1")
        .env("PANICS_AT", "bad")
        .env("WORKERS", "1")
        .start();
    let mut connection = Connection::open(service.addr()).expect("a connection");
    let mut other = Connection::open(service.addr()).expect("a connection");
    let ask = |connection: &mut Connection, query: &str| {
        let request = format!("GET /?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
        connection.send(request).expect("an open connection");
        connection.receive().expect("an answer")
    };
    for _ in 0..ROUNDS {
        assert_eq!(ask(&mut other, "good").status, 200);
        let failed = ask(&mut connection, "bad");
        assert_eq!(failed.status, 500);
        let media_type = failed.header("content-type");
        assert_eq!(media_type, Some("application/problem+json"));
        assert_eq!(failed.json()["status"], 500);
        assert!(!failed.text().contains("planted"), "{}", failed.text());
        assert_eq!(ask(&mut connection, "good").status, 200);
        assert_eq!(ask(&mut other, "good").status, 200);
    }
    // All of the log is written then.
    service.signal(Signal::TERM);
    assert!(service.wait(Duration::from_secs(20)).success());
    let lines = service.stderr().json();
    let errors: Vec<_> = lines
        .iter()
        .filter(|line| line["level"] != "INFO")
        .collect();
    assert_eq!(errors.len(), ROUNDS, "{errors:?}");
    for error in errors {
        assert_eq!(
            (&error["level"], &error["message"]),
            (&json!("ERROR"), &json!("panic"))
        );
        let panic = error["panic"].as_str().expect("what panicked");
        assert!(
            panic.contains("planted") && panic.contains("panics.rs"),
            "{panic}"
        );
        assert_eq!(error["thread"], "worker-1", "the one there is");
    }
}
