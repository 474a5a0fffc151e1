//! What the coalescers of one process do, for its metrics, its log and its readiness.

use std::{
    iter::once,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::{info, warn};

use crate::{Block, Count, Error, Sequence};

/// A metric of a [`Monitor`]: name, description, and how to read it.
pub type Counter = (&'static str, &'static str, fn(&Monitor) -> u64);

/// A distribution that a [`Monitor`] keeps: name, description, and how to read its buckets, each
/// the upper bound and the count, and the sum.
pub type Distribution = (&'static str, &'static str, fn(&Monitor) -> Buckets);

/// The buckets of a histogram, by upper bound, and the sum of all values.
pub type Buckets = (Vec<(f64, u64)>, f64);

/// Counts what the coalescers of one process do. A clone shares the counts.
#[derive(Clone, Debug, Default)]
pub struct Monitor(Arc<State>);

#[derive(Debug, Default)]
struct State {
    batches: AtomicU64,
    numbers: AtomicU64,
    failures: AtomicU64,
    refused: AtomicU64,
    sizes: Histogram,
    waits: Histogram,
    durations: Histogram,
    last_error: Mutex<Option<Error>>,
}

impl Monitor {
    /// What it counts.
    pub const COUNTERS: [Counter; 4] = [
        (
            "sequence_batches",
            "Reservations that succeeded, each for all requests that were waiting",
            |monitor| monitor.0.batches.load(Ordering::Relaxed),
        ),
        ("sequence_numbers", "Numbers reserved", |monitor| {
            monitor.0.numbers.load(Ordering::Relaxed)
        }),
        (
            "sequence_failed_batches",
            "Reservations that failed or were abandoned, and are tried again",
            |monitor| monitor.0.failures.load(Ordering::Relaxed),
        ),
        (
            "sequence_refused_requests",
            "Requests refused at once, because MAX_IN_FLIGHT were waiting",
            |monitor| monitor.0.refused.load(Ordering::Relaxed),
        ),
    ];

    /// How what it counts is distributed.
    pub const DISTRIBUTIONS: [Distribution; 3] = [
        (
            "sequence_batch_requests",
            "Requests that shared a reservation",
            |monitor| monitor.0.sizes.read(&POWERS_OF_TWO, 1.0),
        ),
        (
            "sequence_queue_wait_seconds",
            "Time from the arrival of a request until its reservation was sent",
            |monitor| monitor.0.waits.read(&NANOSECONDS, 1e-9),
        ),
        (
            "sequence_reservation_duration_seconds",
            "Time that a reservation took that succeeded",
            |monitor| monitor.0.durations.read(&NANOSECONDS, 1e-9),
        ),
    ];

    /// Forgets the last error: a reservation has succeeded.
    pub fn recovered(&self) {
        if self.lock().take().is_some() {
            info!("reservations recovered");
        }
    }

    /// Makes sure that reservations work. After a failure only a reservation shows that, so one
    /// number is taken then, which becomes a gap; before, none.
    ///
    /// # Errors
    ///
    /// Why they still fail.
    pub async fn confirm(&self, sequence: &impl Sequence) -> Result<(), Error> {
        if self.lock().is_none() {
            return Ok(());
        }
        match sequence.reserve(Count::ONE).await {
            // A sequence at its end works, too.
            Ok(_) | Err(Error::Exhausted) => {
                self.recovered();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// A reservation has succeeded, after `duration`, for requests that had waited for these times.
    pub(crate) fn reserved(
        &self,
        block: Block,
        duration: Duration,
        waits: impl ExactSizeIterator<Item = Duration>,
    ) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.sizes.add(&POWERS_OF_TWO, once(waits.len() as u64));
        self.0.waits.add(&NANOSECONDS, waits.map(nanoseconds));
        self.0
            .durations
            .add(&NANOSECONDS, once(nanoseconds(duration)));
        self.0.batches.fetch_add(1, Ordering::Relaxed);
        let numbers = u64::from(block.count().get());
        self.0.numbers.fetch_add(numbers, Ordering::Relaxed);
    }

    /// A request found no place in the queue.
    pub(crate) fn refused(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The log gets one line at the first failure and one at the recovery, however many callers
    /// wait in between.
    pub(crate) fn failed(&self, error: &Error) {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        if self.lock().replace(error.clone()).is_none() {
            warn!(reason = error.chain(), "reservation failed, retrying");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Error>> {
        // The value is replaced whole, so a panic elsewhere cannot have left it half written.
        self.0
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many bounds each histogram has.
const BOUNDS: usize = 14;

/// Bounds for requests.
const POWERS_OF_TWO: [u64; BOUNDS] = [
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192,
];

/// Bounds for times: 50 us to 10 s.
const NANOSECONDS: [u64; BOUNDS] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];

/// How values are distributed. The workers share it: they add a batch at a time.
#[derive(Debug, Default)]
struct Histogram {
    counts: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

impl Histogram {
    fn add(&self, bounds: &[u64; BOUNDS], values: impl Iterator<Item = u64>) {
        let (mut sum, mut bucket, mut count) = (0_u64, 0, 0);
        for value in values {
            let next = bounds.partition_point(|&bound| bound < value);
            if next != bucket {
                self.counts[bucket].fetch_add(count, Ordering::Relaxed);
                (bucket, count) = (next, 0);
            }
            count += 1;
            sum = sum.wrapping_add(value);
        }
        self.counts[bucket].fetch_add(count, Ordering::Relaxed);
        self.sum.fetch_add(sum, Ordering::Relaxed);
    }

    fn read(&self, bounds: &[u64; BOUNDS], unit: f64) -> Buckets {
        let bounds = bounds.iter().map(|&bound| bound as f64 * unit);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        (
            bounds.chain([f64::INFINITY]).zip(counts).collect(),
            self.sum.load(Ordering::Relaxed) as f64 * unit,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_below_the_bound_that_they_do_not_exceed() {
        let histogram = Histogram::default();
        histogram.add(&POWERS_OF_TWO, [1, 2, 3, 4, 10_000].into_iter());
        histogram.add(&POWERS_OF_TWO, once(4));
        let (buckets, sum) = histogram.read(&POWERS_OF_TWO, 0.5);
        let filled: Vec<_> = buckets
            .into_iter()
            .filter(|&(_, count)| count > 0)
            .collect();
        assert_eq!(filled, [(0.5, 1), (1.0, 1), (2.0, 3), (f64::INFINITY, 1)]);
        assert_eq!(sum, 10_014.0 / 2.0);
    }

    #[test]
    fn no_order_of_failures_and_recoveries_leaves_an_error_behind() {
        let monitor = Monitor::default();
        let worker = || {
            for _ in 0..50_000 {
                monitor.failed(&Error::TimedOut);
                monitor.recovered();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(worker);
            scope.spawn(worker);
        });
        monitor.recovered();
        assert!(monitor.lock().is_none(), "it would stay for ever");
        monitor.failed(&Error::TimedOut);
        assert!(monitor.lock().is_some());
    }
}
