//! All that was measured, as Markdown.

use std::fmt::Write as _;

use crate::{
    results::{PacedRun, Results, Sample},
    spread::digits,
    targets::{Bound, INCONCLUSIVE, MET, MISSED, NOT_MEASURED, Target, targets},
};

/// The whole report.
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
         ratio is taken within each round. A target is met or missed when the middle half of its \
         rounds is on one side of the bound; a figure is *noisy* when that half is further apart than \
         a tenth of it. HTTP: the measured server has core 0, generator and back ends share core 1; \
         access logs off. Stores: everything shares all cores.\n\n"
    );
    text.push_str(&target_table(targets(results).iter().flatten()));
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
    text.push_str(&latency_table(results));
    text.push('\n');
    text.push_str(&cost_table(results));
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

/// The part for the README: the machine, how many targets are met, and one target of each group.
pub(crate) fn summary(results: &Results) -> String {
    let fact = |name: &str| results.machine.get(name).map_or("unknown", String::as_str);
    let groups = targets(results);
    let all = || groups.iter().flatten();
    let count = |verdict| all().filter(|target| target.verdict() == verdict).count();
    let text = format!(
        "{} interleaved rounds of {} s on {}, {}, on {}, at commit {}. Of {} targets {} are met, {} \
         missed, {} inconclusive, {} not measured. One of each kind (CPU is time per request; a \
         bare responder is the least that answers HTTP):\n\n",
        results.rounds,
        results.seconds,
        fact("processor"),
        fact("kernel"),
        fact("date"),
        fact("commit"),
        all().count(),
        count(MET),
        count(MISSED),
        count(INCONCLUSIVE),
        count(NOT_MEASURED),
    );
    text + &target_table(groups.iter().filter_map(|group| group.first())) + "\n"
}

/// A row for each target.
fn target_table<'a>(targets: impl Iterator<Item = &'a Target>) -> String {
    let mut text = String::from("| target | bound | measured | |\n|---|---|---|---|\n");
    for target in targets {
        let Target { what, bound, value } = target;
        let bound = match bound {
            Bound::AtMost(limit) => format!("≤ {limit}"),
            Bound::AtLeast(limit) => format!("≥ {limit}"),
        };
        let value = value.map_or_else(|| "–".to_owned(), |value| value.to_string());
        let verdict = target.verdict();
        let _ = writeln!(text, "| {what} | {bound} | {value} | {verdict} |");
    }
    text
}

/// A row for each service at each load, in milliseconds.
fn latency_table(results: &Results) -> String {
    let mut text = String::from(
        "| open loop, 64 connections | requests/s | p50 ms | p90 ms | p99 ms | p99.9 ms \
         |\n|---|---|---|---|---|---|\n",
    );
    for run in results.paced_runs() {
        let PacedRun {
            candidate, load, ..
        } = run;
        let _ = write!(text, "| {candidate} at {load} % | {} |", run.per_second);
        for percentile in run.percentiles_ms {
            let _ = match run.kept_the_rate {
                true => write!(text, " {percentile} |"),
                false => write!(text, " the rate was not kept |"),
            };
        }
        text.push('\n');
    }
    text
}

/// What the test `cost` has recorded.
fn cost_table(results: &Results) -> String {
    let mut text =
        String::from("| per request, recorded | instructions | system calls |\n|---|---|---|\n");
    for (service, [instructions, calls]) in &results.costs {
        let _ = writeln!(text, "| {service} | {instructions:.0} | {calls} |");
    }
    text
}

fn row(text: &mut String, results: &Results, sample: &Sample) {
    let Sample {
        candidate,
        connections,
        ..
    } = sample;
    let figure = |of: fn(&Sample) -> f64| {
        let spread = results.spread(candidate, *connections, of);
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
        shown(Sample::operations),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Paced;

    #[test]
    fn a_rate_that_was_not_kept_gives_no_latency() {
        let paced = |load, per_second| Paced {
            candidate: "hello".to_owned(),
            load,
            round: 0,
            asked: 1000.0,
            per_second,
            percentiles_us: [1500.0; 4],
        };
        let results = Results {
            paced: vec![paced(50, 999.0), paced(80, 900.0)],
            ..Results::default()
        };
        let table = latency_table(&results);
        let row = |load| table.lines().find(|line| line.contains(load)).unwrap();
        assert!(row("50 %").contains("| 1.50 |"), "{table}");
        assert!(row("80 %").contains("not kept"), "{table}");
        assert!(!row("80 %").contains("1.50"), "{table}");
    }
}
