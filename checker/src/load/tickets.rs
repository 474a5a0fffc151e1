//! How many requests are left to be answered.

use std::sync::atomic::{AtomicU64, Ordering};

/// One ticket for each request that is to be answered.
#[derive(Debug)]
pub(super) struct Tickets(AtomicU64);

impl Tickets {
    /// `None` is more than can be used.
    pub(super) fn new(requests: Option<u64>) -> Self {
        Self(AtomicU64::new(requests.unwrap_or(u64::MAX)))
    }

    /// Takes one; `false` if there is none left.
    pub(super) fn take(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}
