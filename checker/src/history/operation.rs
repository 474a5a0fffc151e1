//! One answered request.

use std::fmt;

use serde::Serialize;

/// One request that was answered, and when.
///
/// Times are nanoseconds since the [epoch](super::History::epoch) of the history it belongs to.
/// A run of a million requests holds a million of these, so the size counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// Taken just before the request was written: the number was not asked for before this.
    pub sent: u64,
    /// Taken right after the answer was read: the number was not handed out after this.
    pub received: u64,
    /// The first number of the answer.
    pub number: u64,
    /// How many numbers the answer brought, `number` being the first; 0 if it held none.
    pub count: u32,
    /// The connection that the request was sent on, counted from 0.
    pub connection: u16,
    /// The recorded run it belongs to, counted from 1; 0 while the run goes on.
    pub run: u16,
}

const _: () = assert!(size_of::<Operation>() == 32);

impl Operation {
    /// The last number of the answer.
    pub fn last(&self) -> u64 {
        self.number
            .saturating_add(u64::from(self.count).saturating_sub(1))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.run > 0 {
            write!(f, "run {}, ", self.run)?;
        }
        write!(
            f,
            "connection {}: sent at {}, answered at {} with ",
            self.connection,
            seconds(self.sent),
            seconds(self.received),
        )?;
        match self.count {
            0 => f.write_str("no number"),
            1 => write!(f, "{}", self.number),
            _ => write!(f, "{} to {}", self.number, self.last()),
        }
    }
}

/// A time as people read it, exact to the nanosecond: two times that differ look different.
pub(crate) fn seconds(nanoseconds: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let (whole, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        if rest % 1_000_000 == 0 {
            write!(f, "{whole}.{:03} s", rest / 1_000_000)
        } else {
            write!(f, "{whole}.{rest:09} s")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_names_its_connection_its_times_and_its_numbers() {
        let mut operation = Operation {
            sent: 1_204_000_000,
            received: 1_205_317_251,
            number: 17,
            count: 1,
            connection: 3,
            run: 0,
        };
        assert_eq!(
            operation.to_string(),
            "connection 3: sent at 1.204 s, answered at 1.205317251 s with 17"
        );

        operation.count = 5;
        operation.run = 2;
        assert_eq!(
            operation.to_string(),
            "run 2, connection 3: sent at 1.204 s, answered at 1.205317251 s with 17 to 21"
        );
    }

    #[test]
    fn a_block_that_runs_past_the_largest_integer_does_not_wrap() {
        let operation = Operation {
            sent: 0,
            received: 1,
            number: u64::MAX,
            count: 2,
            connection: 0,
            run: 0,
        };
        assert_eq!(operation.last(), u64::MAX);
    }
}
