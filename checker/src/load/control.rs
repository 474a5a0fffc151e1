//! The reins of a run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All requests were answered, or the time was up.
    Complete,
    /// It was told to stop.
    Stopped,
    /// Nothing was answered with a number for longer than
    /// [`keep_trying`](super::Options::keep_trying).
    GaveUp,
    /// More requests failed than [`max_failures`](super::Options::max_failures) allows.
    TooManyFailures,
}

/// Watches one run and ends it early. Clones are cheap and share the run.
#[derive(Clone, Debug, Default)]
pub struct Control {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ending: OnceLock<Ending>,
    stopping: AtomicBool,
    abandoned: watch::Sender<bool>,
    answered: AtomicU64,
    failed: AtomicU64,
    last_answer: AtomicU64,
}

impl Control {
    /// Sends no more requests, and lets those under way finish.
    pub fn stop(&self) {
        self.end(Ending::Stopped);
    }

    /// Ends at once: requests under way are left without an answer.
    pub fn abandon(&self) {
        self.end(Ending::Stopped);
        self.shared.abandoned.send_replace(true);
    }

    /// How many requests were answered with a number so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// How many requests failed so far.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Sends no more requests, because it is enough.
    pub(super) fn finish(&self) {
        self.end(Ending::Complete);
    }

    /// Ends at once, because nothing answers any more.
    pub(super) fn give_up(&self) {
        self.end(Ending::GaveUp);
        self.shared.abandoned.send_replace(true);
    }

    /// Stops for a reason; the first one stands.
    pub(super) fn end(&self, ending: Ending) {
        self.shared.ending.get_or_init(|| ending);
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn ending(&self) -> Ending {
        *self.shared.ending.get().unwrap_or(&Ending::Complete)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    /// Returns when the run is to end at once.
    pub(super) async fn until_abandoned(&self) {
        let mut abandoned = self.shared.abandoned.subscribe();
        // The sender lives as long as we do, so there is always an answer.
        let _ = abandoned.wait_for(|abandoned| *abandoned).await;
    }

    /// Notes an answer with a number at a time of the run's clock.
    pub(super) fn note_answer(&self, received: u64) {
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
        self.shared
            .last_answer
            .fetch_max(received, Ordering::Relaxed);
    }

    /// Notes a failure and returns how many there are now.
    pub(super) fn note_failure(&self) -> u64 {
        self.shared.failed.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The time of the last answer with a number; 0 before the first.
    pub(super) fn last_answer(&self) -> u64 {
        self.shared.last_answer.load(Ordering::Relaxed)
    }
}
