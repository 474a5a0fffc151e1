//! Catches a store that lost writes before its numbers reach a caller.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use tracing::error;

use crate::{Block, Count, Error, MAX_NUMBER, Sequence, Store};

/// How far above the highest known number a store is raised that lost writes.
///
/// Other replicas may have handed out numbers since this process last looked, a second ago at
/// most while it is ready. This is more than they can have handed out in hours.
const MARGIN: u64 = 1_000_000_000;

/// What all ratchets of one process know together. A clone shares it.
#[derive(Clone, Debug)]
pub struct Marks(Arc<State>);

#[derive(Debug)]
struct State {
    highest: AtomicU64,
    /// The store is at or above this number, once it was raised there.
    floor: u64,
    raised: AtomicBool,
    regressions: AtomicU64,
}

impl Default for Marks {
    /// Marks for a process that knows of no number.
    fn default() -> Self {
        Self::above(0)
    }
}

impl Marks {
    /// Marks for a process that is told that all numbers up to `floor` are taken.
    pub fn above(floor: u64) -> Self {
        Self(Arc::new(State {
            highest: AtomicU64::new(floor),
            floor,
            raised: AtomicBool::new(floor == 0),
            regressions: AtomicU64::new(0),
        }))
    }

    /// Takes note that all numbers up to `last` are taken.
    pub fn note(&self, last: u64) {
        self.0.highest.fetch_max(last, Ordering::AcqRel);
    }

    /// The highest number that this process knows to be taken; 0 before the first.
    pub fn highest(&self) -> u64 {
        self.0.highest.load(Ordering::Acquire)
    }

    /// How often the store has gone backwards since this process started.
    pub fn regressions(&self) -> u64 {
        self.0.regressions.load(Ordering::Relaxed)
    }
}

/// Stands in front of a store and lets only numbers pass that are new.
///
/// A store restored from a backup, or a replica promoted before it had everything, would hand
/// out old numbers again. A block that does not start above what this process knew *before it
/// asked*, or a check that finds less, is such an incident: the block is never answered, and the
/// store is raised above the mark. (A comparison with the mark at the time of the answer would
/// be wrong: the answers to two workers may cross.)
#[derive(Clone, Debug)]
pub struct Ratchet<S> {
    store: S,
    marks: Marks,
}

impl<S: Store> Ratchet<S> {
    /// Puts a ratchet in front of `store`; all ratchets of one process share their `marks`.
    pub fn new(store: S, marks: Marks) -> Self {
        Self { store, marks }
    }

    /// What stands behind it.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The highest number known to be taken, once the store is at or above its floor.
    async fn mark(&self) -> Result<u64, Error> {
        let State { floor, raised, .. } = &*self.marks.0;
        if !raised.load(Ordering::Acquire) {
            self.store.raise_above(*floor).await?;
            raised.store(true, Ordering::Release);
        }
        Ok(self.marks.highest())
    }

    /// Lets an answer pass that is new. For a stale one, which `stale` describes, or where the
    /// store itself reports a loss, it raises the store, unless another worker has done so since
    /// `mark` was read, and returns an error.
    async fn guard<T>(
        &self,
        mark: u64,
        answer: Result<T, Error>,
        stale: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T, Error> {
        let found = match answer {
            Ok(answer) => match stale(&answer) {
                None => return Ok(answer),
                Some(found) => found,
            },
            Err(Error::Regressed(cause)) => cause.to_string(),
            Err(error) => return Err(error),
        };
        let highest = self.marks.highest();
        if highest < mark.saturating_add(MARGIN) {
            self.marks.0.regressions.fetch_add(1, Ordering::Relaxed);
            let target = highest.saturating_add(MARGIN).min(MAX_NUMBER);
            if let Err(error) = self.store.raise_above(target).await {
                let reason = error.chain();
                error!(
                    found,
                    reason, "the store lost writes and could not be raised"
                );
                return Err(error);
            }
            error!(found, target, "the store lost writes and was raised");
            debug_assert!(target >= mark, "a store is never set back");
            self.marks.note(target);
        }
        Err(Error::regressed(found))
    }
}

#[async_trait(?Send)]
impl<S: Store> Sequence for Ratchet<S> {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let mark = self.mark().await?;
        let answer = self.store.reserve(count).await;
        let stale = |block: &Block| {
            let first = block.first();
            (first <= mark).then(|| format!("number {first} came after {mark}"))
        };
        let block = self.guard(mark, answer, stale).await?;
        self.marks.note(block.last());
        Ok(block)
    }
}

