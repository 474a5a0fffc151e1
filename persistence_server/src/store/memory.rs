//! The store that forgets on restart: for experiments, and to measure the others against.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use sequence::{Block, Count, Error, Sequence, Store};

use super::{Backend, Operations};

/// A sequence in the memory of this process. A clone is the same sequence.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    last: Arc<AtomicU64>,
    operations: Operations,
}

impl MemoryStore {
    /// A sequence that begins at 1.
    pub fn open(operations: Operations) -> Self {
        tracing::warn!("STORE=memory: numbers are forgotten on restart and begin at 1 again");
        Self {
            last: Arc::default(),
            operations,
        }
    }
}

impl Backend for MemoryStore {
    fn target(&self) -> String {
        "memory".to_owned()
    }

    fn note(&self) -> &'static str {
        "numbers are forgotten on restart"
    }
}

#[async_trait(?Send)]
impl Sequence for MemoryStore {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        self.operations.add_one();
        // Every block comes from the one atomic, whose modification order all threads agree on.
        let taken = self
            .last
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| {
                Block::after(last, count).map(Block::last).ok()
            });
        Ok(Block::after(taken.map_err(|_| Error::Exhausted)?, count)?)
    }
}

#[async_trait(?Send)]
impl Store for MemoryStore {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        self.last.fetch_max(floor, Ordering::AcqRel);
        Ok(())
    }

    async fn check(&self) -> Result<u64, Error> {
        Ok(self.last.load(Ordering::Acquire))
    }
}
