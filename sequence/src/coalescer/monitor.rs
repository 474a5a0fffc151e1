//! What the coalescers of one process have done, and whether it works.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tracing::{info, warn};

use crate::{Block, Error};

/// Counts what the coalescers of one process do. A clone shares the counts.
#[derive(Clone, Debug, Default)]
pub struct Monitor(Arc<State>);

#[derive(Debug, Default)]
struct State {
    batches: AtomicU64,
    numbers: AtomicU64,
    failures: AtomicU64,
    /// Read on every batch, so that the common case takes no lock.
    in_trouble: AtomicBool,
    trouble: Mutex<Option<Error>>,
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
    pub fn trouble(&self) -> Option<Error> {
        self.lock().clone()
    }

    pub(super) fn succeeded(&self, block: Block) {
        self.0.batches.fetch_add(1, Ordering::Relaxed);
        let numbers = u64::from(block.count().get());
        self.0.numbers.fetch_add(numbers, Ordering::Relaxed);
        self.recovered();
    }

    /// Ends the trouble, if there is any: somebody has seen that numbers can be reserved.
    pub fn recovered(&self) {
        if self.0.in_trouble.load(Ordering::Relaxed) && self.lock().take().is_some() {
            self.0.in_trouble.store(false, Ordering::Relaxed);
            info!("numbers can be reserved again");
        }
    }

    /// The log gets one line when trouble begins and one when it ends, however many callers
    /// wait in between.
    pub(super) fn failed(&self, error: &Error) {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        if self.lock().replace(error.clone()).is_none() {
            self.0.in_trouble.store(true, Ordering::Relaxed);
            warn!(reason = error.chain(), "numbers cannot be reserved");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Error>> {
        // The value is replaced whole, so a panic elsewhere cannot have left it half written.
        self.0
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
