//! A service that breaks the promise is found out over HTTP.

use checker::Violation;
use checker::load::{self, Failure, Outcome};
use checker::summary::{Gaps, Summary, Verdict};
use checker::verify;

use crate::server::{Reaction, Server, number, ok};

/// Lets a service answer so many requests that its lie comes in the middle.
fn outcome(react: impl Fn(u64, &str) -> Reaction + Send + Sync + 'static) -> Outcome {
    load::run(&Server::start(react).load(200)).unwrap()
}

fn proven_wrong(react: impl Fn(u64, &str) -> Reaction + Send + Sync + 'static) -> Violation {
    let outcome = outcome(react);
    let summary = Summary::of_run(&outcome, Gaps::Allowed);
    assert_eq!(summary.verdict, Verdict::Violation);
    verify(&outcome.history.operations).unwrap_err()
}

#[test]
fn a_number_handed_out_twice_is_found() {
    let violation = proven_wrong(|i, _| number(if i == 150 { 17 } else { i + 1 }));
    assert!(matches!(violation, Violation::Duplicate { number: 17, .. }));
    assert_eq!(violation.to_string(), "number 17 was handed out twice");
}

#[test]
fn a_number_that_was_held_back_is_found() {
    // 50 was kept in a pocket while a hundred others were handed out.
    let violation = proven_wrong(|i, _| {
        number(match i {
            0..49 => i + 1,
            150 => 50,
            _ => i + 2,
        })
    });
    let Violation::Stale { larger, smaller } = violation else {
        panic!("{violation}");
    };
    assert_eq!(smaller.number, 50);
    assert!(larger.number > 50);
    assert!(larger.received < smaller.sent);
}

#[test]
fn numbers_outside_the_range_are_found() {
    for wrong in [0, 1 << 53, u64::MAX] {
        let violation = proven_wrong(move |i, _| number(if i == 100 { wrong } else { i + 1 }));
        assert!(matches!(violation, Violation::OutOfRange(o) if o.number == wrong));
    }
}

#[test]
fn a_wrong_hash_is_found() {
    let outcome = outcome(|i, _| {
        let number = i + 1;
        ok(format!(r#"{{"data":{{"number":{number},"hash":"6b86"}}}}"#))
    });
    assert_eq!(outcome.wrong_answers, 200);
    assert!(outcome.wrong.len() <= 10, "not all of them are kept");
    let Violation::WrongHash { expected, .. } = &outcome.wrong[0] else {
        panic!("{}", outcome.wrong[0]);
    };
    assert_eq!(expected.len(), 64);
    let summary = Summary::of_run(&outcome, Gaps::Allowed);
    assert_eq!(summary.verdict, Verdict::Violation);
    assert!(summary.to_string().contains("SHA-256"));
}

#[test]
fn a_block_of_another_size_is_found() {
    let outcome = outcome(|i, _| {
        let number = 2 * i + 1;
        ok(format!(r#"{{"data":{{"number":{number},"count":2}}}}"#))
    });
    assert_eq!(outcome.wrong[0].kind(), "wrong_count");
    assert_eq!(
        outcome.wrong[0].to_string(),
        "a block of 1 was asked for, and a block of 2 came"
    );
}

#[test]
fn a_success_without_a_number_is_found_and_asked_again() {
    let outcome = outcome(|i, _| match i {
        100 => ok("Hello, World!\n".to_owned()),
        101 => ok(r#"{"data":{"number":-1}}"#.to_owned()),
        _ => number(i + 1),
    });
    assert_eq!(outcome.history.operations.len(), 200);
    assert_eq!(outcome.wrong_answers, 2);
    assert_eq!(outcome.failures[&Failure::NoNumber].count, 2);
    let said: Vec<String> = outcome.wrong.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|s| s.contains("Hello, World!")), "{said:?}");
}

#[test]
fn skipped_numbers_are_a_violation_on_demand() {
    let outcome = outcome(|i, _| number(if i < 100 { i + 1 } else { i + 2 }));
    let allowed = Summary::of_run(&outcome, Gaps::Allowed);
    assert_eq!(allowed.verdict, Verdict::Proven);
    assert_eq!(allowed.skipped, Some(1));
    let forbidden = Summary::of_run(&outcome, Gaps::Forbidden);
    assert_eq!(forbidden.verdict, Verdict::Violation);
    assert_eq!(forbidden.violations[0].what, "number 101 was skipped");
    assert_eq!(forbidden.violations[0].operations.len(), 2);
}
