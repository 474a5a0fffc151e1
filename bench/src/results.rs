//! What a run brings to light, as it is written to `bench/results/`.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

/// One run of the whole.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Results {
    /// What it was measured on: processor, kernel, versions of everything, commit, date.
    pub(crate) machine: BTreeMap<String, String>,
    /// Rounds of each cell, and seconds of each round.
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) samples: Vec<Sample>,
    /// Figures that stand alone, by name.
    pub(crate) facts: BTreeMap<String, f64>,
    /// What the checker said: service, and its verdict.
    pub(crate) proofs: BTreeMap<String, String>,
    /// What could not be measured here, and why.
    pub(crate) missing: Vec<String>,
}

/// One candidate in one round.
#[derive(Clone, Debug, Serialize)]
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

impl Results {
    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))
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
}
