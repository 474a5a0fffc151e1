//! How the operations on a store grow with the requests: a formula, checked on the real coalescer.

mod estimate;
mod model;
mod simulation;

use model::{Coalesced, Level, Store, System};

/// Fails if `seen` is further than `within` (a part of it) from what is expected.
#[track_caller]
fn close(what: &str, seen: f64, expected: f64, within: f64) {
    let off = (seen / expected - 1.0).abs();
    assert!(off < within, "{what}: {seen}, not {expected}");
}

#[test]
fn one_coalescer_does_what_the_formula_says() {
    let trip = 100e-6;
    for come in [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0] {
        let rate = come / trip;
        let system = System {
            rate,
            levels: vec![Level::ONE],
            store: Store::new(0.0, trip),
        };
        let seen = simulation::run(&system);

        let formula = Coalesced { rate, trip };
        for (what, seen, formula, within) in [
            ("operations/s", seen.calls[0], formula.operations(), 0.02),
            ("mean", seen.mean(), formula.mean(), 0.01),
            ("p50", seen.quantile(0.5), formula.quantile(0.5), 0.02),
            // Where few wait at all, how long those do is a matter of luck.
            ("p99", seen.quantile(0.99), formula.quantile(0.99), 0.05),
        ] {
            let what = format!("{what} with {come} requests during a trip");
            close(&what, seen, formula, within);
        }
        assert!(seen.quantile(1.0) <= 2.0 * trip, "nobody waits for more");
    }
}

#[test]
fn levels_of_coalescers_do_what_the_formula_says() {
    let chains = estimate::ESTIMATES[..3].iter();
    let mut systems: Vec<System> = chains
        .map(|&(hash, persistence, (_, store))| estimate::chain(hash, persistence, store))
        .collect();
    // The workers of one process meet once more in front of its file.
    let mut joined = estimate::chain(8, 2, estimate::FILE.1);
    // They are other threads than the one that writes: they hear of its answer a moment later.
    joined.levels[1].trip = 1e-6;
    joined.levels.push(Level::ONE);
    systems.push(joined);
    // Here the CPU is what takes longest.
    systems.push(estimate::chain(80, 1, estimate::FILE.1));
    // And here the one row.
    systems.push(estimate::chain(20, 4, estimate::POSTGRES.1));
    for system in systems {
        let seen = simulation::run(&system.thinned());
        for (level, calls) in system.calls().into_iter().enumerate() {
            let what = format!("calls of level {level} of {system:?}");
            close(&what, seen.calls[level], calls, 0.05);
        }
    }
}

#[test]
fn a_long_way_back_costs_at_most_one_more_round_trip_of_the_worker() {
    for network in [100e-6, 200e-6, 300e-6] {
        let mut system = estimate::chain(10, 1, estimate::FILE.1);
        system.levels[0].trip = network;
        let seen = simulation::run(&system.thinned());
        let trips = system.trips();
        let [most, fewest] = [trips[0], trips[0] + trips[1]].map(|trip| 10.0 / trip);
        let calls = seen.calls[0];
        // The window is some trips long, and may cut one.
        assert!(
            (0.98 * fewest..1.02 * most).contains(&calls),
            "{calls} with {network} s"
        );
    }
}

#[test]
fn fewer_requests_stand_for_all_as_long_as_somebody_always_waits() {
    let system = estimate::chain(40, 1, estimate::REDIS.1);
    let fewer = system.thinned();
    assert!(fewer.rate < 0.2 * system.rate);
    let [all, some] = [&system, &fewer].map(simulation::run);
    for level in [0, 1] {
        close("calls", some.calls[level], all.calls[level], 0.02);
    }
    for quantile in [0.5, 0.99] {
        let [all, some] = [&all, &some].map(|seen| seen.quantile(quantile));
        close("a quantile", some, all, 0.02);
    }
}

#[test]
fn the_estimate_in_the_documentation_is_what_is_simulated() {
    let (document, table) = (
        include_str!("../../../docs/performance.md"),
        estimate::table(),
    );
    assert!(
        document.contains(&table),
        "the estimate in docs/performance.md should be:\n{table}"
    );
}
