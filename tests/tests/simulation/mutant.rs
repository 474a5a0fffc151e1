//! Invariants of ARCHITECTURE.md, broken on purpose.

use std::{cell::RefCell, rc::Rc, time::Duration};

use async_trait::async_trait;
use sequence::{Block, Count, Error, Sequence};
use tokio::{
    task::{JoinHandle, spawn_local},
    time::timeout,
};

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// `hash_server` keeps the rest of a block for later requests (invariant 1).
    KeepsTheRest,
    /// A reservation that failed is answered with the numbers of the one before (2).
    AnswersFromMemory,
    /// The store writes what it read a while ago (3).
    LosesUpdates,
    /// A crash of `persistence_server` loses what it has answered (3).
    AnswersBeforeItIsDurable,
    /// Two replicas have a store each (3).
    TwoStores,
    /// A late reply is taken for the next one (4).
    ReadsLateReplies,
    /// `persistence_server` believes its store (7).
    WithoutRatchet,
    /// `hash_server` believes `persistence_server` (7).
    WithoutSecondRatchet,
}

impl Mutant {
    pub(crate) const ALL: [Self; 8] = [
        Self::KeepsTheRest,
        Self::AnswersFromMemory,
        Self::LosesUpdates,
        Self::AnswersBeforeItIsDurable,
        Self::TwoStores,
        Self::ReadsLateReplies,
        Self::WithoutRatchet,
        Self::WithoutSecondRatchet,
    ];

    /// The sequence of a worker of `hash_server`, with what this one does to it.
    pub(crate) fn changed(
        mutant: Option<Self>,
        sequence: impl Sequence + 'static,
    ) -> Box<dyn Sequence> {
        match mutant {
            Some(Self::KeepsTheRest) => Box::new(Keeping {
                sequence,
                rest: RefCell::default(),
            }),
            Some(Self::AnswersFromMemory) => Box::new(Remembering {
                sequence,
                newest: RefCell::default(),
            }),
            Some(Self::ReadsLateReplies) => Box::new(Late {
                sequence: Rc::new(sequence),
                late: RefCell::default(),
            }),
            _ => Box::new(sequence),
        }
    }
}

struct Keeping<S> {
    sequence: S,
    rest: RefCell<Vec<u64>>,
}

#[async_trait(?Send)]
impl<S: Sequence> Sequence for Keeping<S> {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let kept = self.rest.borrow_mut().pop();
        if let (Some(number), Count::ONE) = (kept, count) {
            return Ok(Block::new(number, Count::ONE).expect("a number"));
        }
        let more = count.checked_add(Count::ONE).expect("small counts");
        let block = self.sequence.reserve(more).await?;
        self.rest.borrow_mut().push(block.last());
        Ok(Block::new(block.first(), count).expect("a part of a block"))
    }
}

struct Remembering<S> {
    sequence: S,
    newest: RefCell<Option<Block>>,
}

#[async_trait(?Send)]
impl<S: Sequence> Sequence for Remembering<S> {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let reserved = self.sequence.reserve(count).await;
        match &reserved {
            Ok(block) => drop(self.newest.borrow_mut().replace(*block)),
            Err(_) => {
                if let Some(newest) = self.newest.borrow_mut().take()
                    && newest.count() == count
                {
                    return Ok(newest);
                }
            }
        }
        reserved
    }
}

struct Late<S> {
    sequence: Rc<S>,
    late: RefCell<Option<JoinHandle<Result<Block, Error>>>>,
}

#[async_trait(?Send)]
impl<S: Sequence + 'static> Sequence for Late<S> {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let late = self.late.borrow_mut().take();
        let mut reply = late.unwrap_or_else(|| {
            let sequence = Rc::clone(&self.sequence);
            spawn_local(async move { sequence.reserve(count).await })
        });
        match timeout(Duration::from_millis(20), &mut reply).await {
            Ok(reply) => reply.expect("no panic"),
            Err(_) => {
                *self.late.borrow_mut() = Some(reply);
                Err(Error::TimedOut)
            }
        }
    }
}
