//! The whole chain in one process and in virtual time: clients, `hash_server`'s client over a network
//! that delays, cuts and breaks, coalescers and ratchets, and a store that fails, hangs and loses
//! writes. A seed draws what happens and when; the checker judges what the clients got.
//!
//! `SEED=N cargo test -p e2e --test simulation` runs one seed.

mod chain;
mod mutant;
mod network;
mod replica;
mod store;

use std::{
    env,
    num::NonZero,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use e2e::soak::{figure, scaled};

use crate::{
    chain::{Seen, run},
    mutant::Mutant,
};

/// Far more than any mutant needs.
const SEEDS_FOR_A_MUTANT: u64 = 2_000;

#[test]
fn no_history_breaks_the_promise_and_nothing_hangs() {
    if let Ok(seed) = env::var("SEED") {
        let seed = seed.parse().expect("SEED is a number");
        run(seed, None).unwrap_or_else(|error| panic!("{error}"));
        return;
    }
    let (seeds, next) = (scaled(500_000, 10_000), AtomicU64::new(0));
    let work = || {
        let mut all = Seen::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return all;
            }
            let seen = run(seed, None).unwrap_or_else(|error| {
                panic!("{error}\nagain: SEED={seed} cargo test -p e2e --test simulation")
            });
            all.answered += seen.answered;
            all.failed += seen.failed;
        }
    };
    let all = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let each = threads
            .into_iter()
            .map(|thread| thread.join().expect("no violation"));
        each.fold(Seen::default(), |all, seen| Seen {
            answered: all.answered + seen.answered,
            failed: all.failed + seen.failed,
        })
    });
    figure(format_args!("simulation: {seeds} seeds, {all:?}"));
    let asked = all.answered + all.failed;
    assert!(
        all.answered > asked / 2 && all.failed > asked / 100,
        "{all:?}"
    );
}

#[test]
fn every_broken_invariant_is_found() {
    for mutant in Mutant::ALL {
        let found = (0..SEEDS_FOR_A_MUTANT).find(|&seed| run(seed, Some(mutant)).is_err());
        let seed = found.unwrap_or_else(|| panic!("{mutant:?} breaks nothing"));
        figure(format_args!(
            "simulation: {mutant:?} is found with seed {seed}"
        ));
    }
}
