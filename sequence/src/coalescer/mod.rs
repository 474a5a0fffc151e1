//! Many callers, one reservation in flight.

mod driver;
#[cfg(test)]
mod tests;

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::{Level, Span, span_enabled};

use crate::{Block, Count, Error, Monitor, Sequence};

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
/// A clone is a handle to the same queue and costs three reference counts.
#[derive(Clone, Debug)]
pub struct Coalescer {
    arrivals: mpsc::UnboundedSender<Waiter>,
    waiting: Rc<Cell<usize>>,
    limits: Limits,
    monitor: Monitor,
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
        tokio::task::spawn_local(driver::run(sequence, limits, monitor.clone(), queue));
        Self {
            arrivals,
            waiting: Rc::default(),
            limits,
            monitor,
        }
    }

    /// Reserves `count` numbers for this caller.
    ///
    /// # Errors
    ///
    /// Those of the sequence. A transient one is reported only at the deadline: until then the
    /// reservation is tried again. [`Error::Overloaded`] at once when too many are waiting.
    pub async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let Some(_place) = Place::take(&self.waiting, self.limits.waiting) else {
            self.monitor.refused();
            return Err(Error::Overloaded);
        };
        let (answer, block) = oneshot::channel();
        let waiter = Waiter {
            count,
            deadline: Instant::now() + self.limits.deadline,
            span: match span_enabled!(Level::INFO) {
                true => Span::current(),
                false => Span::none(),
            },
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
    /// The request that it belongs to, where that is traced.
    span: Span,
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
