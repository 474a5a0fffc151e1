//! What a run brings to light, as it is written and kept.

use std::collections::BTreeMap;

use checker::load::{self, Options};
use e2e::service::Service;
use serde::{Deserialize, Serialize};

use crate::spread::Spread;

/// The name of the fact that the file store is held against.
pub(crate) const FDATASYNC: &str = "fdatasync p50, µs";

/// Below this share of the rate that was asked for, it was not kept.
const KEPT: f64 = 0.97;

/// One run of the whole.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Results {
    /// What it was measured on: processor, kernel, versions of everything, commit, date.
    pub(crate) machine: BTreeMap<String, String>,
    /// Rounds of each cell, and seconds of each round.
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) samples: Vec<Sample>,
    /// Latencies at a fixed rate of requests.
    pub(crate) paced: Vec<Paced>,
    /// Figures that stand alone, by name.
    pub(crate) facts: BTreeMap<String, f64>,
    /// User instructions and system calls per request, as the test `cost` recorded them.
    pub(crate) costs: BTreeMap<String, [f64; 2]>,
    /// What the checker said: service, and its verdict.
    pub(crate) proofs: BTreeMap<String, String>,
    /// What could not be measured here, and why.
    pub(crate) missing: Vec<String>,
}

/// One candidate in one round.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Sample {
    pub(crate) candidate: String,
    pub(crate) connections: u32,
    pub(crate) round: u32,
    pub(crate) per_second: f64,
    /// User and system time per request, of the server and of what stands behind it.
    pub(crate) cpu_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Operations on the store per second, where there is one that counts.
    pub(crate) store_per_second: Option<f64>,
}

impl Sample {
    /// Operations on the store per second; 0 where nothing counts them.
    pub(crate) fn operations(&self) -> f64 {
        self.store_per_second.unwrap_or_default()
    }
}

/// One candidate at a fixed rate of requests in one round.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Paced {
    pub(crate) candidate: String,
    /// Share of the capacity, in percent.
    pub(crate) load: u32,
    pub(crate) round: u32,
    /// Requests per second that were to be made, and that were.
    pub(crate) asked: f64,
    pub(crate) per_second: f64,
    /// p50, p90, p99 and p99.9.
    pub(crate) percentiles_us: [f64; 4],
}

/// All rounds of one candidate at one rate.
#[derive(Clone, Debug)]
pub(crate) struct PacedRun<'a> {
    pub(crate) candidate: &'a str,
    pub(crate) load: u32,
    pub(crate) per_second: Spread,
    /// Whether the requests were made as fast as they were to be; if not, the latencies say
    /// nothing.
    pub(crate) kept_the_rate: bool,
    /// p50, p90, p99 and p99.9.
    pub(crate) percentiles_ms: [Spread; 4],
}

impl Results {
    pub(crate) fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("not results: {error}"))
    }

    pub(crate) fn to_json(&self) -> Result<String, String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        Ok(text + "\n")
    }

    /// The day of the run.
    pub(crate) fn date(&self) -> Result<&str, String> {
        let date = self.machine.get("date");
        date.map(String::as_str)
            .ok_or("a run without a date".to_owned())
    }

    /// A figure of one cell, in the order of the rounds.
    pub(crate) fn cell(
        &self,
        candidate: &str,
        connections: u32,
        figure: impl Fn(&Sample) -> f64,
    ) -> Vec<f64> {
        self.samples
            .iter()
            .filter(|s| s.candidate == candidate && s.connections == connections)
            .map(figure)
            .collect()
    }

    /// A figure of one cell; none where it was not measured.
    pub(crate) fn spread(
        &self,
        candidate: &str,
        connections: u32,
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<Spread> {
        Spread::of(&self.cell(candidate, connections, figure))
    }

    /// The rounds at a fixed rate, together for each candidate and load.
    pub(crate) fn paced_runs(&self) -> Vec<PacedRun<'_>> {
        let first_round = self.paced.iter().filter(|paced| paced.round == 0);
        let runs = first_round.filter_map(|first| {
            let rounds = self.paced.iter();
            let rounds = rounds.filter(|p| p.candidate == first.candidate && p.load == first.load);
            let rounds: Vec<&Paced> = rounds.collect();
            let spread = |of: &dyn Fn(&Paced) -> f64| {
                let values: Vec<f64> = rounds.iter().map(|paced| of(paced)).collect();
                Spread::of(&values)
            };
            let kept = spread(&|paced| paced.per_second / paced.asked)?;
            let percentile = |place: usize| spread(&|paced| paced.percentiles_us[place] / 1e3);
            Some(PacedRun {
                candidate: &first.candidate,
                load: first.load,
                per_second: spread(&|paced| paced.per_second)?,
                kept_the_rate: kept.median >= KEPT,
                percentiles_ms: [
                    percentile(0)?,
                    percentile(1)?,
                    percentile(2)?,
                    percentile(3)?,
                ],
            })
        });
        runs.collect()
    }

    /// Asks a service for so many numbers, and notes that they were proven.
    ///
    /// # Errors
    ///
    /// If a request fails or a number breaks the promise.
    pub(crate) fn prove(
        &mut self,
        name: &str,
        service: &Service,
        numbers: u64,
        connections: u16,
    ) -> Result<(), String> {
        let mut options = Options::new(service.public_url().parse().map_err(|e| format!("{e}"))?);
        options.connections = connections;
        options.requests = Some(numbers);
        let outcome = load::run(&options).map_err(|error| error.to_string())?;
        if outcome.failed() > 0 {
            return Err(format!("requests failed: {:?}", outcome.failures));
        }
        let proof = checker::verify(&outcome.history.operations);
        let proof = proof.map_err(|violation| violation.to_string())?;
        let said = format!("{} numbers at {connections} connections", proof.numbers);
        self.proofs.insert(name.to_owned(), said);
        Ok(())
    }
}
