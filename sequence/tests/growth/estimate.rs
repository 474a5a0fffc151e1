//! Whole systems of 1, 10 and 1000 cores.

use crate::{
    model::{Coalesced, Level, Store, System},
    simulation,
};

/// What a worker of `hash_server` is given of the 100,000 requests that a core can take.
const REQUESTS: f64 = 70e3;

/// CPU time of `persistence_server` for a reservation, and the network's part in one.
const RESERVATION: f64 = 10e-6;
const NETWORK: f64 = 50e-6;

/// In line at the file: all of a commit; at Redis: CPU time, and a share in the flush that holds
/// up its thread; at Postgres: the commit, under the lock on the row.
pub(crate) const FILE: Kind = ("file", Store::new(150e-6, 0.0));
pub(crate) const REDIS: Kind = ("Redis", Store::new(20e-6, 280e-6));
pub(crate) const POSTGRES: Kind = ("PostgreSQL", Store::new(200e-6, 100e-6));

type Kind = (&'static str, Store);

/// Workers of `hash_server` and of `persistence_server`, on a store.
pub(crate) const ESTIMATES: [(usize, usize, Kind); 5] = [
    (1, 1, FILE),
    (10, 1, FILE),
    (10, 2, REDIS),
    (1000, 20, REDIS),
    (1000, 10, POSTGRES),
];

pub(crate) fn chain(hash: usize, persistence: usize, store: Store) -> System {
    let levels = vec![
        Level {
            workers: hash,
            cost: 0.0,
            trip: NETWORK,
        },
        Level {
            workers: persistence,
            cost: RESERVATION,
            trip: 0.0,
        },
    ];
    System {
        rate: REQUESTS * hash as f64,
        levels,
        store,
    }
}

pub(crate) fn table() -> String {
    let mut table = "\
        | cores of `hash_server` | store | cores of `persistence_server` | requests/s | \
        reservations/s | store operations/s | numbers in each | p50 ms | p99 ms |\n\
        |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (hash, persistence, (name, store)) in ESTIMATES {
        let system = chain(hash, persistence, store);
        let seen = simulation::run(&system.thinned());
        let [reservations, operations] = [0, 1].map(|level| {
            let [seen, formula] = [seen.calls[level], system.calls()[level]];
            format!("{} ({})", rate(seen), rate(formula))
        });
        let numbers = system.rate / seen.calls[1];
        let formula = Coalesced {
            rate: REQUESTS,
            trip: system.trips()[0],
        };
        let [p50, p99] = [0.5, 0.99].map(|quantile| {
            let [seen, formula] = [seen.quantile(quantile), formula.quantile(quantile)];
            format!("{:.2} ({:.2})", seen * 1e3, formula * 1e3)
        });
        table += &format!(
            "| {hash} | {name} | {persistence} | {} | {reservations} | {operations} | {numbers:.0} \
             | {p50} | {p99} |\n",
            rate(system.rate),
        );
    }
    table
}

/// Three digits of a rate: 5.56 k.
fn rate(per_second: f64) -> String {
    let (scaled, unit) = match per_second {
        ..1e3 => (per_second, ""),
        ..1e6 => (per_second / 1e3, " k"),
        _ => (per_second / 1e6, " M"),
    };
    let decimals = match scaled {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$}{unit}")
}
