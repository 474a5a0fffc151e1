//! The rules of coalescing, on a sequence whose every call the test lets through by hand.

use std::{cell::RefCell, rc::Rc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::Notify,
    task::{JoinHandle, LocalSet, spawn_local, yield_now},
    time::{Instant, sleep},
};

use super::*;
use crate::MAX_NUMBER;

/// A sequence that records what it is asked for and answers when it is told to.
#[derive(Clone, Default)]
struct Scripted(Rc<Script>);

#[derive(Default)]
struct Script {
    last: Cell<u64>,
    calls: RefCell<Vec<u32>>,
    /// Calls in flight; more than one at a time would break the order.
    running: Cell<u32>,
    held: Cell<bool>,
    release: Notify,
    failures: RefCell<Vec<Error>>,
}

impl Scripted {
    fn calls(&self) -> Vec<u32> {
        self.0.calls.borrow().clone()
    }

    fn hold(&self) {
        self.0.held.set(true);
    }

    fn let_through(&self) {
        self.0.held.set(false);
        self.0.release.notify_one();
    }
}

struct Running<'a>(&'a Cell<u32>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[async_trait(?Send)]
impl Sequence for Scripted {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let script = &self.0;
        script.running.set(script.running.get() + 1);
        let _running = Running(&script.running);
        assert_eq!(script.running.get(), 1, "one reservation at a time");
        script.calls.borrow_mut().push(count.get());
        let block = Block::after(script.last.get(), count)?;
        if script.held.get() {
            script.release.notified().await;
        }
        if let Some(error) = script.failures.borrow_mut().pop() {
            return Err(error);
        }
        script.last.set(block.last());
        Ok(block)
    }
}

const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(10),
    attempt: Duration::from_secs(2),
    waiting: 1000,
};

fn ask(coalescer: &Coalescer, count: u32) -> JoinHandle<Result<Block, Error>> {
    let coalescer = coalescer.clone();
    spawn_local(async move { coalescer.reserve(Count::new(count).unwrap()).await })
}

/// Lets every task that can run do so.
async fn settle() {
    for _ in 0..10 {
        yield_now().await;
    }
}

async fn on_one_thread<T>(test: impl AsyncFnOnce(Scripted, Coalescer) -> T) -> T {
    with_limits(LIMITS, test).await
}

