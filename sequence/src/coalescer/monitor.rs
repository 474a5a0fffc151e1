//! What the coalescers of one process have done, and whether reservations work.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tracing::{info, warn};

use crate::{Block, Count, Error, Sequence};

/// Counts what the coalescers of one process do. A clone shares the counts.
#[derive(Clone, Debug, Default)]
pub struct Monitor(Arc<State>);

#[derive(Debug, Default)]
struct State {
    batches: AtomicU64,
    numbers: AtomicU64,
    failures: AtomicU64,
    last_error: Mutex<Option<Error>>,
}

impl Monitor {
    /// Reservations that succeeded, each for all callers that were waiting.
    pub fn batches(&self) -> u64 {
        self.0.batches.load(Ordering::Relaxed)
    }

    /// Numbers in those reservations.
    pub fn numbers(&self) -> u64 {
        self.0.numbers.load(Ordering::Relaxed)
    }

    /// Reservations that failed or were abandoned.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// Why the latest reservation of some worker failed, if none has succeeded since.
    pub fn last_error(&self) -> Option<Error> {
        self.lock().clone()
    }

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
        if self.last_error().is_none() {
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

    pub(super) fn reserved(&self, block: Block) {
        self.0.batches.fetch_add(1, Ordering::Relaxed);
        let numbers = u64::from(block.count().get());
        self.0.numbers.fetch_add(numbers, Ordering::Relaxed);
    }

    /// The log gets one line at the first failure and one at the recovery, however many callers
    /// wait in between.
    pub(super) fn failed(&self, error: &Error) {
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn no_order_of_failures_and_recoveries_leaves_an_error_behind() {
        let monitor = Monitor::default();
        let worker = || {
            for _ in 0..50_000 {
                monitor.failed(&Error::TimedOut);
                monitor.recovered();
            }
        };
        thread::scope(|scope| {
            scope.spawn(worker);
            scope.spawn(worker);
        });
        monitor.recovered();
        assert!(monitor.last_error().is_none(), "it would stay for ever");
        monitor.failed(&Error::TimedOut);
        assert!(monitor.last_error().is_some());
    }
}
