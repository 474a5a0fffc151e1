//! What was aimed at, and what became of it.

use std::fmt::Write as _;

use crate::{
    results::{Results, Sample},
    spread::{Spread, digits},
};

/// Something to reach: a ratio of one figure to another, and its bound.
struct Target {
    what: &'static str,
    bound: Bound,
    value: Option<Spread>,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost};

/// All that was measured, as Markdown.
pub(crate) fn report(results: &Results) -> String {
    let mut text = String::from("# Results\n\n");
    for (name, value) in &results.machine {
        let _ = writeln!(text, "* {name}: {value}");
    }
    let Results {
        rounds, seconds, ..
    } = results;
    let _ = write!(
        text,
        "\n{rounds} interleaved rounds of {seconds} s after a warm-up; median (smallest–largest). A \
         ratio is taken within each round. HTTP: the measured server has core 0, generator and back \
         ends share core 1; access logs off. Stores: everything shares all cores.\n\n\
         | target | bound | measured | |\n|---|---|---|---|\n"
    );
    for Target { what, bound, value } in targets(results) {
        let (sign, limit) = match bound {
            AtMost(limit) => ("≤", limit),
            AtLeast(limit) => ("≥", limit),
        };
        let verdict = verdict(bound, value);
        let value = value.map_or_else(|| "not measured".to_owned(), |value| value.to_string());
        let _ = writeln!(text, "| {what} | {sign} {limit} | {value} | {verdict} |");
    }
    text.push_str(
        "\n| candidate | connections | requests/s | CPU µs a request | p50 µs | p99 µs | store \
         operations/s |\n|---|---|---|---|---|---|---|\n",
    );
    let mut seen = Vec::new();
    for sample in &results.samples {
        let cell = (sample.candidate.as_str(), sample.connections);
        if !seen.contains(&cell) {
            seen.push(cell);
            row(&mut text, results, sample);
        }
    }
    text.push('\n');
    for (name, value) in &results.facts {
        let _ = writeln!(text, "* {name}: {}", digits(*value));
    }
    for (name, proof) in &results.proofs {
        let _ = writeln!(text, "* {name}: {proof}, none twice and none out of order");
    }
    for missing in &results.missing {
        let _ = writeln!(text, "* not measured: {missing}");
    }
    text
}

fn verdict(bound: Bound, value: Option<Spread>) -> &'static str {
    let Some(value) = value else { return "" };
    let met = match bound {
        AtMost(limit) => value.median <= limit,
        AtLeast(limit) => value.median >= limit,
    };
    match (value.is_noisy(), met) {
        (true, _) => "too noisy to say",
        (false, true) => "met",
        (false, false) => "**missed**",
    }
}

fn row(text: &mut String, results: &Results, sample: &Sample) {
    let Sample {
        candidate,
        connections,
        ..
    } = sample;
    let figure = |of: fn(&Sample) -> f64| {
        let spread = Spread::of(&results.cell(candidate, *connections, of));
        spread.filter(|spread| spread.median > 0.0)
    };
    let shown = |of| figure(of).map_or_else(|| "–".to_owned(), |spread| spread.to_string());
    let _ = writeln!(
        text,
        "| {candidate} | {connections} | {} | {} | {} | {} | {} |",
        shown(|s| s.per_second),
        shown(|s| s.cpu_us),
        shown(|s| s.p50_us),
        shown(|s| s.p99_us),
        shown(|s| s.store_per_second.unwrap_or_default()),
    );
}

