//! Many callers, one reservation in flight.

mod driver;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::{info, warn};

use crate::{Block, Count, Error, Sequence};

/// Bounds on what a [`Coalescer`] lets its callers and its sequence do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a caller waits before it gets an error. Failed attempts are repeated until then.
    pub deadline: Duration,

    /// How long one call of [`Sequence::reserve`] may take before it is abandoned.
    pub attempt: Duration,

    /// How many callers may wait at the same time; the next one gets [`Error::Overloaded`].
    pub waiting: usize,
}

impl Limits {
    /// Attempts of two seconds: a caller with a deadline of a few seconds gets several.
    pub const fn new(deadline: Duration, waiting: usize) -> Self {
        Self {
            deadline,
            attempt: Duration::from_secs(2),
            waiting,
        }
    }
}

/// Lets many callers on one thread share one reservation at a time.
///
/// While a reservation is in flight, callers queue; when it returns, the next one asks for
/// exactly as many numbers as are waiting. So every number is reserved between the arrival of
/// its request and its answer, which keeps the sequence linearizable over any number of
/// replicas, and an idle system waits for nothing. Under load the batches grow by themselves.
///
/// A clone is a handle to the same queue and costs two reference counts.
#[derive(Clone, Debug)]
pub struct Coalescer {
    arrivals: mpsc::UnboundedSender<Waiter>,
    waiting: Rc<Cell<usize>>,
    limits: Limits,
}

impl Coalescer {
    /// Starts the task that reserves from `sequence`; it ends when the last handle is dropped.
    ///
    /// The task belongs to no request: a caller that goes away cannot hang those behind it.
    ///
    /// # Panics
    ///
    /// Outside of a `LocalSet` or a local Tokio runtime.
    pub fn start<S: Sequence + 'static>(sequence: S, limits: Limits, monitor: Monitor) -> Self {
        let (arrivals, queue) = mpsc::unbounded_channel();
        tokio::task::spawn_local(driver::run(sequence, limits, monitor, queue));
        Self {
            arrivals,
            waiting: Rc::default(),
            limits,
        }
    }

    /// Reserves `count` numbers for this caller.
    ///
    /// # Errors
    ///
    /// Those of the sequence. A transient one is reported only at the deadline: until then the
    /// reservation is tried again. [`Error::Overloaded`] at once when too many are waiting.
    pub async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let _place = Place::take(&self.waiting, self.limits.waiting).ok_or(Error::Overloaded)?;
        let (answer, block) = oneshot::channel();
        let waiter = Waiter {
            count,
            deadline: Instant::now() + self.limits.deadline,
            answer,
        };
        let gone = || Error::unavailable("the coalescer's task has ended");
        self.arrivals.send(waiter).map_err(|_| gone())?;
        block.await.map_err(|_| gone())?
    }
}

/// One caller in the queue.
#[derive(Debug)]
struct Waiter {
    count: Count,
    deadline: Instant,
    answer: oneshot::Sender<Result<Block, Error>>,
}

/// A place among the callers that may wait at the same time; dropping it gives it back.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(taken: &'a Cell<usize>, places: usize) -> Option<Self> {
        (taken.get() < places).then(|| {
            taken.set(taken.get() + 1);
            Self(taken)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A metric of a [`Monitor`]: name, description, and how to read it.
pub type Counter = (&'static str, &'static str, fn(&Monitor) -> u64);

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
    /// What it counts.
    pub const COUNTERS: [Counter; 3] = [
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
            "Reservations that failed or were abandoned",
            |monitor| monitor.0.failures.load(Ordering::Relaxed),
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

    fn reserved(&self, block: Block) {
        self.0.batches.fetch_add(1, Ordering::Relaxed);
        let numbers = u64::from(block.count().get());
        self.0.numbers.fetch_add(numbers, Ordering::Relaxed);
    }

    /// The log gets one line at the first failure and one at the recovery, however many callers
    /// wait in between.
    fn failed(&self, error: &Error) {
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
