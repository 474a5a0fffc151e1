//! A store that goes away and comes back.

use std::time::{Duration, Instant};

use e2e::{
    http,
    service::Service,
    soak::{figure, scaled},
    wait,
};

use super::backend::{Backend, Kind};
use crate::{
    proof::{Longest, any_moment, options, proven, under_load, until_it_serves},
    started::{in_front_of, is_ready, not_ready_because, ready},
};

super::on_every_store!(
    no_number_is_repeated_when_the_store_is_killed_under_load,
    readiness_follows_a_store_that_is_killed,
    readiness_follows_a_store_that_hangs,
    a_store_that_comes_late_is_waited_for,
);

fn no_number_is_repeated_when_the_store_is_killed_under_load(kind: Kind) {
    let Some(mut backend) = Backend::start(kind) else {
        return;
    };
    let replicas: [Service; 2] = std::array::from_fn(|_| ready(backend.client()));
    let kills = scaled(50, 5);
    let mut longest = Longest::default();
    let outcome = under_load(options(&replicas, 0), || {
        for _ in 0..kills {
            any_moment();
            backend.kill9();
            backend.restart();
            for replica in &replicas {
                longest.note(until_it_serves(replica));
            }
        }
    });
    let numbers = proven(&outcome).numbers;
    assert!(numbers > 500, "{numbers}");
    assert!(
        replicas.iter().all(Service::alive),
        "nobody restarts for that"
    );
    figure(format_args!(
        "{kind:?}: store killed {kills} times, {numbers} numbers, serving after {longest}"
    ));
}

/// Waits for readiness to become `up`, and tells how long that took.
#[track_caller]
fn until_readiness_is(up: bool, service: &Service) -> Duration {
    let begin = Instant::now();
    wait::until("readiness to follow", Duration::from_secs(20), || {
        (is_ready(service) == up).then_some(())
    });
    assert_eq!(
        http::get(service.admin_addr(), "/livez").unwrap().status,
        200
    );
    begin.elapsed()
}

fn readiness_follows_a_store_that_is_killed(kind: Kind) {
    let Some(mut backend) = Backend::start(kind) else {
        return;
    };
    let service = ready(backend.client());
    // Its clients do not ask it for a number meanwhile.
    let front = ready(in_front_of(&service));
    backend.kill9();
    let down = until_readiness_is(false, &service);
    until_readiness_is(false, &front);
    let reason = not_ready_because(&service).expect("a reason");
    assert!(reason.contains("refused"), "{reason}");
    assert!(
        reason.contains(&backend.addr().port().to_string()),
        "{reason}"
    );
    backend.restart();
    let up = until_readiness_is(true, &service);
    until_readiness_is(true, &front);
    let answer = http::get(front.addr(), "/").unwrap();
    assert_eq!(answer.json()["data"]["number"], 1, "no check took a number");
    figure(format_args!(
        "{kind:?} killed: not ready after {down:.1?}, ready {up:.1?} after its return"
    ));
}

fn readiness_follows_a_store_that_hangs(kind: Kind) {
    let Some(backend) = Backend::start(kind) else {
        return;
    };
    let service = ready(backend.client());
    backend.pause();
    let down = until_readiness_is(false, &service);
    backend.resume();
    let up = until_readiness_is(true, &service);
    figure(format_args!(
        "{kind:?} hangs: not ready after {down:.1?}, ready {up:.1?} after it goes on"
    ));
}

fn a_store_that_comes_late_is_waited_for(kind: Kind) {
    let Some(mut backend) = Backend::start(kind) else {
        return;
    };
    backend.kill9();
    let service = backend.client().start();
    wait::until("a reason", Duration::from_secs(10), || {
        not_ready_because(&service).filter(|reason| reason.contains("refused"))
    });
    backend.restart();
    until_readiness_is(true, &service);
    let answer = http::get(service.addr(), "/").unwrap();
    assert_eq!(answer.json()["data"]["number"], 1);
}
