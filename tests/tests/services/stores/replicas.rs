//! Three replicas of `persistence_server` that share a store.

use checker::load;
use e2e::{
    service::Service,
    soak::{figure, scaled},
};

use super::backend::{Backend, Kind};
use crate::{
    proof::{Longest, any_moment, options, proven, under_load, until_it_serves},
    started::{hash, ready},
};

super::on_every_store!(
    three_replicas_behind_front_ends_are_one_sequence,
    no_number_is_repeated_when_replicas_are_killed_at_random_moments,
);

fn replicas(backend: &Backend) -> [Service; 3] {
    std::array::from_fn(|_| ready(backend.client()))
}

fn three_replicas_behind_front_ends_are_one_sequence(kind: Kind) {
    let Some(backend) = Backend::start(kind) else {
        return;
    };
    let fronts = replicas(&backend).map(|replica| (hash(&replica), replica));
    let requests = scaled(200_000, 20_000);
    let options = options(fronts.iter().map(|(front, _)| front), requests);
    let outcome = load::run(&options).expect("a load");
    let proof = proven(&outcome);
    assert_eq!(outcome.failed(), 0, "{:?}", outcome.failures);
    assert_eq!(proof.skipped, 0, "there is no gap while nothing fails");
    let rate = proof.numbers as f64 / outcome.elapsed.as_secs_f64();
    figure(format_args!(
        "{kind:?}: {} numbers over 3 replicas, 0 violations, {rate:.0}/s",
        proof.numbers
    ));
}

fn no_number_is_repeated_when_replicas_are_killed_at_random_moments(kind: Kind) {
    let Some(backend) = Backend::start(kind) else {
        return;
    };
    let mut replicas = replicas(&backend);
    let load = options(&replicas, 0);
    let kills = scaled(200, 10);
    let mut longest = Longest::default();
    let outcome = under_load(load, || {
        for _ in 0..kills {
            any_moment();
            let victim = fastrand::choice(&mut replicas).expect("a replica");
            victim.kill9();
            victim.restart();
            longest.note(until_it_serves(victim));
        }
    });
    let proof = proven(&outcome);
    assert!(
        outcome.lost() > 0,
        "the kills must have hit requests: {:?}",
        outcome.failures
    );
    let numbers = proof.numbers;
    figure(format_args!(
        "{kind:?}: {kills} kills, {numbers} numbers, serving after {longest}"
    ));
}
