//! How soon the rate is back after an outage longer than a request may wait.

use std::{thread, time::Duration};

use checker::{Operation, client::Clock};
use e2e::{
    open_load,
    proxy::{Fault, Proxy},
    service::Builder,
    soak::{figure, scaled},
};

use super::backend::{Backend, Kind};
use crate::{
    proof::proven,
    started::{in_front_of, memory, ready},
};

super::on_every_store!(
    the_rate_is_back_soon_after_the_store_hung,
    the_rate_is_back_soon_after_the_store_refused,
    the_rate_is_back_soon_after_the_store_was_slow,
);

/// Shorter than the outage, so that requests expire in it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

const OUTAGE: Duration = Duration::from_secs(5);

/// Longer than a request and an attempt may take. Unlike what hangs, it takes what it is asked for.
const SLOW: Fault = Fault::Latency {
    delay: Duration::from_secs(4),
    jitter: Duration::ZERO,
};

/// More than can be waiting for an answer.
const CONNECTIONS: usize = 10_000;

/// How long to look on after the outage.
const AFTER: Duration = Duration::from_secs(8);

/// The rate is looked at in slots of this length.
const SLOT: Duration = Duration::from_millis(250);

/// A request that took longer was waiting for the store to come back.
const PROMPT: Duration = Duration::from_millis(500);

fn the_rate_is_back_soon_after_the_store_hung(kind: Kind) {
    after_an_outage_of_the_store(kind, Fault::BlackHole);
}

fn the_rate_is_back_soon_after_the_store_refused(kind: Kind) {
    after_an_outage_of_the_store(kind, Fault::Refuse);
}

fn the_rate_is_back_soon_after_the_store_was_slow(kind: Kind) {
    after_an_outage_of_the_store(kind, SLOW);
}

fn after_an_outage_of_the_store(kind: Kind, fault: Fault) {
    let Some(backend) = Backend::start(kind) else {
        return;
    };
    let proxy = Proxy::start(backend.addr());
    let name = format!("{kind:?}");
    recovers(&name, &proxy, fault, backend.client_at(proxy.addr()));
}

#[test]
fn the_rate_is_back_soon_after_persistence_hung() {
    after_an_outage_of_persistence(Fault::BlackHole);
}

#[test]
fn the_rate_is_back_soon_after_persistence_refused() {
    after_an_outage_of_persistence(Fault::Refuse);
}

#[test]
fn the_rate_is_back_soon_after_persistence_was_slow() {
    after_an_outage_of_persistence(SLOW);
}

fn after_an_outage_of_persistence(fault: Fault) {
    let persistence = memory();
    let proxy = Proxy::start(persistence.addr());
    let port = proxy.port().to_string();
    let hash = in_front_of(&persistence).env("PERSISTENCE_PORT", port);
    recovers("persistence", &proxy, fault, hash);
}

/// Takes the proxy's server away and looks how long its return takes to show in the rate.
#[track_caller]
fn recovers(name: &str, proxy: &Proxy, fault: Fault, client: Builder) {
    let timeout = REQUEST_TIMEOUT.as_millis().to_string();
    let service = ready(client.env("REQUEST_TIMEOUT_MS", timeout));
    let rate = u32::try_from(scaled(1000, 200)).expect("a small number");
    let runs = usize::try_from(scaled(20, 1)).expect("a small number");
    for round_trip in [1, 10, 50].into_iter().cycle().skip(1).take(runs) {
        let pass = Fault::Latency {
            delay: Duration::from_millis(round_trip),
            jitter: Duration::ZERO,
        };
        proxy.set(pass);
        let clock = Clock::start();
        let (load, back) = thread::scope(|scope| {
            let outage = scope.spawn(|| {
                thread::sleep(Duration::from_secs(1));
                proxy.set(fault);
                thread::sleep(OUTAGE);
                proxy.set(pass);
                let back = clock.now();
                thread::sleep(AFTER);
                back
            });
            let goes_on = || !outage.is_finished();
            let load = open_load::run(&service.public_url(), rate, CONNECTIONS, clock, goes_on);
            (load, outage.join().expect("it does not panic"))
        });
        let recovered = recovery(&load.history.operations, back, rate);
        let skipped = proven(&load).skipped;
        figure(format_args!(
            "{name}, {fault:?}, {round_trip} ms round trip: the rate is back after {recovered:.2?}, \
             {skipped} numbers skipped"
        ));
        // Noise of the machine may add some; the old luck took until requests had expired.
        let limit = Duration::from_secs(scaled(3, 6));
        let recovered = recovered.unwrap_or(AFTER);
        assert!(recovered <= limit, "{name}, {fault:?}: {recovered:?}");
        assert!(
            skipped <= u64::from(2 * rate),
            "{name}, {fault:?}: {skipped} numbers skipped"
        );
    }
}

/// From the end of the outage until nine tenths of the requests are answered promptly, for a second
/// at least.
fn recovery(answered: &[Operation], back: u64, rate: u32) -> Option<Duration> {
    let slots = usize::try_from(AFTER.as_millis() / SLOT.as_millis()).expect("few slots");
    let mut prompt = vec![0; slots];
    let is_prompt = |op: &&Operation| u128::from(op.received - op.sent) <= PROMPT.as_nanos();
    for answer in answered.iter().filter(is_prompt) {
        if let Some(since) = answer.sent.checked_sub(back)
            && let Some(count) = prompt.get_mut((u128::from(since) / SLOT.as_nanos()) as usize)
        {
            *count += 1;
        }
    }
    let enough = SLOT.as_secs_f64() * f64::from(rate) * 0.9;
    let is_back = |slots: &[u32]| slots.iter().all(|&count| f64::from(count) >= enough);
    let first = prompt.windows(4).position(is_back)?;
    // The first of those requests may have waited so long.
    Some(SLOT * u32::try_from(first).expect("few slots") + PROMPT)
}