fn targets(results: &Results) -> Vec<Target> {
    let cpu = |s: &Sample| s.cpu_us;
    let rate = |s: &Sample| s.per_second;
    let ratio = |of: fn(&Sample) -> f64, above: &str, below: &str, connections: u32| {
        let [above, below] = [above, below].map(|name| results.cell(name, connections, of));
        Spread::of_ratio(&above, &below)
    };
    let fact = |name: &str| {
        Spread::of(
            &results
                .facts
                .get(name)
                .copied()
                .into_iter()
                .collect::<Vec<_>>(),
        )
    };
    let scaled = |spread: Option<Spread>, by: f64| spread.map(|spread| spread.times(by));
    let disk = results.facts.get("fdatasync p50, µs").copied();
    // What a request on the file takes longer than one in memory, in times of the disk's own.
    let [file, memory] = ["file", "memory"].map(|name| results.cell(name, 1, |s| s.p50_us));
    let beyond = disk.and_then(|disk| {
        let beyond = file
            .iter()
            .zip(&memory)
            .map(|(file, memory)| (file - memory) / disk);
        Spread::of(&beyond.collect::<Vec<_>>())
    });
    let target = |what, bound, value| Target { what, bound, value };
    vec![
        target(
            "P1 hello, CPU against the floor, 32 connections",
            AtMost(1.10),
            ratio(cpu, "hello", "floor", 32),
        ),
        target(
            "P1 hello, CPU against nginx, 32 connections",
            AtMost(1.00),
            ratio(cpu, "hello", "nginx", 32),
        ),
        target(
            "P2 persistence in memory, CPU against the floor, 32",
            AtMost(1.15),
            ratio(cpu, "memory", "floor", 32),
        ),
        target(
            "P3 chain, CPU against the floor, 32",
            AtMost(1.9),
            ratio(cpu, "chain", "floor", 32),
        ),
        target(
            "P3 chain, CPU against the floor, 256",
            AtMost(1.5),
            ratio(cpu, "chain", "floor", 256),
        ),
        target(
            "P3 chain, CPU against one call per request, 32",
            AtMost(0.45),
            ratio(cpu, "chain", "naive chain", 32),
        ),
        target(
            "P3 chain, CPU against one call per request, 256",
            AtMost(0.30),
            ratio(cpu, "chain", "naive chain", 256),
        ),
        target(
            "P4 chain, p50 against hello's, 1",
            AtMost(2.2),
            ratio(|s| s.p50_us, "chain", "hello", 1),
        ),
        target(
            "P5 file, requests/s against memory, 32",
            AtLeast(0.6),
            ratio(rate, "file", "memory", 32),
        ),
        target(
            "P5 file, requests/s against memory, 256",
            AtLeast(0.8),
            ratio(rate, "file", "memory", 256),
        ),
        target(
            "P5 file beyond memory at 1, in times of fdatasync",
            AtMost(2.0),
            beyond,
        ),
        target(
            "P6 Redis, requests/s against webdis, 64",
            AtLeast(2.0),
            ratio(rate, "redis", "webdis", 64),
        ),
        target(
            "P6 Redis, requests/s against webdis, 256",
            AtLeast(1.5),
            ratio(rate, "redis", "webdis", 256),
        ),
        target(
            "P6 Redis, CPU against webdis, 64",
            AtMost(0.5),
            ratio(cpu, "redis", "webdis", 64),
        ),
        target(
            "P6 Redis, requests/s against redis-benchmark, 64",
            AtLeast(0.9),
            ratio(rate, "redis", "redis-benchmark", 64),
        ),
        target(
            "P7 PostgreSQL, requests/s against UPDATE, 64",
            AtLeast(10.0),
            ratio(rate, "postgres", "pgbench UPDATE", 64),
        ),
        target(
            "P7 PostgreSQL, requests/s against nextval, 64",
            AtLeast(1.0),
            ratio(rate, "postgres", "pgbench nextval", 64),
        ),
        target(
            "P9 blocks of 1000 on file, million numbers/s",
            AtLeast(20.0),
            scaled(
                Spread::of(&results.cell("blocks of 1000 on file", 32, rate)),
                1000.0 / 1e6,
            ),
        ),
        target(
            "P12 hello, resident idle, MB",
            AtMost(4.0),
            fact("hello: resident idle, MB"),
        ),
        target(
            "P12 hash, resident idle, MB",
            AtMost(5.0),
            fact("hash: resident idle, MB"),
        ),
        target(
            "P12 persistence, resident idle, MB",
            AtMost(6.0),
            fact("persistence: resident idle, MB"),
        ),
        target(
            "P12 hello, resident at 1024 connections, MB",
            AtMost(25.0),
            fact("hello: resident loaded, MB"),
        ),
        target(
            "P12 hash, resident at 1024 connections, MB",
            AtMost(25.0),
            fact("hash: resident loaded, MB"),
        ),
        target(
            "P12 persistence, resident behind it, MB",
            AtMost(25.0),
            fact("persistence: resident loaded, MB"),
        ),
        target(
            "P13 hello, start to first answer, ms",
            AtMost(10.0),
            fact("hello_server: start, ms"),
        ),
        target(
            "P13 persistence, start to first answer, ms",
            AtMost(10.0),
            fact("persistence_server: start, ms"),
        ),
        target(
            "P13 hash, start to first answer, ms",
            AtMost(10.0),
            fact("hash_server: start, ms"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_missed_or_left_open() {
        let spread = |values: &[f64]| Spread::of(values);
        assert_eq!(verdict(AtMost(1.0), spread(&[0.9, 0.9])), "met");
        assert_eq!(verdict(AtMost(1.0), spread(&[1.1, 1.1])), "**missed**");
        assert_eq!(verdict(AtLeast(1.0), spread(&[1.1, 1.1])), "met");
        assert_eq!(
            verdict(AtLeast(1.0), spread(&[0.5, 1.0, 2.0])),
            "too noisy to say"
        );
        assert_eq!(verdict(AtLeast(1.0), None), "");
    }
}
