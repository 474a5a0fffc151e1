//! Waiting for something to become true, with an end.

use std::thread;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(5);
const LONG_PAUSE: Duration = Duration::from_millis(250);

/// Asks again and again until `probe` has an answer, which it returns.
///
/// # Panics
///
/// When there is none within `limit`; the message names `what` was waited for.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    match within(limit, probe) {
        Some(answer) => answer,
        None => panic!("waited {limit:?} in vain for this: {what}"),
    }
}

/// Asks again and again until `probe` has an answer or `limit` has passed.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        // Read before the probe: however long that one takes, there is one after the end.
        let last = Instant::now() >= end;
        let begin = Instant::now();
        let answer = probe();
        if answer.is_some() || last {
            return answer;
        }
        // A probe that runs a program would keep a CPU from what it waits for.
        thread::sleep((4 * begin.elapsed()).clamp(PAUSE, LONG_PAUSE));
    }
}
