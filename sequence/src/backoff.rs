//! How long to wait before trying again.

use std::time::Duration;

/// Waits that double up to a cap, with full jitter.
///
/// Each wait is drawn evenly from nothing up to the current bound, so that callers which failed
/// together do not come back together ("Exponential Backoff And Jitter", AWS Architecture Blog).
#[derive(Clone, Debug)]
pub struct Backoff {
    bound: Duration,
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// Bounds that start at `base` and double up to `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self {
            bound: base,
            base,
            cap,
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.bound.mul_f64(fastrand::f64());
        self.bound = (self.bound * 2).min(self.cap);
        wait
    }

    /// Starts again at the first bound: the last attempt worked.
    pub fn reset(&mut self) {
        self.bound = self.base;
    }
}

impl Default for Backoff {
    /// From 20 ms up to 500 ms: quick for a restart, no more than about four attempts a second at
    /// something that stays down, and with one attempt of 2 s less than 3 s after its return.
    fn default() -> Self {
        Self::new(Duration::from_millis(20), Duration::from_millis(500))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(35));
        for bound in [10, 20, 35, 35] {
            assert_eq!(backoff.bound, Duration::from_millis(bound));
            assert!(backoff.next_wait() <= Duration::from_millis(bound));
        }
        backoff.reset();
        assert_eq!(backoff.bound, Duration::from_millis(10));
    }
}
