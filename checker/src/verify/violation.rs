//! The ways in which a service can break its promise.

use std::fmt;

use crate::Operation;
use crate::history::seconds;

/// A broken promise, with the operations that show it.
///
/// `Display` says in one sentence what happened; [`operations`](Self::operations) gives the
/// evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two answers brought the same number.
    Duplicate {
        /// The smallest number that both answers hold.
        number: u64,
        /// The one that was answered first.
        first: Operation,
        /// The one that was answered second.
        second: Operation,
    },
    /// A number was handed out that is smaller than one that was already known when it was
    /// requested.
    Stale {
        /// Answered first.
        larger: Operation,
        /// Requested after the answer to `larger` was received.
        smaller: Operation,
    },
    /// A number is not in 1..=2^53-1.
    OutOfRange(Operation),
    /// Numbers were skipped although the caller ruled that out.
    Gap {
        /// The last operation below the first gap.
        below: Operation,
        /// The first operation above it.
        above: Operation,
        /// How many numbers are missing in all, in this gap and in later ones.
        skipped: u64,
    },
    /// The hash is not the SHA-256 of the number's decimal digits.
    WrongHash {
        /// The request and the number.
        operation: Operation,
        /// As it stands in the answer.
        hash: String,
        /// As it should be.
        expected: String,
    },
    /// The answer brought more numbers or fewer than were asked for.
    WrongCount {
        /// The request, and the block that came.
        operation: Operation,
        /// How many numbers were asked for.
        asked: u32,
    },
    /// The service reported success, and the answer holds no number.
    NoNumber {
        /// The request; its `count` is 0.
        operation: Operation,
        /// How the answer begins.
        body: String,
    },
}

impl Violation {
    pub(super) fn duplicate(one: Operation, other: Operation) -> Self {
        let (first, second) = if other.received < one.received {
            (other, one)
        } else {
            (one, other)
        };
        Self::Duplicate {
            number: one.number.max(other.number),
            first,
            second,
        }
    }

    /// One word for machines.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Duplicate { .. } => "duplicate",
            Self::Stale { .. } => "stale",
            Self::OutOfRange(_) => "out_of_range",
            Self::Gap { .. } => "gap",
            Self::WrongHash { .. } => "wrong_hash",
            Self::WrongCount { .. } => "wrong_count",
            Self::NoNumber { .. } => "no_number",
        }
    }

    /// The operations that show it: two, or one if a single answer is wrong in itself.
    pub fn operations(&self) -> Vec<Operation> {
        match *self {
            Self::Duplicate { first, second, .. } => vec![first, second],
            Self::Stale { larger, smaller } => vec![larger, smaller],
            Self::Gap { below, above, .. } => vec![below, above],
            Self::OutOfRange(operation)
            | Self::WrongHash { operation, .. }
            | Self::WrongCount { operation, .. }
            | Self::NoNumber { operation, .. } => vec![operation],
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate {
                number,
                first,
                second,
            } => match first.last().min(second.last()) {
                last if last > *number => {
                    write!(f, "numbers {number} to {last} were handed out twice")
                }
                _ => write!(f, "number {number} was handed out twice"),
            },
            Self::Stale { larger, smaller } => write!(
                f,
                "{} was answered at {}, and {} was requested later, at {}",
                larger.number,
                seconds(larger.received),
                smaller.number,
                seconds(smaller.sent),
            ),
            Self::OutOfRange(operation) => match (operation.number, operation.count) {
                (_, 0) => f.write_str("a block of no numbers was handed out"),
                (0, _) => f.write_str("number 0 was handed out, and the first number is 1"),
                _ => write!(
                    f,
                    "number {} was handed out, and the last number is {} (2^53-1)",
                    operation.last(),
                    super::LARGEST,
                ),
            },
            Self::Gap {
                below,
                above,
                skipped,
            } => {
                let (first, last) = (below.last() + 1, above.number - 1);
                if first == last {
                    write!(f, "number {first} was skipped")?;
                } else {
                    write!(f, "numbers {first} to {last} were skipped")?;
                }
                if *skipped > last - first + 1 {
                    write!(f, " ({skipped} numbers are missing in all)")?;
                }
                Ok(())
            }
            Self::WrongHash {
                operation,
                hash,
                expected,
            } => write!(
                f,
                "number {} came with the hash {hash:?}, and its SHA-256 is {expected:?}",
                operation.number,
            ),
            Self::WrongCount { operation, asked } => write!(
                f,
                "a block of {asked} was asked for, and a block of {} came",
                operation.count
            ),
            Self::NoNumber { body, .. } => {
                write!(f, "the service answered 200 without a number: {body:?}")
            }
        }
    }
}
