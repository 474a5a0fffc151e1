//! What is said in the end: to people as text, to programs as JSON.

mod latency;
mod text;
mod verdict;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::{Ending, Outcome};
use crate::{History, Operation, Proof, Violation, verify};

pub use latency::Latency;
pub use verdict::{Gaps, Verdict};

/// Everything worth knowing about a run. `Display` prints it as text.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The result.
    pub verdict: Verdict,
    /// What breaks the promise: what the proof found, and the first of the answers that are wrong
    /// in themselves.
    pub violations: Vec<Finding>,
    /// How many answers are wrong in themselves: more than are listed, if there are many.
    pub wrong_answers: u64,
    /// Requests that were answered with numbers.
    pub operations: u64,
    /// Numbers that came with them.
    pub numbers: u64,
    /// The smallest number; none if nothing was answered or the proof failed.
    pub lowest: Option<u64>,
    /// The largest number; none if nothing was answered or the proof failed.
    pub highest: Option<u64>,
    /// Numbers between these that were not handed out; none if the proof failed.
    pub skipped: Option<u64>,
    /// How long it took.
    pub seconds: f64,
    /// Requests answered with numbers in a second.
    pub per_second: f64,
    /// How long they took; none if nothing was answered.
    pub latency_ms: Option<Latency>,
    /// Requests that failed.
    pub failed: u64,
    /// The same by kind.
    pub failures: Vec<FailureLine>,
    /// Requests that were sent and never answered: it is unknown whether they took numbers.
    pub without_result: u64,
    /// Answers by the value of their `X-Served-By`.
    pub served_by: BTreeMap<String, u64>,
    /// Hashes that were recomputed.
    pub hashes: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// Whether it was stopped early.
    pub stopped_early: bool,
}

/// A violation, as it is reported.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// One word: see [`Violation::kind`].
    pub kind: &'static str,
    /// One sentence.
    pub what: String,
    /// The operations that show it; times are in nanoseconds since the start.
    pub operations: Vec<Operation>,
}

/// How often one kind of failure happened.
#[derive(Clone, Debug, Serialize)]
pub struct FailureLine {
    /// The status, or what happened to the connection.
    pub kind: String,
    /// How many requests failed like this.
    pub count: u64,
    /// What the service or the system said the first time; may be empty.
    pub example: String,
}

impl Summary {
    /// Proves a recorded history and sums it up.
    pub fn of_history(history: &History, gaps: Gaps) -> Self {
        let mut summary = Self::prove(history, gaps, &[]);
        let start = history.operations.iter().map(|o| o.sent).min();
        let end = history.operations.iter().map(|o| o.received).max();
        summary.set_time(end.unwrap_or(0).saturating_sub(start.unwrap_or(0)) as f64 / 1e9);
        if history.operations.is_empty() {
            summary.verdict = Verdict::GaveUp;
        }
        summary
    }

    /// Proves what a run brought and sums it up.
    pub fn of_run(outcome: &Outcome, gaps: Gaps) -> Self {
        let mut summary = Self::prove(&outcome.history, gaps, &outcome.wrong);
        summary.set_time(outcome.elapsed.as_secs_f64());
        if summary.verdict == Verdict::Proven {
            summary.verdict = match outcome.ending {
                Ending::TooManyFailures => Verdict::TooManyFailures,
                Ending::GaveUp => Verdict::GaveUp,
                Ending::Complete | Ending::Stopped if summary.operations == 0 => Verdict::GaveUp,
                Ending::Complete | Ending::Stopped => Verdict::Proven,
            };
        }
        let failures = outcome.failures.iter().map(|(kind, failure)| FailureLine {
            kind: kind.to_string(),
            count: failure.count,
            example: failure.example.clone(),
        });
        Self {
            wrong_answers: outcome.wrong_answers,
            failed: outcome.failed(),
            failures: failures.collect(),
            without_result: outcome.lost(),
            served_by: outcome.served_by.clone(),
            hashes: outcome.hashes,
            connections: outcome.connections,
            stopped_early: outcome.ending == Ending::Stopped,
            ..summary
        }
    }

    fn prove(history: &History, gaps: Gaps, wrong: &[Violation]) -> Self {
        let operations = &history.operations;
        let proof = verify(operations).and_then(|proof| match gaps {
            Gaps::Allowed => Ok(proof),
            Gaps::Forbidden => proof.without_gaps(),
        });
        let broken = proof.as_ref().err().into_iter().chain(wrong);
        let violations: Vec<_> = broken.map(Finding::of).collect();
        let proof = proof.ok();
        let range = proof.as_ref().and_then(|proof: &Proof| proof.range);
        Self {
            verdict: if violations.is_empty() {
                Verdict::Proven
            } else {
                Verdict::Violation
            },
            violations,
            wrong_answers: 0,
            operations: operations.len() as u64,
            numbers: operations.iter().map(|o| u64::from(o.count)).sum(),
            lowest: range.map(|(lowest, _)| lowest),
            highest: range.map(|(_, highest)| highest),
            skipped: proof.map(|proof| proof.skipped),
            seconds: 0.0,
            per_second: 0.0,
            latency_ms: Latency::of(operations),
            failed: 0,
            failures: Vec::new(),
            without_result: 0,
            served_by: BTreeMap::new(),
            hashes: 0,
            connections: 0,
            stopped_early: false,
        }
    }

    fn set_time(&mut self, seconds: f64) {
        self.seconds = seconds;
        if seconds > 0.0 {
            self.per_second = self.operations as f64 / seconds;
        }
    }
}

impl Finding {
    fn of(violation: &Violation) -> Self {
        Self {
            kind: violation.kind(),
            what: violation.to_string(),
            operations: violation.operations(),
        }
    }
}