#[async_trait(?Send)]
impl<S: Store> Store for Ratchet<S> {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        self.store.raise_above(floor).await
    }

    async fn check(&self) -> Result<u64, Error> {
        let mark = self.mark().await?;
        let answer = self.store.check().await;
        let stale = |last: &u64| (*last < mark).then(|| format!("it holds {last} after {mark}"));
        let last = self.guard(mark, answer, stale).await?;
        self.marks.note(last);
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A store in memory that can be set back, as by a restored backup.
    #[derive(Default)]
    struct Forgetful(Cell<u64>);

    #[async_trait(?Send)]
    impl Sequence for &Forgetful {
        async fn reserve(&self, count: Count) -> Result<Block, Error> {
            let block = Block::after(self.0.get(), count)?;
            self.0.set(block.last());
            Ok(block)
        }
    }

    #[async_trait(?Send)]
    impl Store for &Forgetful {
        async fn raise_above(&self, floor: u64) -> Result<(), Error> {
            self.0.set(self.0.get().max(floor));
            Ok(())
        }

        async fn check(&self) -> Result<u64, Error> {
            Ok(self.0.get())
        }
    }

    #[tokio::test]
    async fn a_store_that_went_backwards_is_caught_and_raised() {
        let store = Forgetful::default();
        let marks = Marks::default();
        let ratchet = Ratchet::new(&store, marks.clone());
        let hundred = Count::new(100).unwrap();
        assert_eq!(ratchet.reserve(hundred).await.unwrap().last(), 100);

        store.0.set(4);
        let caught = ratchet.reserve(Count::ONE).await.unwrap_err();
        assert!(caught.is_transient(), "a retry must be allowed: {caught}");
        assert_eq!(marks.regressions(), 1);
        let next = ratchet.reserve(Count::ONE).await.unwrap().first();
        assert_eq!(next, 100 + MARGIN + 1);
    }

    #[tokio::test]
    async fn a_block_that_straddles_the_mark_is_caught_too() {
        let store = Forgetful::default();
        let ratchet = Ratchet::new(&store, Marks::default());
        ratchet.reserve(Count::new(100).unwrap()).await.unwrap();
        store.0.set(90);
        assert!(ratchet.reserve(Count::new(50).unwrap()).await.is_err());
        let next = ratchet.reserve(Count::ONE).await.unwrap().first();
        assert_eq!(next, 100 + MARGIN + 1);
    }

    #[tokio::test]
    async fn workers_share_their_mark() {
        let store = Forgetful::default();
        let marks = Marks::default();
        let one = Ratchet::new(&store, marks.clone());
        let two = Ratchet::new(&store, marks.clone());
        one.reserve(Count::new(10).unwrap()).await.unwrap();
        store.0.set(0);
        assert!(two.reserve(Count::ONE).await.is_err());
        assert_eq!(marks.regressions(), 1);
    }

    #[tokio::test]
    async fn what_the_check_finds_is_known_before_the_first_reservation() {
        let store = Forgetful(Cell::new(500));
        let (busy, idle) = (Marks::default(), Marks::default());
        let busy = Ratchet::new(&store, busy);
        let idle = Ratchet::new(&store, idle);
        assert_eq!(idle.check().await.unwrap(), 500);
        // More is handed out by the other replica until the store is set back.
        busy.reserve(Count::new(300).unwrap()).await.unwrap();
        store.0.set(0);
        assert!(idle.reserve(Count::ONE).await.is_err());
        assert!(idle.reserve(Count::ONE).await.unwrap().first() > 800);
    }

    #[tokio::test]
    async fn a_check_that_finds_less_than_before_raises_the_store() {
        let store = Forgetful(Cell::new(500));
        let marks = Marks::default();
        let ratchet = Ratchet::new(&store, marks.clone());
        ratchet.check().await.unwrap();
        store.0.set(499);
        assert!(ratchet.check().await.is_err());
        assert_eq!((store.0.get(), marks.regressions()), (500 + MARGIN, 1));
        ratchet.check().await.expect("it was raised");
    }

    #[tokio::test]
    async fn a_loss_that_two_workers_find_raises_the_store_once() {
        let store = Forgetful(Cell::new(500));
        let marks = Marks::default();
        let [one, two] = [(); 2].map(|()| Ratchet::new(&store, marks.clone()));
        one.check().await.unwrap();
        let mark = two.mark().await.unwrap();
        store.0.set(0);
        assert!(one.reserve(Count::ONE).await.is_err());
        // The answer to a call that the other had sent before the store was raised.
        let late = two.guard(mark, Ok(2), |_| Some("number 2 came after 500".to_owned()));
        assert!(late.await.unwrap_err().is_transient());
        assert_eq!((store.0.get(), marks.regressions()), (500 + MARGIN, 1));
    }

    #[tokio::test]
    async fn near_its_end_the_sequence_is_exhausted_rather_than_repeated() {
        let store = Forgetful(Cell::new(MAX_NUMBER - 5));
        let ratchet = Ratchet::new(&store, Marks::default());
        ratchet.check().await.unwrap();
        store.0.set(0);
        assert!(ratchet.reserve(Count::ONE).await.is_err());
        let end = ratchet.reserve(Count::ONE).await.unwrap_err();
        assert!(matches!(end, Error::Exhausted), "{end}");
    }

    #[tokio::test]
    async fn a_floor_is_no_loss() {
        let store = Forgetful(Cell::new(3));
        let marks = Marks::above(1000);
        let ratchet = Ratchet::new(&store, marks.clone());
        assert_eq!(ratchet.reserve(Count::ONE).await.unwrap().first(), 1001);
        assert_eq!(ratchet.check().await.unwrap(), 1001);
        assert_eq!(marks.regressions(), 0);
    }
}
