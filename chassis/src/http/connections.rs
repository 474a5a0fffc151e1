//! The open connections of one worker, and which of them are closed although nothing is wrong
//! with them: at a stop all that are idle, and when there are too many the longest idle first.
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

use tokio::{sync::watch, task::spawn_local, time::sleep};
use tracing::warn;

/// How long a connection has been idle at least when it is closed here. Clients that use theirs
/// more often learn from an answer's `Connection: close` that it ends.
const MOMENT: Duration = Duration::from_millis(500);

/// Stands for a connection with a request that is not answered yet.
const BUSY: u64 = u64::MAX;

/// The open connections of one worker.
#[derive(Debug)]
pub(super) struct Connections {
    open: RefCell<HashMap<u64, Rc<Entry>>>,
    /// How many connections have become idle so far: a clock that costs nothing to read.
    turns: Cell<u64>,
    /// Connections that have been idle since before this turn are closed.
    closed_before: Cell<u64>,
    /// While more than this are open, the longest idle are closed.
    enough: usize,
    closing: Cell<bool>,
    /// How long an idle connection is kept.
    pub(super) keep_alive: Duration,
}

#[derive(Debug)]
struct Entry {
    /// The turn in which the connection became idle, or [`BUSY`].
    idle_since: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Connections {
    /// For at most `limit` connections, each kept for `keep_alive` while it is idle.
    pub(super) fn new(limit: usize, keep_alive: Duration) -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::default(),
            turns: Cell::new(0),
            closed_before: Cell::new(0),
            // The rest is for those that arrive while others are being closed.
            enough: limit - limit / 8,
            closing: Cell::new(false),
            keep_alive,
        })
    }

    /// Adds a connection; must be called on the worker's own runtime.
    pub(super) fn add(self: &Rc<Self>) -> Membership {
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

    fn excess(&self) -> usize {
        self.open.borrow().len().saturating_sub(self.enough)
    }

    /// From the stop on, closes every connection that has been idle for a moment.
    ///
    /// `stopping` is dropped once this worker has taken over what was accepted before the stop.
    pub(super) async fn close_at(self: Rc<Self>, mut stopping: watch::Receiver<()>) {
        // Without a sender the process is ending, and this task with it.
        let _ = stopping.changed().await;
        drop(stopping);
        loop {
            let begin = self.turns.get();
            sleep(MOMENT).await;
            self.close(begin, usize::MAX);
        }
    }

    /// Closes up to `most` of the connections that have been idle since before the turn `begin`,
    /// the longest idle first.
    pub(super) fn close(&self, begin: u64, most: usize) {
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
pub(super) struct Membership {
    pub(super) connections: Rc<Connections>,
    id: u64,
    entry: Rc<Entry>,
}

impl Membership {
    /// The client has sent a whole request.
    pub(super) fn busy(&self) {
        self.entry.idle_since.set(BUSY);
    }

    /// The client has been answered, or has sent a part of a request.
    pub(super) fn idle(&self) {
        self.entry.idle_since.set(self.connections.next_turn());
    }

    /// Whether the connection is to be closed now; if not, `waker` is woken when it is.
    pub(super) fn is_over(&self, waker: &Waker) -> bool {
        if self.entry.idle_since.get() < self.connections.closed_before.get() {
            return true;
        }
        match &mut *self.entry.waker.borrow_mut() {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        false
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.id);
    }
}