async fn with_limits<T>(limits: Limits, test: impl AsyncFnOnce(Scripted, Coalescer) -> T) -> T {
    LocalSet::new()
        .run_until(async {
            let sequence = Scripted::default();
            let coalescer = Coalescer::start(sequence.clone(), limits, Monitor::default());
            test(sequence, coalescer).await
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_share_one_reservation_of_exactly_their_size() {
    on_one_thread(async |sequence, coalescer| {
        sequence.hold();
        let first = ask(&coalescer, 1);
        settle().await;
        let others = [ask(&coalescer, 2), ask(&coalescer, 1), ask(&coalescer, 3)];
        settle().await;
        assert_eq!(sequence.calls(), [1], "the batch in flight is sealed");

        sequence.let_through();
        assert_eq!(first.await.unwrap().unwrap().first(), 1);
        let mut firsts = Vec::new();
        for other in others {
            firsts.push(other.await.unwrap().unwrap().first());
        }
        assert_eq!(sequence.calls(), [1, 6]);
        assert_eq!(firsts, [2, 4, 5], "in order of arrival");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lone_request_waits_for_no_other() {
    on_one_thread(async |_, coalescer| {
        let start = Instant::now();
        for number in 1..=100 {
            let block = coalescer.reserve(Count::ONE).await.unwrap();
            assert_eq!(block.first(), number);
        }
        assert_eq!(start.elapsed(), Duration::ZERO, "no timer is involved");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hung_up_before_the_seal_is_not_counted() {
    on_one_thread(async |sequence, coalescer| {
        sequence.hold();
        let first = ask(&coalescer, 1);
        settle().await;
        let gone = ask(&coalescer, 100);
        let stays = ask(&coalescer, 1);
        settle().await;
        gone.abort();
        settle().await;
        sequence.let_through();
        first.await.unwrap().unwrap();
        assert_eq!(stays.await.unwrap().unwrap().first(), 2);
        assert_eq!(sequence.calls(), [1, 1]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_numbers_of_a_caller_that_hung_up_in_flight_become_a_gap() {
    on_one_thread(async |sequence, coalescer| {
        sequence.hold();
        let gone = ask(&coalescer, 5);
        settle().await;
        gone.abort();
        settle().await;
        let next = ask(&coalescer, 1);
        settle().await;
        sequence.let_through();
        assert_eq!(next.await.unwrap().unwrap().first(), 6);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_first_goes_alone_and_the_others_follow_together() {
    on_one_thread(async |sequence, coalescer| {
        sequence
            .0
            .failures
            .borrow_mut()
            .push(Error::unavailable("refused"));
        let waiting = [2, 1, 3].map(|count| ask(&coalescer, count));
        let mut firsts = Vec::new();
        for one in waiting {
            firsts.push(one.await.unwrap().unwrap().first());
        }
        assert_eq!(firsts, [1, 3, 4]);
        assert_eq!(sequence.calls(), [6, 2, 4]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_skips_few_numbers() {
    on_one_thread(async |sequence, coalescer| {
        sequence.hold();
        let waiting: Vec<_> = (0..900).map(|_| ask(&coalescer, 1)).collect();
        sleep(LIMITS.deadline + Duration::from_secs(1)).await;
        for one in waiting {
            assert!(matches!(one.await.unwrap(), Err(Error::TimedOut)));
        }
        let calls = sequence.calls();
        assert!(calls.len() >= 4, "{calls:?}");
        assert!(calls[1..].iter().all(|&count| count == 1), "{calls:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_flight_ends_one_wait_and_not_the_attempt() {
    let limits = Limits {
        attempt: Duration::from_secs(60),
        ..LIMITS
    };
    with_limits(limits, async |sequence, coalescer| {
        sequence.hold();
        let start = Instant::now();
        let late = [ask(&coalescer, 2), ask(&coalescer, 3)];
        sleep(Duration::from_secs(4)).await;
        let behind = ask(&coalescer, 1);
        for one in late {
            assert!(matches!(one.await.unwrap(), Err(Error::TimedOut)));
        }
        assert!(start.elapsed() < LIMITS.deadline.mul_f64(1.1));
        sequence.let_through();
        assert_eq!(behind.await.unwrap().unwrap().first(), 6);
        assert_eq!(sequence.calls(), [5, 1], "one attempt outlived its callers");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_behind_an_attempt_without_callers_gets_its_own_deadline() {
    let limits = Limits {
        attempt: Duration::from_secs(60),
        ..LIMITS
    };
    with_limits(limits, async |sequence, coalescer| {
        sequence.hold();
        assert!(coalescer.reserve(Count::ONE).await.is_err());
        sleep(Duration::from_secs(3)).await;
        let start = Instant::now();
        assert!(coalescer.reserve(Count::ONE).await.is_err());
        let waited = start.elapsed();
        assert!(waited >= LIMITS.deadline, "{waited:?}");
        assert!(waited < LIMITS.deadline.mul_f64(1.1), "{waited:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn part_of_a_batch_that_expired_in_flight_stays_a_gap() {
    let limits = Limits {
        attempt: Duration::from_secs(60),
        ..LIMITS
    };
    with_limits(limits, async |sequence, coalescer| {
        sequence.hold();
        let first = ask(&coalescer, 1);
        settle().await;
        let early = ask(&coalescer, 5);
        sleep(Duration::from_secs(1)).await;
        let late = ask(&coalescer, 7);
        settle().await;
        sequence.let_through();
        first.await.unwrap().unwrap();
        sequence.hold();
        assert!(early.await.unwrap().is_err());
        sequence.let_through();
        let block = late.await.unwrap().unwrap();
        assert_eq!((block.first(), block.count().get()), (7, 7));
        assert_eq!(sequence.calls(), [1, 12]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_sequence_that_failed_for_good_answers_all_at_once() {
    on_one_thread(async |sequence, coalescer| {
        sequence.hold();
        let first = ask(&coalescer, 1);
        settle().await;
        let others = [ask(&coalescer, 1), ask(&coalescer, 1)];
        settle().await;
        let failures = (0..2).map(|_| Error::failed("the disk is gone"));
        sequence.0.failures.borrow_mut().extend(failures);
        let start = Instant::now();
        sequence.let_through();
        for one in [first].into_iter().chain(others) {
            let error = one.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::Failed(_)), "{error}");
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(sequence.calls(), [1, 2]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_a_caller_learns_what_is_wrong() {
    on_one_thread(async |sequence, coalescer| {
        let refusals = || std::iter::repeat_with(|| Error::unavailable("refused"));
        sequence
            .0
            .failures
            .borrow_mut()
            .extend(refusals().take(100_000));
        let start = Instant::now();
        let error = coalescer.reserve(Count::ONE).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
        assert_eq!(error.chain(), "refused");
        let waited = start.elapsed();
        assert!(
            waited >= LIMITS.deadline && waited < LIMITS.deadline.mul_f64(1.1),
            "{waited:?}"
        );
        let calls = sequence.calls().len();
        assert!((20..100).contains(&calls), "attempts back off: {calls}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_a_recovery_waits_begin_short_again() {
    on_one_thread(async |sequence, coalescer| {
        for (failures, longest_ms) in [(8, u128::MAX), (1, 21)] {
            let refusals = (0..failures).map(|_| Error::unavailable("refused"));
            sequence.0.failures.borrow_mut().extend(refusals);
            let start = Instant::now();
            coalescer.reserve(Count::ONE).await.unwrap();
            let waited = start.elapsed().as_millis();
            assert!(waited <= longest_ms, "{waited} ms");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_sequence_that_hangs_is_abandoned_and_asked_again() {
    on_one_thread(async |sequence, coalescer| {
        sequence.hold();
        let start = Instant::now();
        let waiting = ask(&coalescer, 1);
        sleep(LIMITS.attempt + Duration::from_secs(2)).await;
        assert!(sequence.calls().len() >= 2);
        sequence.let_through();
        assert_eq!(waiting.await.unwrap().unwrap().first(), 1);

        sequence.hold();
        let error = coalescer.reserve(Count::ONE).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut), "{error}");
        assert!(start.elapsed() < LIMITS.deadline.mul_f64(1.1) + LIMITS.deadline);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_caller_too_many_is_refused_at_once() {
    let limits = Limits {
        waiting: 2,
        ..LIMITS
    };
    with_limits(limits, async |sequence, coalescer| {
        sequence.hold();
        let waiting = [ask(&coalescer, 1), ask(&coalescer, 1)];
        settle().await;
        let refused = coalescer.reserve(Count::ONE).await.unwrap_err();
        assert!(matches!(refused, Error::Overloaded), "{refused}");
        sequence.let_through();
        for one in waiting {
            one.await.unwrap().unwrap();
        }
        coalescer
            .reserve(Count::ONE)
            .await
            .expect("their places are free again");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_the_sequence_those_who_fit_are_served() {
    on_one_thread(async |sequence, coalescer| {
        sequence.0.last.set(MAX_NUMBER - 3);
        let asked = [2, 2, 1, 1].map(|count| ask(&coalescer, count));
        let mut answers = Vec::new();
        for one in asked {
            answers.push(one.await.unwrap().map(Block::first).ok());
        }
        let end = MAX_NUMBER;
        assert_eq!(answers, [Some(end - 2), None, Some(end), None]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn more_than_one_reservation_can_hold_is_split_in_order() {
    on_one_thread(async |sequence, coalescer| {
        sequence.hold();
        let asked = [1, 40_000, 40_000, 65_536, 1].map(|count| ask(&coalescer, count));
        settle().await;
        sequence.let_through();
        let mut next = 1;
        for one in asked {
            let block = one.await.unwrap().unwrap();
            assert_eq!(block.first(), next);
            next = block.last() + 1;
        }
        assert!(
            sequence
                .calls()
                .iter()
                .all(|&count| count <= Count::MAX.get())
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_its_last_handle() {
    on_one_thread(async |sequence, coalescer| {
        coalescer.reserve(Count::ONE).await.unwrap();
        drop(coalescer);
        settle().await;
        assert_eq!(Rc::strong_count(&sequence.0), 1);
    })
    .await;
}
