//! Stores with several members, whose leader goes away.

use e2e::{
    proxy::Proxy,
    service::Service,
    skip,
    soak::{figure, scaled},
    store::{
        etcd::{self, Etcd},
        redis::{self, Redis},
    },
};

use crate::{
    proof::{Longest, any_moment, options, proven, under_load, until_it_serves},
    started::ready,
};

#[test]
fn no_number_is_repeated_when_a_redis_replica_takes_over() {
    if skip::unless(Redis::available()) {
        return;
    }
    let rounds = scaled(50, 3);
    let mut primary = Redis::start();
    let mut replica = replica_of(&primary);
    let proxy = Proxy::start(primary.addr());
    let service = ready(
        Service::builder("persistence_server")
            .env("STORE", "redis")
            .env("REDIS_PORT", proxy.port().to_string())
            .env("REDIS_REQUIRE_DURABLE", "true")
            .env("REDIS_MIN_REPLICAS", "1"),
    );
    let mut longest = Longest::default();
    let outcome = under_load(options([&service], 0), || {
        for _ in 0..rounds {
            any_moment();
            primary.kill9();
            replica.promote();
            proxy.redirect(replica.addr());
            proxy.cut();
            let next = replica_of(&replica);
            primary = std::mem::replace(&mut replica, next);
            longest.note(until_it_serves(&service));
        }
    });
    let numbers = proven(&outcome).numbers;
    assert!(numbers > 100, "{numbers}");
    figure(format_args!(
        "Redis: {rounds} fail-overs, {numbers} numbers, serving after {longest}"
    ));
}

fn replica_of(primary: &Redis) -> Redis {
    Redis::start_with(redis::Options {
        replica_of: Some(primary.addr()),
        ..redis::Options::default()
    })
}

#[test]
fn no_number_is_repeated_when_the_leader_of_etcd_is_killed_or_hangs() {
    if skip::unless(Etcd::available()) {
        return;
    }
    let rounds = scaled(50, 3);
    let mut etcd = Etcd::start_with(etcd::Options {
        members: 3,
        ..etcd::Options::default()
    });
    let replicas: [Service; 2] = std::array::from_fn(|_| {
        let service = Service::builder("persistence_server").env("STORE", "etcd");
        ready(service.env("ETCD_ENDPOINTS", etcd.endpoints()))
    });
    let mut longest = Longest::default();
    let outcome = under_load(options(&replicas, 0), || {
        for round in 0..rounds {
            any_moment();
            let leader = etcd.leader();
            let paused = round % 2 == 1;
            if paused {
                etcd.pause(leader);
            } else {
                etcd.kill9(leader);
            }
            for replica in &replicas {
                longest.note(until_it_serves(replica));
            }
            if paused {
                etcd.resume(leader);
            } else {
                etcd.restart(leader);
            }
            etcd.wait_ready();
        }
    });
    let numbers = proven(&outcome).numbers;
    assert!(numbers > 100, "{numbers}");
    figure(format_args!(
        "etcd: {rounds} leaders lost, {numbers} numbers, serving after {longest}"
    ));
}
