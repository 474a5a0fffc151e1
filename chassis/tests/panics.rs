//! A handler that panics costs its request a 500 and nothing else.
//!
//! What a panic does to a process is seen on one, with the log and the threads of a service: the test
//! starts itself again as that service.

use std::{env, process::ExitCode, time::Duration};

use actix_web::{HttpRequest, http::Method};
use chassis::{Program, Service, resource};
use e2e::{Signal, http::Connection, service};

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
    for _ in 0..100 {
        ask(&mut connection, "bad");
    }
    service
        .stderr()
        .wait_for("more messages from the same place", Duration::from_secs(30));
    // All of the log is written then.
    service.signal(Signal::TERM);
    assert!(service.wait(Duration::from_secs(20)).success());
    let lines = service.stderr().json();
    let errors = lines.iter().filter(|line| line["level"] != "INFO").count();
    let said = |message: &str| -> Vec<_> {
        let lines = lines.iter();
        lines.filter(|line| line["message"] == message).collect()
    };
    let panics = said("panic");
    for panic in &panics {
        assert_eq!(panic["level"], "ERROR");
        let what = panic["panic"].as_str().expect("what panicked");
        assert!(
            what.contains("planted") && what.contains("panics.rs"),
            "{what}"
        );
        assert_eq!(panic["thread"], "worker-1", "the one there is");
    }
    let requests = said("a panic ended this request");
    assert_eq!(requests[0]["trace_id"].as_str().map(str::len), Some(32));
    // A storm is summarised.
    let left_out = said("more messages from the same place were left out");
    // Nothing else went wrong.
    assert_eq!(
        errors,
        panics.len() + requests.len() + left_out.len(),
        "{lines:?}"
    );
    let left_out: u64 = left_out
        .iter()
        .filter_map(|line| line["left_out"].as_u64())
        .sum();
    let all = (panics.len() + requests.len()) as u64 + left_out;
    assert_eq!(all, 2 * (ROUNDS as u64 + 100), "{lines:?}");
    assert!(panics.len() < 50, "{}", panics.len());
}
