//! One clock for all connections and threads.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that knows what time it was when it started.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    epoch: u64,
}

impl Clock {
    /// Starts at 0.
    pub fn start() -> Self {
        // Another process compares its times with ours by the epoch, so what lies between the two
        // readings is an error of the comparison. The tightest of a few pairs leaves well under a
        // microsecond of it, less than a request takes to arrive.
        (0..8)
            .map(|_| {
                let before = Instant::now();
                let wall = SystemTime::now();
                let width = before.elapsed();
                let epoch = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
                let epoch = u64::try_from(epoch.as_nanos()).unwrap_or(u64::MAX / 2);
                (width, before + width / 2, epoch)
            })
            .min_by_key(|(width, ..)| *width)
            .map(|(_, start, epoch)| Self { start, epoch })
            .expect("the range is not empty")
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        // A u64 holds 584 years of them.
        self.start.elapsed().as_nanos() as u64
    }

    /// The moment of the start, in nanoseconds since 1970-01-01 00:00 UTC.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}
