//! The result in one word.

use serde::Serialize;

/// Whether skipped numbers break the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// Right as soon as something may fail: a failure skips numbers.
    Allowed,
    /// Right while nothing fails, no client hangs up and nothing else sends requests.
    Forbidden,
}

/// The result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All that was answered keeps the promise.
    Proven,
    /// The promise is broken.
    Violation,
    /// More requests failed than were allowed. What was answered keeps the promise.
    TooManyFailures,
    /// Nothing was answered any more, or ever. What was answered keeps the promise.
    GaveUp,
}

impl Verdict {
    /// What the process exits with: 0 proven, 1 violation or too many failures, 3 gave up.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Proven => 0,
            Self::Violation | Self::TooManyFailures => 1,
            Self::GaveUp => 3,
        }
    }
}
