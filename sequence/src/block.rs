//! How many numbers are wanted, and the run of numbers that was reserved.

use std::{fmt, str::FromStr};

/// The last number of every sequence: 2^53 - 1.
///
/// The largest integer that every JSON reader keeps exact (RFC 8259, section 6).
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// How many numbers one reservation takes: 1 to [`Count::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(u32);

impl Count {
    /// One number.
    pub const ONE: Count = Count(1);

    /// The largest reservation: 65,536 numbers.
    ///
    /// It bounds how far one call can move a sequence, and so what a failure can skip.
    pub const MAX: Count = Count(65_536);

    /// Takes a count of 1 to [`Count::MAX`].
    ///
    /// # Errors
    ///
    /// [`InvalidCount`] when `count` is outside that range.
    pub fn new(count: u32) -> Result<Self, InvalidCount> {
        if (1..=Self::MAX.0).contains(&count) {
            Ok(Self(count))
        } else {
            Err(InvalidCount)
        }
    }

    /// The count as an integer.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The sum of two counts, unless it is larger than [`Count::MAX`].
    pub fn checked_add(self, other: Count) -> Option<Count> {
        // Both are at most 65,536, so the sum fits in 32 bits.
        Count::new(self.0 + other.0).ok()
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Plain decimal digits only: no sign, no space, no empty text.
impl FromStr for Count {
    type Err = InvalidCount;

    fn from_str(text: &str) -> Result<Self, InvalidCount> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidCount);
        }
        text.parse().map_err(|_| InvalidCount).and_then(Count::new)
    }
}

/// A count that is not an integer from 1 to [`Count::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("count must be an integer from 1 to {}", Count::MAX)]
pub struct InvalidCount;

/// A run of consecutive numbers, reserved in one step.
///
/// All of them are between 1 and [`MAX_NUMBER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    first: u64,
    count: Count,
}

impl Block {
    /// The block of `count` numbers that starts at `first`.
    ///
    /// # Errors
    ///
    /// [`InvalidBlock`] when it would hold 0 or a number past [`MAX_NUMBER`].
    pub fn new(first: u64, count: Count) -> Result<Self, InvalidBlock> {
        let last = first.checked_add(u64::from(count.get()) - 1);
        match last {
            Some(last) if first >= 1 && last <= MAX_NUMBER => Ok(Self { first, count }),
            _ => Err(InvalidBlock),
        }
    }

    /// The block of `count` numbers that follows `last`, the last number taken so far.
    ///
    /// # Errors
    ///
    /// [`InvalidBlock`] when the sequence would end inside it: nothing may be taken then.
    pub fn after(last: u64, count: Count) -> Result<Self, InvalidBlock> {
        Self::new(last.saturating_add(1), count)
    }

    /// The smallest number of the block.
    pub fn first(self) -> u64 {
        self.first
    }

    /// The largest number of the block.
    pub fn last(self) -> u64 {
        self.first + u64::from(self.count.get()) - 1
    }

    /// How many numbers it holds.
    pub fn count(self) -> Count {
        self.count
    }
}

/// A block that does not lie within 1 to [`MAX_NUMBER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block must lie within 1 and {MAX_NUMBER}")]
pub struct InvalidBlock;

#[cfg(test)]
mod tests {
    use super::*;

    fn count(n: u32) -> Count {
        Count::new(n).expect("a count in range")
    }

    #[test]
    fn a_count_is_an_integer_from_1_to_65536() {
        for good in ["1", "65536", "007"] {
            assert!(good.parse::<Count>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "0",
            "65537",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "x",
            "٣",
            "18446744073709551616",
        ] {
            assert_eq!(bad.parse::<Count>(), Err(InvalidCount), "{bad}");
        }
    }

    #[test]
    fn a_block_ends_at_the_last_number_and_never_wraps() {
        assert_eq!(
            Block::after(MAX_NUMBER - 2, count(2)).map(Block::last),
            Ok(MAX_NUMBER)
        );
        assert_eq!(Block::after(MAX_NUMBER - 2, count(3)), Err(InvalidBlock));
        assert_eq!(Block::after(MAX_NUMBER, Count::ONE), Err(InvalidBlock));
        assert_eq!(Block::after(u64::MAX, Count::ONE), Err(InvalidBlock));
        assert_eq!(Block::new(u64::MAX, Count::MAX), Err(InvalidBlock));
        assert_eq!(Block::new(0, Count::ONE), Err(InvalidBlock));
    }
}
