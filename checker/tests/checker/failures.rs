//! A service that fails, dies and comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use checker::load::{self, Control, Ending, Failure, Options, Outcome};
use checker::summary::{Gaps, Summary, Verdict};
use checker::{Target, verify};

use crate::server::{Reaction, Server, body, number};

#[test]
fn refusals_are_counted_by_status_and_asked_again() {
    const PROBLEM: &str = r#"{"title":"Store is down","detail":"no answer within 2 s"}"#;
    let server = Server::start(|i, _| match i {
        50..60 => Reaction::Answer("503 Service Unavailable", "", PROBLEM.to_owned()),
        60 => Reaction::Answer("504 Gateway Timeout", "", String::new()),
        _ => number(i + 1),
    });
    let outcome = load::run(&server.load(200)).unwrap();
    assert_eq!(outcome.history.operations.len(), 200);
    assert_eq!(outcome.failures[&Failure::Status(504)].count, 1);
    let refused = &outcome.failures[&Failure::Status(503)];
    assert_eq!(refused.count, 10);
    assert_eq!(refused.example, "Store is down: no answer within 2 s");
    assert_eq!(outcome.lost(), 0, "an answer is a result");
    assert_eq!(outcome.connections, 4, "an answer costs no connection");

    let summary = Summary::of_run(&outcome, Gaps::Allowed);
    assert_eq!(summary.verdict, Verdict::Proven);
    let text = summary.to_string();
    let line = "10 503 Service Unavailable (Store is down";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_connection_that_breaks_is_an_operation_without_a_result() {
    let breaks: [fn() -> Reaction; 3] = [
        || Reaction::Close,
        || Reaction::Cut(body(9)),
        || Reaction::Cut("x".repeat(30_000)),
    ];
    for reaction in breaks {
        let server = Server::start(move |i, _| match i {
            20 | 40 | 60 => reaction(),
            _ => number(i + 1),
        });
        let outcome = load::run(&server.load(100)).unwrap();
        assert_eq!(outcome.failed(), 3);
        assert_eq!(outcome.lost(), 3);
        assert_eq!(outcome.connections, 7);
        let proof = verify(&outcome.history.operations).unwrap();
        assert_eq!((proof.operations, proof.skipped), (100, 3));
    }
}

#[test]
fn a_kept_connection_that_closes_in_silence_loses_at_most_what_was_sent_on_it() {
    let server = Server::start(|i, _| Reaction::AnswerAndClose(body(i + 1)));
    let outcome = load::run(&server.load(50)).unwrap();
    // Whether the close was seen before the next request was written is up to the system; if it
    // was, nothing was lost.
    assert_eq!(outcome.failed(), outcome.lost());
    assert_eq!(outcome.history.operations.len(), 50);
    assert!(verify(&outcome.history.operations).is_ok());
}

#[test]
fn a_service_that_closes_every_connection_is_not_hammered() {
    let server = Server::start(|_, _| Reaction::Close);
    let options = Options {
        keep_trying: Duration::from_millis(500),
        ..server.load(1)
    };
    let outcome = load::run(&options).unwrap();
    assert_eq!(outcome.ending, Ending::GaveUp);
    assert!(outcome.connections < 100, "{}", outcome.connections);
}

#[test]
fn what_is_not_http_is_a_failure() {
    let server = Server::start(|i, _| match i {
        0 => Reaction::Raw("SSH-2.0-OpenSSH\r\n\r\n"),
        _ => number(i),
    });
    let outcome = load::run(&server.load(5)).unwrap();
    assert_eq!(outcome.failures[&Failure::Unreadable].count, 1);
}

#[test]
fn an_answer_that_never_ends_is_a_failure_and_not_kept() {
    let server = Server::start(|i, _| match i {
        0 => Reaction::Answer("200 OK", "", "x".repeat(1_000_000)),
        _ => number(i),
    });
    let outcome = load::run(&server.load(5)).unwrap();
    assert_eq!(outcome.failures[&Failure::Unreadable].count, 1);
}

#[test]
fn an_answer_that_does_not_come_is_given_up_after_the_timeout() {
    let server = Server::start(|i, _| match i {
        10 => Reaction::Hang,
        _ => number(i + 1),
    });
    let options = Options {
        timeout: Duration::from_millis(200),
        ..server.load(50)
    };
    let outcome = load::run(&options).unwrap();
    assert_eq!(outcome.failures[&Failure::Timeout].count, 1);
    assert_eq!(outcome.lost(), 1);
    assert_eq!(outcome.history.operations.len(), 50);
}

#[test]
fn nobody_there_means_giving_up_in_time() {
    let address = Server::start(|i, _| number(i)).kill();
    let target: Target = format!("http://{address}").parse().unwrap();
    let options = Options {
        keep_trying: Duration::from_millis(300),
        ..Options::new(target)
    };
    let start = Instant::now();
    let outcome = load::run(&options).unwrap();
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(outcome.ending, Ending::GaveUp);
    assert!(outcome.failures[&Failure::Refused].count > 0);
    assert_eq!(outcome.lost(), 0, "nothing was ever sent");
    let summary = Summary::of_run(&outcome, Gaps::Allowed);
    assert_eq!(summary.verdict.exit_code(), 3);
}

#[test]
fn requests_under_way_when_giving_up_are_counted_as_lost() {
    let server = Server::start(|i, _| match i {
        0..10 => number(i + 1),
        _ => Reaction::Hang,
    });
    let options = Options {
        keep_trying: Duration::from_millis(300),
        ..server.load(100)
    };
    let outcome = load::run(&options).unwrap();
    assert_eq!(outcome.ending, Ending::GaveUp);
    assert_eq!((outcome.abandoned, outcome.lost()), (4, 4));
    let summary = Summary::of_run(&outcome, Gaps::Allowed);
    assert_eq!(summary.verdict, Verdict::GaveUp);
    let text = summary.to_string();
    assert!(text.contains("the 10 answers before are right"), "{text}");
}

#[test]
fn the_load_stops_when_more_requests_fail_than_are_allowed() {
    let one_failure = || {
        Server::start(|i, _| match i {
            500 => Reaction::Answer("500 Internal Server Error", "", String::new()),
            _ => number(i + 1),
        })
    };
    let server = one_failure();
    let none_allowed = Options {
        max_failures: Some(0),
        requests: None,
        ..server.load(1)
    };
    let outcome = load::run(&none_allowed).unwrap();
    assert_eq!(outcome.ending, Ending::TooManyFailures);
    assert_eq!(outcome.failed(), 1);
    let summary = Summary::of_run(&outcome, Gaps::Allowed);
    assert_eq!(summary.verdict.exit_code(), 1);

    let server = one_failure();
    let one_allowed = Options {
        max_failures: Some(1),
        ..server.load(1_000)
    };
    let outcome = load::run(&one_allowed).unwrap();
    assert_eq!((outcome.ending, outcome.failed()), (Ending::Complete, 1));
}

#[test]
fn a_service_that_is_killed_and_remembers_is_proven() {
    let outcome = killed_under_load(|durable| durable);
    assert!(outcome.failed() > 0);
    let proof = verify(&outcome.history.operations).unwrap();
    assert_eq!(proof.operations, outcome.history.operations.len() as u64);
    assert!(proof.skipped <= outcome.lost());
}

#[test]
fn a_service_that_starts_again_from_one_after_a_kill_is_found() {
    let outcome = killed_under_load(|_| 0);
    let violation = verify(&outcome.history.operations).unwrap_err();
    assert_eq!(violation.kind(), "duplicate");
}

#[test]
fn a_service_that_loses_its_last_writes_in_a_kill_is_found() {
    let outcome = killed_under_load(|durable| durable - 20);
    assert!(verify(&outcome.history.operations).is_err());
}

/// Kills a service under load, starts it again on the same port with what `recovered` makes of the
/// last number, and lets it answer as many requests again.
fn killed_under_load(recovered: fn(u64) -> u64) -> Outcome {
    let last = Arc::new(AtomicU64::new(0));
    let start = |address: SocketAddr| {
        let last = Arc::clone(&last);
        Server::start_at(address, move |_, _| {
            number(last.fetch_add(1, Ordering::SeqCst) + 1)
        })
    };
    let server = start("127.0.0.1:0".parse().unwrap());
    let options = Options {
        connections: 8,
        requests: None,
        ..server.load(1)
    };
    let control = Control::default();
    thread::scope(|scope| {
        let load = scope.spawn(|| load::run_with(&options, &control));
        until(|| control.answered() > 500);
        let address = server.kill();
        until(|| control.failed() > 8);
        last.store(recovered(last.load(Ordering::SeqCst)), Ordering::SeqCst);

        let before = control.answered();
        let _server = start(address);
        until(|| control.answered() > before + 500);
        control.stop();
        load.join().unwrap().unwrap()
    })
}

fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(1));
    }
}
