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

use tracing::{Instrument as _, Span, field::Empty, info_span};

use super::{Limits, Waiter};
use crate::{Block, Count, Error, Monitor, Sequence};

/// How long the task waits at most before its second attempt, twice as long before each further
/// one, and up to [`LONGEST_WAIT`]: quick for a restart, no more than about four attempts a second
/// at something that stays down, and with one attempt of 2 s less than 3 s after its return.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Serves the queue until no handle of it is left.
pub(super) async fn run(
    sequence: impl Sequence,
    limits: Limits,
    monitor: Monitor,
    arrivals: UnboundedReceiver<Waiter>,
) {
    let mut queue = Queue {
        arrivals,
        waiters: VecDeque::new(),
        deadline: limits.deadline,
        last_error: None,
        singly: 0,
    };
    let mut longest_wait = FIRST_WAIT;
    while queue.gather().await {
        let Some(mut batch) = queue.seal() else {
            continue;
        };
        let begin = Instant::now();
        let limit = begin + limits.attempt;
        let span = batch.span();
        let reserve = sequence.reserve(batch.total).instrument(span.clone());
        let result = match queue.watch(&mut batch, limit, reserve).await {
            None => Err(Error::TimedOut),
            Some(Ok(block)) if block.count() != batch.total => {
                Err(Error::unavailable("block size does not match the request"))
            }
            Some(result) => result,
        };
        if matches!(result, Ok(_) | Err(Error::Exhausted)) {
            monitor.recovered();
            queue.last_error = None;
            longest_wait = FIRST_WAIT;
        }
        if let Err(error) = &result {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", error.chain());
        }
        match result {
            Ok(block) => {
                let arrivals = batch.waiters.iter();
                let waits = arrivals.map(|waiter| begin + limits.deadline - waiter.deadline);
                monitor.reserved(block, begin.elapsed(), waits);
                batch.deliver(block);
            }
            Err(error) if error.is_transient() => {
                monitor.failed(&error);
                queue.last_error = Some(error);
                // Full jitter: callers that failed together do not come back together
                // ("Exponential Backoff And Jitter", AWS Architecture Blog).
                let retry = Instant::now() + longest_wait.mul_f64(fastrand::f64());
                longest_wait = (longest_wait * 2).min(LONGEST_WAIT);
                queue.watch(&mut batch, retry, pending::<()>()).await;
                queue.singly = 1;
                queue.put_back(batch);
            }
            Err(Error::Exhausted) if batch.waiters.len() > 1 => {
                queue.singly = batch.waiters.len();
                queue.put_back(batch);
            }
            Err(error) => {
                if !matches!(error, Error::Exhausted) {
                    monitor.failed(&error);
                }
                for waiter in batch.waiters {
                    let _ = waiter.answer.send(Err(error.clone()));
                }
            }
        }
    }
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
    /// How many must go alone. After a failure that is the first: while nothing answers, each
    /// attempt may skip what it asks for. At the end of the sequence it is all of a batch that
    /// goes past it, since the first of them may still fit.
    singly: usize,
}

/// Callers whose numbers are asked for in one call. No caller joins once it is sealed.
struct Batch {
    waiters: VecDeque<Waiter>,
    total: Count,
    /// Numbers of callers that were at the front and whose deadline has passed.
    expired: u64,
}

impl Queue {
    /// Waits until a caller is in the queue; false when none can come any more.
    async fn gather(&mut self) -> bool {
        if self.waiters.is_empty() && self.arrivals.is_empty() {
            // It is no caller's any more.
            self.last_error = None;
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

    /// Takes from the queue as many callers as one reservation can serve, without those that
    /// have hung up.
    fn seal(&mut self) -> Option<Batch> {
        self.waiters.retain(|waiter| !waiter.answer.is_closed());
        debug_assert!(
            self.waiters
                .iter()
                .is_sorted_by_key(|waiter| waiter.deadline),
            "callers expire in the order in which they came"
        );
        let most = if self.singly > 0 { 1 } else { usize::MAX };
        let mut waiting = self.waiters.iter().take(most);
        let mut total = waiting.next()?.count;
        let mut size = 1;
        for waiter in waiting {
            let Some(sum) = total.checked_add(waiter.count) else {
                break;
            };
            total = sum;
            size += 1;
        }
        self.singly = self.singly.saturating_sub(size);
        Some(Batch {
            total,
            waiters: self.waiters.drain(..size).collect(),
            expired: 0,
        })
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

    fn put_back(&mut self, mut batch: Batch) {
        batch.waiters.append(&mut self.waiters);
        self.waiters = batch.waiters;
    }
}

impl Batch {
    /// The span of its reservation: a part of the first request, with links to the others.
    fn span(&self) -> Span {
        let span = info_span!(
            parent: &self.waiters[0].span,
            "reserve",
            sequence.count = self.total.get(),
            sequence.requests = self.waiters.len(),
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        if !span.is_disabled() {
            for waiter in self.waiters.iter().skip(1) {
                span.follows_from(&waiter.span);
            }
        }
        span
    }

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
