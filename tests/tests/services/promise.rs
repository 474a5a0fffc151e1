//! The promise: no number twice and none out of order, whoever is killed.

use std::{
    thread,
    time::{Duration, Instant},
};

use checker::load::{self, Control, Options, Outcome};
use e2e::{http, service::Service, wait};

use crate::started::{file, hash, memory, metric};

/// How much of a proof to run: all of it in a soak, else enough to see it work.
fn scaled(full: u64, ci: u64) -> u64 {
    if std::env::var("SOAK").is_ok_and(|soak| soak == "full") {
        full
    } else {
        ci
    }
}

fn options(service: &Service, requests: u64) -> Options {
    Options {
        requests: Some(requests),
        ..Options::new(service.public_url().parse().expect("a URL"))
    }
}

#[track_caller]
fn proven(outcome: &Outcome) -> checker::Proof {
    assert!(outcome.wrong.is_empty(), "{:?}", outcome.wrong);
    match checker::verify(&outcome.history.operations) {
        Ok(proof) => proof,
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn a_million_numbers_in_memory_are_in_order_and_without_a_gap() {
    let persistence = memory();
    let outcome = load::run(&options(&persistence, scaled(1_000_000, 50_000))).unwrap();
    assert_eq!(proven(&outcome).skipped, 0);
    assert_eq!(outcome.failed(), 0, "{:?}", outcome.failures);
}

#[test]
fn a_million_numbers_on_file_are_in_order_and_share_their_writes() {
    let (persistence, _dir) = file();
    let outcome = load::run(&options(&persistence, scaled(1_000_000, 50_000))).unwrap();
    assert_eq!(proven(&outcome).skipped, 0);
    assert_eq!(outcome.failed(), 0, "{:?}", outcome.failures);
    let numbers = metric(&persistence, "sequence_numbers_total");
    let writes = metric(&persistence, "sequence_store_operations_total");
    assert!(
        writes * 4 < numbers,
        "{writes} writes for {numbers} numbers"
    );
}

#[test]
fn a_million_hashes_are_right_and_their_numbers_are_in_order() {
    let (persistence, _dir) = file();
    let hash = hash(&persistence);
    let outcome = load::run(&options(&hash, scaled(1_000_000, 50_000))).unwrap();
    assert_eq!(proven(&outcome).skipped, 0);
    assert_eq!(outcome.hashes, outcome.history.operations.len() as u64);
    assert_eq!(outcome.failed(), 0, "{:?}", outcome.failures);
}

#[test]
fn numbers_through_two_front_ends_and_directly_are_one_sequence() {
    let persistence = memory();
    let fronts = [hash(&persistence), hash(&persistence)];
    let mut options = options(&persistence, 20_000);
    options.targets.extend(
        fronts
            .iter()
            .map(|front| front.public_url().parse().expect("a URL")),
    );
    let outcome = load::run(&options).unwrap();
    assert_eq!(proven(&outcome).skipped, 0);
}

#[test]
fn blocks_of_numbers_are_in_order_and_without_a_gap() {
    let (persistence, _dir) = file();
    let mut options = options(&persistence, 10_000);
    options.count = 1000;
    let proof = proven(&load::run(&options).unwrap());
    assert_eq!(proof.skipped, 0);
}

/// Kills persistence at random moments while `target` is under load.
fn kill_under_load(persistence: &mut Service, target: Options, kills: u64) -> Outcome {
    let load = Options {
        requests: None,
        keep_trying: Duration::from_secs(30),
        ..target
    };
    let control = Control::default();
    thread::scope(|scope| {
        let load = scope.spawn(|| load::run_with(&load, &control).unwrap());
        for _ in 0..kills {
            thread::sleep(Duration::from_millis(fastrand::u64(50..600)));
            persistence.kill9();
            let begin = Instant::now();
            persistence.restart();
            let addr = persistence.addr();
            wait::until(
                "a number after the restart",
                Duration::from_secs(10),
                || {
                    http::get(addr, "/")
                        .ok()
                        .filter(|answer| answer.status == 200)
                },
            );
            assert!(
                begin.elapsed() < Duration::from_secs(5),
                "{:?}",
                begin.elapsed()
            );
        }
        thread::sleep(Duration::from_millis(300));
        control.stop();
        load.join().expect("the load does not panic")
    })
}

#[test]
fn no_number_is_repeated_when_persistence_is_killed_at_random_moments() {
    let (mut persistence, _dir) = file();
    let target = options(&persistence, 0);
    let outcome = kill_under_load(&mut persistence, target, scaled(50, 8));
    let proof = proven(&outcome);
    assert!(
        outcome.lost() > 0,
        "the kills must have hit requests: {:?}",
        outcome.failures
    );
    assert!(proof.numbers > 1000, "{proof:?}");
}

#[test]
fn a_front_end_loses_no_request_while_persistence_is_killed() {
    let (mut persistence, _dir) = file();
    let hash = hash(&persistence);
    let outcome = kill_under_load(&mut persistence, options(&hash, 0), scaled(50, 5));
    proven(&outcome);
    assert_eq!(
        outcome.failed(),
        0,
        "requests wait for the restart: {:?}",
        outcome.failures
    );
}
