//! The promise: no number twice and none out of order, whoever is killed.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use checker::load;
use e2e::{
    http,
    metrics::metric,
    service::Service,
    soak::{figure, scaled},
    wait,
};

use crate::{
    proof::{Longest, any_moment, options, proven, under_load, until_it_serves},
    started::{SOON, file, hash, in_front_of, memory, not_ready_because, ready},
};

/// Runs a load that nothing disturbs, and proves it.
#[track_caller]
fn undisturbed(what: &str, targets: &[&Service], requests: u64) {
    let outcome = load::run(&options(targets.iter().copied(), requests)).expect("a load");
    assert_eq!(outcome.failed(), 0, "{:?}", outcome.failures);
    let proof = proven(&outcome);
    assert_eq!(proof.skipped, 0, "there is no gap while nothing fails");
    let rate = proof.numbers as f64 / outcome.elapsed.as_secs_f64();
    figure(format_args!(
        "{what}: {} numbers, 0 violations, {rate:.0}/s",
        proof.numbers
    ));
}

#[test]
fn a_million_numbers_in_memory_are_in_order_and_without_a_gap() {
    undisturbed("memory", &[&memory()], scaled(1_000_000, 50_000));
}

#[test]
fn a_million_numbers_on_file_are_in_order_and_share_their_writes() {
    let (persistence, _dir) = file();
    undisturbed("file", &[&persistence], scaled(1_000_000, 50_000));
    let numbers = metric(persistence.admin_addr(), "sequence_numbers_total");
    let writes = metric(persistence.admin_addr(), "sequence_store_operations_total");
    figure(format_args!("file: {writes} writes for {numbers} numbers"));
    assert!(
        writes * 4 < numbers,
        "{writes} writes for {numbers} numbers"
    );
}

#[test]
fn a_million_hashes_are_right_and_their_numbers_are_in_order() {
    let (on_file, _dir) = file();
    for (what, persistence) in [("hash on file", on_file), ("hash on memory", memory())] {
        undisturbed(what, &[&hash(&persistence)], scaled(1_000_000, 30_000));
    }
}

#[test]
fn numbers_through_two_front_ends_and_directly_are_one_sequence() {
    let persistence = memory();
    let fronts = [hash(&persistence), hash(&persistence)];
    undisturbed(
        "two fronts",
        &[&persistence, &fronts[0], &fronts[1]],
        20_000,
    );
}

#[test]
fn blocks_of_numbers_are_in_order_and_without_a_gap() {
    let (persistence, _dir) = file();
    let mut options = options([&persistence], 10_000);
    options.count = 1000;
    assert_eq!(proven(&load::run(&options).unwrap()).skipped, 0);
}

/// Kills persistence at random moments and starts it again.
fn kill_again_and_again(persistence: &mut Service, kills: u64) {
    let mut longest = Longest::default();
    for _ in 0..kills {
        any_moment();
        persistence.kill9();
        let begin = Instant::now();
        persistence.restart();
        until_it_serves(persistence);
        longest.note(begin.elapsed());
    }
    figure(format_args!(
        "{kills} kills; first number at most {longest} after the restart began"
    ));
}

#[test]
fn no_number_is_repeated_when_persistence_is_killed_at_random_moments() {
    let (mut persistence, _dir) = file();
    let load = options([&persistence], 0);
    let outcome = under_load(load, || {
        kill_again_and_again(&mut persistence, scaled(50, 8))
    });
    let proof = proven(&outcome);
    assert!(
        outcome.lost() > 0,
        "the kills must have hit requests: {:?}",
        outcome.failures
    );
    assert!(proof.numbers > 1000, "{proof:?}");
}

#[test]
fn front_ends_repeat_no_number_when_persistence_lost_all_of_them() {
    let (mut persistence, dir) = file();
    let front = || in_front_of(&persistence).env("REQUEST_TIMEOUT_MS", "500");
    let fronts = [ready(front()), ready(front())];
    let outcome = load::run(&options([&fronts[0]], 100)).expect("a load");
    assert_eq!(proven(&outcome).numbers, 100);
    // Long enough for the idle one to learn of them from its check.
    thread::sleep(Duration::from_millis(2500));

    persistence.kill9();
    for file in dir.path().read_dir().expect("a directory") {
        fs::remove_file(file.expect("an entry").path()).expect("a file of ours");
    }
    persistence.restart();
    for front in &fronts {
        wait::until("the loss to be noticed", SOON, || {
            let answer = http::get(front.addr(), "/").expect("an answer");
            assert_ne!(answer.status, 200, "{}", answer.text());
            not_ready_because(front).filter(|reason| reason.contains("SEQUENCE_FLOOR=1000000100"))
        });
    }
    // Past what was lost, they go on.
    http::get(persistence.addr(), "/?count=200").expect("an answer");
    for front in &fronts {
        until_it_serves(front);
    }
}

#[test]
fn a_front_end_loses_no_request_while_persistence_is_killed() {
    let (mut persistence, _dir) = file();
    let hash = hash(&persistence);
    let outcome = under_load(options([&hash], 0), || {
        kill_again_and_again(&mut persistence, scaled(50, 5))
    });
    proven(&outcome);
    assert_eq!(
        outcome.failed(),
        0,
        "requests wait for the restart: {:?}",
        outcome.failures
    );
}
