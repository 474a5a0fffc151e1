//! The task that turns the queue into reservations.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::pin,
};

use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::yield_now,
    time::{Duration, Instant, timeout_at},
};

use super::{Limits, Monitor, Waiter};
use crate::{Backoff, Block, Count, Error, Sequence};

pub(super) struct Driver<S> {
    sequence: S,
    attempt: Duration,
    monitor: Monitor,
    queue: Queue,
    /// How many of the queue must go alone. After a failure that is the first: while nothing
    /// answers, each attempt may skip what it asks for. At the end of the sequence it is all of
    /// a batch that goes past it, since the first of them may still fit.
    singly: usize,
}

/// Callers that wait for a batch.
struct Queue {
    arrivals: UnboundedReceiver<Waiter>,
    /// In order of arrival, and so in order of deadline.
    waiters: VecDeque<Waiter>,
    /// How long a caller waits at most.
    deadline: Duration,
    /// Why the latest attempt failed.
    last_error: Option<Error>,
}

/// Callers whose numbers are asked for in one call. No caller joins once it is sealed.
struct Batch {
    waiters: VecDeque<Waiter>,
    total: Count,
    /// Numbers of callers that were at the front and whose deadline has passed.
    expired: u64,
}

impl<S: Sequence> Driver<S> {
    pub(super) fn new(
        sequence: S,
        limits: Limits,
        monitor: Monitor,
        arrivals: UnboundedReceiver<Waiter>,
    ) -> Self {
        Self {
            sequence,
            attempt: limits.attempt,
            monitor,
            queue: Queue {
                arrivals,
                waiters: VecDeque::new(),
                deadline: limits.deadline,
                last_error: None,
            },
            singly: 0,
        }
    }

    /// Serves the queue until no handle of it is left.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        while self.queue.gather().await {
            let Some(mut batch) = self.seal() else {
                continue;
            };
            let limit = Instant::now() + self.attempt;
            let reserve = self.sequence.reserve(batch.total);
            let result = match self.queue.watch(&mut batch, limit, reserve).await {
                None => Err(Error::TimedOut),
                Some(Ok(block)) if block.count() != batch.total => {
                    Err(Error::unavailable("block size does not match the request"))
                }
                Some(result) => result,
            };
            if matches!(result, Ok(_) | Err(Error::Exhausted)) {
                self.monitor.recovered();
                self.queue.last_error = None;
                backoff.reset();
            }
            match result {
                Ok(block) => {
                    self.monitor.reserved(block);
                    batch.deliver(block);
                }
                Err(error) if error.is_transient() => {
                    self.monitor.failed(&error);
                    self.queue.last_error = Some(error);
                    let retry = Instant::now() + backoff.next_wait();
                    self.queue.watch(&mut batch, retry, pending::<()>()).await;
                    self.singly = 1;
                    self.queue.put_back(batch);
                }
                Err(Error::Exhausted) if batch.waiters.len() > 1 => {
                    self.singly = batch.waiters.len();
                    self.queue.put_back(batch);
                }
                Err(error) => {
                    if !matches!(error, Error::Exhausted) {
                        self.monitor.failed(&error);
                    }
                    batch.fail(&error);
                }
            }
        }
    }

    /// Takes from the queue as many callers as one reservation can serve, without those that
    /// have hung up.
    fn seal(&mut self) -> Option<Batch> {
        let waiters = &mut self.queue.waiters;
        waiters.retain(|waiter| !waiter.answer.is_closed());
        let most = if self.singly > 0 { 1 } else { waiters.len() };
        let mut size = 0;
        let mut total = None;
        for waiter in waiters.iter().take(most) {
            let sum = match total {
                None => Some(waiter.count),
                Some(total) => waiter.count.checked_add(total),
            };
            if sum.is_none() {
                break;
            }
            total = sum;
            size += 1;
        }
        self.singly = self.singly.saturating_sub(size);
        debug_assert!(
            waiters.iter().is_sorted_by_key(|waiter| waiter.deadline),
            "callers expire in the order in which they came"
        );
        Some(Batch {
            total: total?,
            waiters: waiters.drain(..size).collect(),
            expired: 0,
        })
    }
}

impl Queue {
    /// Waits until a caller is in the queue; false when none can come any more.
    async fn gather(&mut self) -> bool {
        if self.waiters.is_empty() && self.arrivals.is_empty() {
            match self.arrivals.recv().await {
                Some(waiter) => self.waiters.push_back(waiter),
                None => return false,
            }
        } else {
            // Under load more requests have been received than tasks have come to their turn:
            // let them join. With 32 connections to `hash_server` this saves a tenth of the CPU
            // time, and it is no wait.
            yield_now().await;
        }
        self.take_arrivals();
        true
    }

    fn take_arrivals(&mut self) {
        while let Ok(waiter) = self.arrivals.try_recv() {
            self.waiters.push_back(waiter);
        }
    }

    /// Waits for `future` until `limit`. Callers whose deadline passes meanwhile get their error,
    /// and the wait goes on for those behind them.
    async fn watch<T>(
        &mut self,
        batch: &mut Batch,
        limit: Instant,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let mut future = pin!(future);
        loop {
            let now = Instant::now();
            // A caller that has yet to come waits longer than that.
            let next = now + self.deadline;
            let first = batch.waiters.front().or(self.waiters.front());
            let next = first.map_or(next, |waiter| waiter.deadline);
            if let Ok(value) = timeout_at(next.min(limit), &mut future).await {
                return Some(value);
            }
            let now = Instant::now();
            batch.expired += expire(&mut batch.waiters, now, self.last_error.as_ref());
            self.take_arrivals();
            expire(&mut self.waiters, now, self.last_error.as_ref());
            if now >= limit {
                return None;
            }
        }
    }

    fn put_back(&mut self, batch: Batch) {
        for waiter in batch.waiters.into_iter().rev() {
            self.waiters.push_front(waiter);
        }
    }
}

impl Batch {
    /// Deals the block out in order of arrival. The part of a caller that has hung up or expired
    /// meanwhile stays a gap: a later caller must have larger numbers, so none may get it.
    fn deliver(self, block: Block) {
        let mut next = block.first() + self.expired;
        for waiter in self.waiters {
            let part = Block::new(next, waiter.count).map_err(Error::from);
            next += u64::from(waiter.count.get());
            let _ = waiter.answer.send(part);
        }
        assert_eq!(next, block.last() + 1, "the parts add up to the block");
    }

    fn fail(self, error: &Error) {
        for waiter in self.waiters {
            let _ = waiter.answer.send(Err(error.clone()));
        }
    }
}

/// Answers the callers whose deadline has passed, with the error of the latest attempt if there
/// was one. Returns how many numbers they had asked for.
fn expire(waiters: &mut VecDeque<Waiter>, now: Instant, last_error: Option<&Error>) -> u64 {
    let mut numbers = 0;
    while let Some(late) = waiters.pop_front_if(|waiter| waiter.deadline <= now) {
        numbers += u64::from(late.count.get());
        // A caller that has hung up does not read it.
        let _ = late
            .answer
            .send(Err(last_error.cloned().unwrap_or(Error::TimedOut)));
    }
    numbers
}
