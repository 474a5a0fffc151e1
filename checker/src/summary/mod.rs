//! What is said in the end: to people as text, to programs as JSON.

mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::{Ending, Outcome};
use crate::{History, Operation, Violation, verify};

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
    pub fn of_history(history: History, gaps: Gaps) -> Self {
        let start = history.operations.iter().map(|o| o.sent).min();
        let end = history.operations.iter().map(|o| o.received).max();
        let elapsed = end.unwrap_or(0).saturating_sub(start.unwrap_or(0));
        let outcome = Outcome {
            history,
            elapsed: Duration::from_nanos(elapsed),
            ..Outcome::default()
        };
        Self::of_run(&outcome, gaps)
    }

    /// Proves what a run brought and sums it up.
    pub fn of_run(outcome: &Outcome, gaps: Gaps) -> Self {
        let operations = &outcome.history.operations;
        let proof = verify(operations).and_then(|proof| match gaps {
            Gaps::Allowed => Ok(proof),
            Gaps::Forbidden => proof.without_gaps(),
        });
        let broken = proof.as_ref().err().into_iter().chain(&outcome.wrong);
        let violations: Vec<_> = broken.map(Finding::of).collect();
        let verdict = match outcome.ending {
            _ if !violations.is_empty() => Verdict::Violation,
            Ending::TooManyFailures => Verdict::TooManyFailures,
            Ending::GaveUp => Verdict::GaveUp,
            Ending::Complete | Ending::Stopped if operations.is_empty() => Verdict::GaveUp,
            Ending::Complete | Ending::Stopped => Verdict::Proven,
        };
        let proof = proof.ok();
        let range = proof.as_ref().and_then(|proof| proof.range);
        let seconds = outcome.elapsed.as_secs_f64();
        let failures = outcome.failures.iter().map(|(kind, failure)| FailureLine {
            kind: kind.to_string(),
            count: failure.count,
            example: failure.example.clone(),
        });
        Self {
            verdict,
            violations,
            wrong_answers: outcome.wrong_answers,
            operations: operations.len() as u64,
            numbers: operations.iter().map(|o| u64::from(o.count)).sum(),
            lowest: range.map(|(lowest, _)| lowest),
            highest: range.map(|(_, highest)| highest),
            skipped: proof.map(|proof| proof.skipped),
            seconds,
            per_second: match seconds > 0.0 {
                true => operations.len() as f64 / seconds,
                false => 0.0,
            },
            latency_ms: Latency::of(operations),
            failed: outcome.failed(),
            failures: failures.collect(),
            without_result: outcome.lost(),
            served_by: outcome.served_by.clone(),
            hashes: outcome.hashes,
            connections: outcome.connections,
            stopped_early: outcome.ending == Ending::Stopped,
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

/// Whether skipped numbers break the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// Right as soon as something may fail: a failure skips numbers.
    Allowed,
    /// Right while nothing fails, no client hangs up and nothing else sends requests.
    Forbidden,
}

/// The result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All that was answered keeps the promise.
    Proven,
    /// The promise is broken.
    Violation,
    /// More requests failed than were allowed. What was answered keeps the promise.
    TooManyFailures,
    /// Nothing was answered any more, or ever. What was answered keeps the promise.
    GaveUp,
}

impl Verdict {
    /// What the process exits with: 0 proven, 1 violation or too many failures, 3 gave up.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Proven => 0,
            Self::Violation | Self::TooManyFailures => 1,
            Self::GaveUp => 3,
        }
    }
}

/// Longer times, in nanoseconds, count as this: an hour, which no timeout comes near.
const LONGEST: u64 = 3_600_000_000_000;

/// Times from sending a request to having its answer, in milliseconds, exact to three digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Latency {
    /// Of all operations; none if there are none.
    fn of(operations: &[Operation]) -> Option<Self> {
        if operations.is_empty() {
            return None;
        }
        let mut histogram = Histogram::<u64>::new_with_max(LONGEST, 3).expect("in its limits");
        for operation in operations {
            histogram.saturating_record(operation.received.saturating_sub(operation.sent));
        }
        let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Some(Self {
            min: ms(histogram.min()),
            mean: histogram.mean() / 1e6,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(histogram.max()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(took: u64) -> Operation {
        Operation {
            sent: 7,
            received: 7 + took,
            number: 1,
            count: 1,
            connection: 0,
            run: 0,
        }
    }

    #[test]
    fn percentiles_are_those_of_the_operations() {
        let operations: Vec<_> = (1..=1_000).map(|ms| operation(ms * 1_000_000)).collect();
        let latency = Latency::of(&operations).unwrap();
        for (measured, expected) in [
            (latency.min, 1.0),
            (latency.mean, 500.5),
            (latency.p50, 500.0),
            (latency.p90, 900.0),
            (latency.p99, 990.0),
            (latency.p999, 999.0),
            (latency.max, 1000.0),
        ] {
            let error = (measured - expected).abs();
            assert!(error <= expected * 0.001, "{latency:?}");
        }
    }

    #[test]
    fn the_longest_and_the_shortest_times_are_counted_too() {
        assert_eq!(Latency::of(&[]), None);
        let latency = Latency::of(&[operation(0), operation(u64::MAX - 7)]).unwrap();
        assert_eq!(latency.min, 0.0);
        assert!(latency.max >= 3_600_000.0);
    }
}
