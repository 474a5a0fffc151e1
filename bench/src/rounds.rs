//! Interleaved rounds: A B C A B C, so that what changes meanwhile changes for all.

use std::net::SocketAddr;

use e2e::metrics::metric;

use crate::{
    Plan,
    candidate::cpu,
    generator::{Seen, Wrk, pgbench, redis_benchmark},
    puts::puts,
    results::Sample,
};

/// One candidate under one load.
pub(crate) struct Cell {
    pub(crate) candidate: &'static str,
    pub(crate) connections: u32,
    /// Whose time counts.
    pub(crate) pids: Vec<u32>,
    /// Where to ask how often the store was asked.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) load: Load,
}

/// What makes the requests.
pub(crate) enum Load {
    Wrk(Wrk),
    RedisBenchmark(u16),
    Pgbench(u16, &'static str),
    Puts(String),
}

const STORE_OPERATIONS: &str = "sequence_store_operations_total";

/// Runs all cells in turn, again and again, after a short warm-up.
pub(crate) fn run(cells: &[Cell], plan: Plan) -> Result<Vec<Sample>, String> {
    let Plan {
        rounds,
        seconds,
        warm_up,
        ..
    } = plan;
    let mut samples = Vec::new();
    for cell in cells {
        if let Load::Wrk(wrk) = &cell.load {
            wrk.run(warm_up)?;
        }
    }
    for round in 0..rounds {
        for cell in cells {
            samples.push(cell.measure(round, seconds)?);
        }
    }
    Ok(samples)
}

impl Cell {
    fn measure(&self, round: u32, seconds: f64) -> Result<Sample, String> {
        let operations = || self.admin.map(|admin| metric(admin, STORE_OPERATIONS));
        let before = (cpu(&self.pids), operations());
        let seen = self.generate(seconds)?;
        let after = (cpu(&self.pids), operations());
        let spent = after.0.saturating_sub(before.0).as_secs_f64() * 1e6;
        let store = before
            .1
            .zip(after.1)
            .map(|(before, after)| (after - before) as f64);
        Ok(Sample {
            candidate: self.candidate.to_owned(),
            connections: self.connections,
            round,
            per_second: seen.requests / seen.seconds,
            cpu_us: spent / seen.requests,
            p50_us: seen.p50_us,
            p99_us: seen.p99_us,
            store_per_second: store.map(|store| store / seen.seconds),
        })
    }

    fn generate(&self, seconds: f64) -> Result<Seen, String> {
        match &self.load {
            Load::Wrk(wrk) => wrk.run(seconds),
            Load::RedisBenchmark(port) => {
                let requests = 40_000.0 * seconds;
                redis_benchmark(*port, self.connections, requests as u32)
            }
            Load::Puts(endpoint) => puts(endpoint, self.connections, seconds),
            Load::Pgbench(port, statement) => pgbench(*port, statement, self.connections, seconds),
        }
    }
}
