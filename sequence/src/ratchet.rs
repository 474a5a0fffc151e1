//! Catches a store that lost writes before its numbers reach anybody.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use tracing::error;

use crate::{Block, Count, Error, Sequence, Store};

/// What all ratchets of one process know together. A clone shares it.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    highest: Arc<AtomicU64>,
    regressions: Arc<AtomicU64>,
}

impl Marks {
    /// Marks for a process that knows that all numbers up to `floor` are taken.
    pub fn above(floor: u64) -> Self {
        let marks = Self::default();
        marks.highest.store(floor, Ordering::Release);
        marks
    }

    /// The highest number that this process knows to be taken; 0 before the first.
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Acquire)
    }

    /// How often the store has gone backwards since this process started.
    pub fn regressions(&self) -> u64 {
        self.regressions.load(Ordering::Relaxed)
    }
}

/// Stands in front of a store and lets only numbers pass that are new.
///
/// A store restored from a backup, or a replica promoted before it had everything, would hand
/// out old numbers again. A block that does not start above what this process had received
/// *before it asked* is such an incident: it is never answered, and the store is raised above
/// the mark. (A comparison with the mark at the time of the answer would be wrong: the answers
/// to two workers may cross.)
#[derive(Debug)]
pub struct Ratchet<S> {
    store: S,
    marks: Marks,
}

impl<S: Store> Ratchet<S> {
    /// Puts a ratchet in front of `store`; all ratchets of one process share their `marks`.
    pub fn new(store: S, marks: Marks) -> Self {
        Self { store, marks }
    }
}

#[async_trait(?Send)]
impl<S: Store> Sequence for Ratchet<S> {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let mark = self.marks.highest();
        let block = self.store.reserve(count).await?;
        if block.first() > mark {
            self.marks.highest.fetch_max(block.last(), Ordering::AcqRel);
            return Ok(block);
        }

        self.marks.regressions.fetch_add(1, Ordering::Relaxed);
        error!(
            first = block.first(),
            last = block.last(),
            mark,
            "the store went backwards and would have repeated numbers; raising it above the mark"
        );
        self.store.raise_above(self.marks.highest()).await?;
        Err(Error::unavailable(
            "the store went backwards; it was raised above the highest number received",
        ))
    }
}

#[async_trait(?Send)]
impl<S: Store> Store for Ratchet<S> {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        self.store.raise_above(floor).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.store.check().await
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

        async fn check(&self) -> Result<(), Error> {
            Ok(())
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
        assert_eq!(ratchet.reserve(Count::ONE).await.unwrap().first(), 101);
    }

    #[tokio::test]
    async fn a_block_that_straddles_the_mark_is_caught_too() {
        let store = Forgetful::default();
        let ratchet = Ratchet::new(&store, Marks::default());
        ratchet.reserve(Count::new(100).unwrap()).await.unwrap();
        store.0.set(90);
        assert!(ratchet.reserve(Count::new(50).unwrap()).await.is_err());
        assert_eq!(ratchet.reserve(Count::ONE).await.unwrap().first(), 141);
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
        assert_eq!(marks.highest(), 10);
    }
}
