//! Driving load at a service that behaves.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use checker::load::{self, Control, Ending, Options};
use checker::summary::{Gaps, Summary, Verdict};
use checker::verify;

use crate::server::{Reaction, Server, body, number, ok};

#[test]
fn a_service_that_counts_is_proven_without_gaps() {
    let server = Server::start(|i, _| number(i + 1));
    let outcome = load::run(&server.load(2_000)).unwrap();

    let proof = verify(&outcome.history.operations).unwrap();
    assert_eq!(proof.range, Some((1, 2_000)));
    assert_eq!(proof.skipped, 0);
    assert_eq!(outcome.connections, 4);
    assert_eq!(outcome.failed(), 0);
    assert_eq!(outcome.served_by, [("mock".to_owned(), 2_000)].into());
    assert_eq!(outcome.ending, Ending::Complete);
    assert!(outcome.elapsed > Duration::ZERO);
    for operation in &outcome.history.operations {
        assert!(operation.sent < operation.received);
        assert!(operation.connection < 4);
    }
}

#[test]
fn several_threads_share_the_connections_and_one_clock() {
    let server = Server::start(|i, _| number(i + 1));
    let options = Options {
        threads: 3,
        connections: 7,
        ..server.load(2_000)
    };
    let outcome = load::run(&options).unwrap();
    assert_eq!(verify(&outcome.history.operations).unwrap().numbers, 2_000);
    assert!(outcome.connections <= 7);
}

#[test]
fn blocks_are_asked_for_and_proven() {
    let next = AtomicU64::new(1);
    let server = Server::start(move |_, path| {
        assert_eq!(path, "/?count=5");
        let first = next.fetch_add(5, Ordering::SeqCst);
        ok(format!(r#"{{"data":{{"number":{first},"count":5}}}}"#))
    });
    let options = Options {
        count: 5,
        ..server.load(500)
    };
    let outcome = load::run(&options).unwrap();
    let proof = verify(&outcome.history.operations).unwrap();
    assert_eq!((proof.operations, proof.numbers), (500, 2_500));
    assert_eq!(outcome.wrong_answers, 0);
}

#[test]
fn hashes_are_recomputed() {
    const HASHES: [&str; 2] = [
        "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
        "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35",
    ];
    let server = Server::start(|i, _| {
        let (number, hash) = (i + 1, HASHES[i as usize]);
        ok(format!(
            r#"{{"data":{{"number":{number},"hash":"{hash}"}}}}"#
        ))
    });
    let outcome = load::run(&server.load(2)).unwrap();
    assert_eq!((outcome.hashes, outcome.wrong_answers), (2, 0));
}

#[test]
fn an_announced_close_is_no_failure() {
    let server =
        Server::start(|i, _| Reaction::Answer("200 OK", "Connection: close\r\n", body(i + 1)));
    let outcome = load::run(&server.load(100)).unwrap();
    assert_eq!(outcome.failed(), 0);
    assert_eq!(outcome.connections, 100);
    assert_eq!(verify(&outcome.history.operations).unwrap().skipped, 0);
}

#[test]
fn an_answer_in_chunks_is_read_to_its_end() {
    let server = Server::start(|_, _| {
        Reaction::Raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             b\r\n{\"data\":{\"n\r\na\r\number\":1}}\r\n0\r\n\r\n",
        )
    });
    let outcome = load::run(&server.load(1)).unwrap();
    assert_eq!(outcome.history.operations[0].number, 1);
}

#[test]
fn services_that_share_a_sequence_are_proven_together() {
    let next = Arc::new(AtomicU64::new(1));
    let start = || {
        let next = Arc::clone(&next);
        Server::start(move |_, _| number(next.fetch_add(1, Ordering::SeqCst)))
    };
    let (one, other) = (start(), start());
    let options = Options {
        targets: vec![one.target(), other.target()],
        ..one.load(1_000)
    };
    let outcome = load::run(&options).unwrap();
    assert_eq!(verify(&outcome.history.operations).unwrap().skipped, 0);
    for server in 0..2 {
        let mut operations = outcome.history.operations.iter();
        assert!(operations.any(|o| o.connection % 2 == server));
    }
}

#[test]
fn services_that_count_for_themselves_are_caught() {
    let start = || Server::start(|i, _| number(i + 1));
    let (one, other) = (start(), start());
    let options = Options {
        targets: vec![one.target(), other.target()],
        ..one.load(100)
    };
    let outcome = load::run(&options).unwrap();
    let violation = verify(&outcome.history.operations).unwrap_err();
    assert_eq!(violation.kind(), "duplicate");
}

#[test]
fn an_ipv6_address_is_understood() {
    let Ok(probe) = TcpListener::bind("[::1]:0") else {
        return; // this machine has no IPv6
    };
    let address = probe.local_addr().unwrap();
    drop(probe);
    let server = Server::start_at(address, |i, _| number(i + 1));
    assert!(server.url().starts_with("http://[::1]:"));
    let outcome = load::run(&server.load(10)).unwrap();
    assert_eq!(outcome.history.operations.len(), 10);
}

#[test]
fn the_load_ends_when_its_time_is_up() {
    let server = Server::start(|i, _| number(i + 1));
    let options = Options {
        requests: None,
        duration: Some(Duration::from_millis(200)),
        ..server.load(1)
    };
    let outcome = load::run(&options).unwrap();
    assert_eq!(outcome.ending, Ending::Complete);
    assert!(outcome.elapsed >= Duration::from_millis(200));
    assert!(outcome.elapsed < Duration::from_secs(5));
    // What was under way was waited for: no number is missing.
    assert_eq!(verify(&outcome.history.operations).unwrap().skipped, 0);
}

#[test]
fn the_load_can_be_watched_and_stopped_and_is_proven_all_the_same() {
    let server = Server::start(|i, _| number(i + 1));
    let options = Options {
        requests: None,
        ..server.load(1)
    };
    let control = Control::default();
    let outcome = thread::scope(|scope| {
        let load = scope.spawn(|| load::run_with(&options, &control));
        let start = Instant::now();
        while control.answered() < 100 {
            assert!(start.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(1));
        }
        control.stop();
        load.join().unwrap().unwrap()
    });
    assert_eq!(outcome.ending, Ending::Stopped);
    assert_eq!(outcome.history.operations.len() as u64, control.answered());
    let summary = Summary::of_run(&outcome, Gaps::Forbidden);
    assert_eq!(summary.verdict, Verdict::Proven);
    assert!(summary.to_string().contains("stopped early"));
}
