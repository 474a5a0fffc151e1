//! A store that keeps its promise, and fails, hangs and is late as stores are.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    rc::Rc,
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use sequence::{Block, Count, Error, Sequence, Store};
use tokio::time::sleep;

/// What all replicas share. A clone is another handle.
#[derive(Clone, Debug)]
pub(crate) struct Database(Rc<Data>);

#[derive(Debug)]
struct Data {
    last: Cell<u64>,
    /// Of so many reservations one fails or hangs; none if it is 0.
    faults: Cell<u64>,
    /// Whether it writes what it read a while ago.
    loses_updates: bool,
    rng: RefCell<Rng>,
}

impl Database {
    pub(crate) fn new(seed: u64, faults: u64, loses_updates: bool) -> Self {
        Self(Rc::new(Data {
            last: Cell::new(0),
            faults: Cell::new(faults),
            loses_updates,
            rng: RefCell::new(Rng::with_seed(seed)),
        }))
    }

    /// Loses its newest writes, as a restored backup does.
    pub(crate) fn lose_writes(&self) {
        let last = self.0.rng.borrow_mut().u64(..=self.0.last.get());
        self.0.last.set(last);
    }

    pub(crate) fn calm_down(&self) {
        self.0.faults.set(0);
    }

    async fn delay(&self) {
        let micros = self.0.rng.borrow_mut().u64(..3_000);
        sleep(Duration::from_micros(micros)).await;
    }

    async fn may_fail(&self) -> Result<(), Error> {
        let faults = self.0.faults.get();
        if faults == 0 {
            return Ok(());
        }
        let drawn = self.0.rng.borrow_mut().u64(..2 * faults);
        match drawn {
            0 => pending().await,
            1 => Err(Error::unavailable("refused by the store")),
            _ => Ok(()),
        }
    }
}

#[async_trait(?Send)]
impl Sequence for Database {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let data = &*self.0;
        let read = data.last.get();
        self.delay().await;
        self.may_fail().await?;
        let last = if data.loses_updates {
            read
        } else {
            data.last.get()
        };
        let block = Block::after(last, count).map_err(|_| Error::Exhausted)?;
        data.last.set(block.last());
        self.delay().await;
        self.may_fail().await?;
        Ok(block)
    }
}

#[async_trait(?Send)]
impl Store for Database {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        self.delay().await;
        self.0.last.set(self.0.last.get().max(floor));
        Ok(())
    }

    async fn check(&self) -> Result<u64, Error> {
        self.delay().await;
        Ok(self.0.last.get())
    }
}
