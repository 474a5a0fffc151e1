//! Servers that die, and others that take their place.

use std::{net::SocketAddr, thread::sleep, time::Duration};

use e2e::{
    Fault, Proxy,
    store::{Redis, redis::Options},
};
use sequence::Sequence;

use crate::{
    load::{Load, Naive, Taken, fault},
    server, skipped,
};

/// Takes numbers while the server is killed and started again, some times.
fn numbers_over_restarts<S: Sequence + 'static>(
    appendonly: bool,
    open: impl Fn(SocketAddr) -> S + Send + 'static,
) -> Vec<Taken> {
    let mut redis = Redis::start_with(Options {
        appendonly,
        ..Options::default()
    });
    let addr = redis.addr();
    let load = Load::start(8, move || open(addr));
    for _ in 0..5 {
        load.wait_for(100);
        redis.kill9();
        sleep(Duration::from_millis(50));
        redis.restart();
    }
    load.wait_for(100);
    load.finish()
}

#[test]
fn a_server_killed_again_and_again_under_load_repeats_nothing() {
    if skipped() {
        return;
    }
    let numbers = numbers_over_restarts(true, |addr| {
        let server = server(addr.port(), &[("REDIS_REQUIRE_DURABLE", "true")]);
        server.clone()
    });
    assert_eq!(fault(numbers), None);
}

#[test]
fn without_its_log_a_server_repeats_and_the_test_sees_it() {
    if skipped() {
        return;
    }
    let numbers = numbers_over_restarts(false, |addr| server(addr.port(), &[]).clone());
    let fault = fault(numbers).expect("it begins again at 1");
    assert!(fault.contains("twice"), "{fault}");
}

/// Takes numbers while the replica falls behind, the primary is killed and the replica is
/// promoted in its place.
fn numbers_over_a_failover<S: Sequence + 'static>(
    open: impl Fn(SocketAddr) -> S + Send + 'static,
) -> Vec<Taken> {
    let primary = Redis::start();
    let link = Proxy::start(primary.addr());
    let mut replica = Redis::start_with(Options {
        replica_of: Some(link.addr()),
        ..Options::default()
    });
    let front = Proxy::start(primary.addr());
    let addr = front.addr();
    let load = Load::start(8, move || open(addr));
    load.wait_for(200);
    // The replica falls behind. Suspending it would not do: what was sent to it meanwhile waits
    // in the kernel, and it would still read that.
    link.set(Fault::BlackHole);
    // Long enough for callers to learn that a write was not confirmed.
    sleep(Duration::from_millis(1500));
    primary.kill9();
    replica.promote();
    // The new primary needs somebody to confirm its writes.
    let _next = Redis::start_with(Options {
        replica_of: Some(replica.addr()),
        ..Options::default()
    });
    front.redirect(replica.addr());
    load.wait_for(200);
    load.finish()
}

#[test]
fn a_failover_repeats_nothing_when_a_replica_confirms_each_write() {
    if skipped() {
        return;
    }
    let numbers = numbers_over_a_failover(|addr| {
        let variables = [
            ("REDIS_REQUIRE_DURABLE", "true"),
            ("REDIS_MIN_REPLICAS", "1"),
        ];
        server(addr.port(), &variables).clone()
    });
    assert_eq!(fault(numbers), None);
}

#[test]
fn a_failover_repeats_with_plain_incrby_and_the_test_sees_it() {
    if skipped() {
        return;
    }
    let fault = fault(numbers_over_a_failover(Naive)).expect("the replica was behind");
    assert!(fault.contains("twice"), "{fault}");
}
