//! How long the answers took.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Operation;

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
    pub(super) fn of(operations: &[Operation]) -> Option<Self> {
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
