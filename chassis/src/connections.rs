//! The open connections of one worker, and which of them are closed although nothing is wrong with
//! them: at a stop all that are idle, and when there are too many the longest idle first.
//!
//! A request costs two stores of a number here: no lock, no system call, no clock.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Once,
    task::Waker,
    time::Duration,
};

use tokio::{sync::Notify, task::spawn_local, time::sleep};
use tracing::warn;

/// How long a connection has been idle at least when it is closed here. Clients that use theirs
/// more often learn from an answer's `Connection: close` that it ends.
const MOMENT: Duration = Duration::from_millis(500);

/// Stands for a connection with a request that is not answered yet.
const BUSY: u64 = u64::MAX;

/// The open connections of one worker.
#[derive(Debug)]
pub(crate) struct Connections {
    open: RefCell<HashMap<u64, Rc<Entry>>>,
    /// How many connections have become idle so far: a clock that costs nothing to read.
    turns: Cell<u64>,
    /// Connections that have been idle since before this turn are closed.
    closed_before: Cell<u64>,
    /// How many there may be.
    limit: usize,
    /// Says that one has been closed.
    left: Notify,
    closing: Cell<bool>,
    /// How long an idle connection is kept.
    pub(crate) keep_alive: Duration,
}

#[derive(Debug)]
struct Entry {
    /// The turn in which the connection became idle, or [`BUSY`].
    idle_since: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Connections {
    /// For at most `limit` connections, each kept for `keep_alive` while it is idle.
    pub(crate) fn new(limit: usize, keep_alive: Duration) -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::default(),
            turns: Cell::new(0),
            closed_before: Cell::new(0),
            limit,
            left: Notify::new(),
            closing: Cell::new(false),
            keep_alive,
        })
    }

    /// Adds a connection; must be called on the worker's own runtime.
    pub(crate) fn add(self: &Rc<Self>) -> Membership {
        let id = self.next_turn();
        let entry = Rc::new(Entry {
            idle_since: Cell::new(id),
            waker: RefCell::default(),
        });
        self.open.borrow_mut().insert(id, Rc::clone(&entry));
        if self.excess() > 0 && !self.closing.replace(true) {
            spawn_local(Rc::clone(self).close_excess());
        }
        Membership {
            connections: Rc::clone(self),
            id,
            entry,
        }
    }

    async fn close_excess(self: Rc<Self>) {
        static WARNED: Once = Once::new();
        WARNED.call_once(|| {
            warn!("close to the limit of open connections; closing the longest idle ones");
        });
        while self.excess() > 0 {
            let begin = self.turns.get();
            sleep(MOMENT).await;
            self.close(begin, self.excess());
        }
        self.closing.set(false);
    }

    /// How many of the longest idle ones are to be closed, to make room for those that arrive.
    fn excess(&self) -> usize {
        let enough = self.limit - self.limit / 8;
        self.open.borrow().len().saturating_sub(enough)
    }

    /// From now on, closes every connection that has been idle for a moment.
    pub(crate) async fn close_idle(self: Rc<Self>) {
        loop {
            let begin = self.turns.get();
            sleep(MOMENT).await;
            self.close(begin, usize::MAX);
        }
    }

    /// Waits until there may be one more.
    pub(crate) async fn room(&self) {
        while self.open.borrow().len() >= self.limit {
            self.left.notified().await;
        }
    }

    /// Waits until none is open.
    pub(crate) async fn closed(&self) {
        while !self.open.borrow().is_empty() {
            self.left.notified().await;
        }
    }

    /// Closes up to `most` of the connections that have been idle since before the turn `begin`,
    /// the longest idle first.
    pub(crate) fn close(&self, begin: u64, most: usize) {
        let open = self.open.borrow();
        let idle = open.values().map(|entry| entry.idle_since.get());
        let mut idle: Vec<u64> = idle.filter(|&since| since <= begin).collect();
        idle.sort_unstable();
        idle.truncate(most);
        let Some(&last) = idle.last() else { return };
        self.closed_before.set(last + 1);
        for entry in open.values().filter(|entry| entry.idle_since.get() <= last) {
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    }

    fn next_turn(&self) -> u64 {
        let turn = self.turns.get() + 1;
        self.turns.set(turn);
        turn
    }
}

/// A connection's place among those of its worker; given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) connections: Rc<Connections>,
    id: u64,
    entry: Rc<Entry>,
}

impl Membership {
    /// The client has sent a whole request.
    pub(crate) fn busy(&self) {
        self.entry.idle_since.set(BUSY);
    }

    /// The client has been answered, or has sent a part of a request.
    pub(crate) fn idle(&self) {
        self.entry.idle_since.set(self.connections.next_turn());
    }

    /// Whether the connection is to be closed now.
    pub(crate) fn is_over(&self) -> bool {
        self.entry.idle_since.get() < self.connections.closed_before.get()
    }

    /// From now on, `waker` is woken when it is.
    pub(crate) fn wakes(&self, waker: &Waker) {
        match &mut *self.entry.waker.borrow_mut() {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.id);
        self.connections.left.notify_one();
    }
}
