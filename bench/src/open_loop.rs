//! Latency under a load that does not wait for the answers: `oha` sends requests at a fixed rate,
//! and counts the time from when each was due.
//!
//! The rates are shares of what the pair of server and generator can do, which `oha` itself finds
//! out first, without a fixed rate.

use std::path::PathBuf;

use e2e::{
    launch::{Launch, find},
    service::Service,
};
use serde::Deserialize;

use crate::{
    Plan,
    candidate::OTHERS,
    generator::{limit, on},
    results::{Paced, Results},
    spread::Spread,
};

const CONNECTIONS: u32 = 64;

/// Shares of the capacity, in percent.
const LOADS: [u32; 2] = [50, 80];

/// Measures these services.
pub(crate) fn measure(
    services: &[(&str, &Service)],
    plan: Plan,
    results: &mut Results,
) -> Result<(), String> {
    let mut capacities = vec![Vec::new(); services.len()];
    for _ in 0..plan.rounds {
        for ((_, service), capacities) in services.iter().zip(&mut capacities) {
            let said = oha(&service.public_url(), None, plan.seconds)?;
            capacities.push(said.summary.requests_per_sec);
        }
    }
    for round in 0..plan.rounds {
        for ((name, service), capacities) in services.iter().zip(&capacities) {
            let capacity = Spread::of(capacities).map_or(0.0, |spread| spread.median);
            for load in LOADS {
                let asked = (capacity * f64::from(load) / 100.0).round();
                let said = oha(&service.public_url(), Some(asked), plan.seconds)?;
                let Percentiles {
                    p50,
                    p90,
                    p99,
                    p99_9,
                } = said.latency_percentiles;
                results.paced.push(Paced {
                    candidate: (*name).to_owned(),
                    load,
                    round,
                    asked,
                    per_second: said.summary.requests_per_sec,
                    percentiles_us: [p50, p90, p99, p99_9].map(|seconds| seconds * 1e6),
                });
            }
        }
    }
    Ok(())
}

/// Where `oha` is: `scripts/bench-tools` puts it beside what is built.
pub(crate) fn program() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench/tools/bin/oha");
    find("oha").unwrap_or_else(|| built.into())
}

/// What `oha` prints, as far as it is of use here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    summary: Summary,
    latency_percentiles: Percentiles,
    status_code_distribution: serde_json::Map<String, serde_json::Value>,
    error_distribution: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    requests_per_sec: f64,
}

/// In seconds.
#[derive(Deserialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p99_9: f64,
}

/// Makes requests at a rate, or without one as fast as answers come.
///
/// # Errors
///
/// If any request was not answered with 200.
fn oha(url: &str, rate: Option<f64>, seconds: f64) -> Result<Said, String> {
    let mut oha = Launch::new(program())
        .args(["--no-tui", "--output-format", "json"])
        .args(["-c", &CONNECTIONS.to_string()])
        .args(["-z", &format!("{:.0}ms", seconds * 1e3)])
        .arg("--wait-ongoing-requests-after-deadline");
    if let Some(rate) = rate {
        oha = oha.args(["-q", &rate.to_string(), "--latency-correction"]);
    }
    let output = on(oha.arg(url), OTHERS).try_run_to_end(limit(seconds))?;
    let text = output.success()?;
    let said: Said = serde_json::from_str(&text).map_err(|e| format!("oha said {text}: {e}"))?;
    let statuses: Vec<&String> = said.status_code_distribution.keys().collect();
    if statuses != ["200"] || !said.error_distribution.is_empty() {
        let errors = &said.error_distribution;
        return Err(format!("{url}: statuses {statuses:?}, errors {errors:?}"));
    }
    Ok(said)
}
