//! The proof.
//!
//! A history of fetch-and-increment is linearizable exactly if all numbers are distinct and no
//! operation returned before another with a smaller number was invoked. So there is no search:
//! sort by number, sweep upwards with the largest invocation time seen so far, and compare it
//! with each return time. That takes O(n log n) time and one pointer for each operation.

mod violation;

use crate::Operation;

pub use violation::Violation;

/// The largest number that may be handed out: the largest integer that every JSON reader keeps
/// exact.
pub const LARGEST: u64 = (1 << 53) - 1;

/// What is known about a history that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Answered requests.
    pub operations: u64,
    /// Numbers handed out: more than `operations` if requests asked for blocks.
    pub numbers: u64,
    /// The smallest number and the largest, unless there was none.
    pub range: Option<(u64, u64)>,
    /// Numbers between the smallest and the largest that were not handed out.
    pub skipped: u64,
    /// The two operations around the first of the `skipped` numbers.
    pub first_gap: Option<(Operation, Operation)>,
}

impl Proof {
    /// Makes skipped numbers a violation: right while nothing fails and no client hangs up.
    ///
    /// # Errors
    ///
    /// [`Violation::Gap`] if a number was skipped.
    pub fn without_gaps(self) -> Result<Self, Violation> {
        match self.first_gap {
            None => Ok(self),
            Some((below, above)) => Err(Violation::Gap {
                below,
                above,
                skipped: self.skipped,
            }),
        }
    }
}

/// Proves that `operations`, in any order, keep the promise.
///
/// Two operations that touch at one instant count as concurrent, whichever clock they were timed
/// with. Requests without an answer are left out: they may or may not have taken a number, and
/// numbers may be skipped.
///
/// # Errors
///
/// A repeated number or one out of range if there is any, else one out of order; of several, the
/// smallest.
pub fn verify(operations: &[Operation]) -> Result<Proof, Violation> {
    let mut by_number: Vec<&Operation> = operations.iter().collect();
    by_number.sort_unstable_by_key(|o| (o.number, o.received, o.sent));
    let proof = all_distinct(&by_number)?;
    none_stale(&by_number)?;
    Ok(proof)
}

fn all_distinct(by_number: &[&Operation]) -> Result<Proof, Violation> {
    let mut proof = Proof::default();
    let mut below: Option<&Operation> = None;
    for &operation in by_number {
        if operation.number == 0 || operation.count == 0 || operation.last() > LARGEST {
            return Err(Violation::OutOfRange(*operation));
        }
        if let Some(below) = below {
            if below.last() >= operation.number {
                return Err(Violation::duplicate(*below, *operation));
            }
            let gap = operation.number - below.last() - 1;
            if gap > 0 {
                proof.first_gap.get_or_insert((*below, *operation));
            }
            proof.skipped += gap;
        }
        proof.operations += 1;
        proof.numbers += u64::from(operation.count);
        let lowest = proof.range.map_or(operation.number, |(lowest, _)| lowest);
        proof.range = Some((lowest, operation.last()));
        below = Some(operation);
    }
    Ok(proof)
}

fn none_stale(by_number: &[&Operation]) -> Result<(), Violation> {
    let Some((&first, rest)) = by_number.split_first() else {
        return Ok(());
    };
    let mut latest_sent = first;
    for &operation in rest {
        if operation.received < latest_sent.sent {
            return Err(Violation::Stale {
                larger: *operation,
                smaller: *latest_sent,
            });
        }
        if operation.sent > latest_sent.sent {
            latest_sent = operation;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One operation on its own connection: (sent, received, number, count).
    fn history(operations: &[(u64, u64, u64, u32)]) -> Vec<Operation> {
        let of = |(connection, &(sent, received, number, count))| Operation {
            sent,
            received,
            number,
            count,
            connection,
            run: 0,
        };
        (0..).zip(operations).map(of).collect()
    }

    #[test]
    fn nothing_proves_nothing_and_breaks_nothing() {
        assert_eq!(verify(&[]), Ok(Proof::default()));
    }

    #[test]
    fn numbers_that_rise_with_time_are_proven() {
        let proof = verify(&history(&[(0, 1, 1, 1), (2, 3, 2, 1), (4, 5, 3, 1)])).unwrap();
        assert_eq!((proof.operations, proof.numbers), (3, 3));
        assert_eq!(proof.range, Some((1, 3)));
        assert_eq!(proof.skipped, 0);
    }

    #[test]
    fn concurrent_requests_may_be_answered_in_any_order() {
        assert!(verify(&history(&[(0, 9, 3, 1), (1, 8, 2, 1), (2, 7, 1, 1)])).is_ok());
    }

    #[test]
    fn requests_that_touch_at_one_instant_are_concurrent() {
        assert!(verify(&history(&[(0, 5, 2, 1), (5, 9, 1, 1)])).is_ok());
        assert!(verify(&history(&[(0, 4, 2, 1), (5, 9, 1, 1)])).is_err());
    }

    #[test]
    fn a_number_handed_out_twice_is_named_with_both_operations() {
        let operations = history(&[(0, 9, 16, 1), (2, 7, 17, 1), (1, 5, 17, 1)]);
        let violation = verify(&operations).unwrap_err();
        assert_eq!(
            violation,
            Violation::Duplicate {
                number: 17,
                first: operations[2],
                second: operations[1]
            }
        );
        assert_eq!(violation.to_string(), "number 17 was handed out twice");
    }

    #[test]
    fn blocks_that_overlap_are_duplicates() {
        let overlapping = history(&[(0, 9, 1, 5), (0, 9, 5, 5)]);
        let violation = verify(&overlapping).unwrap_err();
        assert_eq!(violation.to_string(), "number 5 was handed out twice");

        let within = history(&[(0, 9, 1, 10), (0, 9, 4, 2)]);
        let violation = verify(&within).unwrap_err();
        assert_eq!(
            violation.to_string(),
            "numbers 4 to 5 were handed out twice"
        );

        assert!(verify(&history(&[(0, 9, 1, 5), (0, 9, 6, 5)])).is_ok());
    }

    #[test]
    fn a_number_smaller_than_one_answered_before_it_was_asked_for_is_stale() {
        let operations = history(&[
            (1_200_000_000, 1_204_000_000, 17, 1),
            (1_300_000_000, 1_304_000_000, 12, 1),
        ]);
        let violation = verify(&operations).unwrap_err();
        assert_eq!(
            violation,
            Violation::Stale {
                larger: operations[0],
                smaller: operations[1]
            }
        );
        assert_eq!(
            violation.to_string(),
            "17 was answered at 1.204 s, and 12 was requested later, at 1.300 s"
        );
    }

    #[test]
    fn a_stale_block_is_found_by_its_order_and_not_by_its_length() {
        assert!(matches!(
            verify(&history(&[(0, 1, 100, 5), (2, 3, 1, 50)])),
            Err(Violation::Stale { .. })
        ));
    }

    #[test]
    fn the_latest_request_below_counts_even_if_its_number_is_far_smaller() {
        // 1 was requested after 3 was answered; 2 lies between them and hides neither.
        let operations = history(&[(10, 12, 1, 1), (0, 11, 2, 1), (0, 5, 3, 1)]);
        assert_eq!(
            verify(&operations),
            Err(Violation::Stale {
                larger: operations[2],
                smaller: operations[0]
            })
        );
    }

    #[test]
    fn a_service_that_starts_again_from_one_is_found_across_two_runs() {
        let mut operations = history(&[(0, 1, 1, 1), (2, 3, 2, 1), (10, 11, 1, 1)]);
        operations[2].run = 2;
        assert!(matches!(
            verify(&operations),
            Err(Violation::Duplicate { number: 1, .. })
        ));

        // Lost numbers at the end of the first run, and none of them handed out again yet.
        operations[0].number = 7;
        operations[1].number = 9;
        operations[2].number = 8;
        assert!(matches!(verify(&operations), Err(Violation::Stale { .. })));
    }

    #[test]
    fn numbers_outside_the_range_are_violations() {
        for (number, count) in [
            (0, 1),
            (LARGEST + 1, 1),
            (LARGEST, 2),
            (u64::MAX, 9),
            (5, 0),
        ] {
            assert!(
                matches!(
                    verify(&history(&[(0, 1, number, count)])),
                    Err(Violation::OutOfRange(_))
                ),
                "{number} and {count}"
            );
        }
        assert!(verify(&history(&[(0, 1, LARGEST, 1)])).is_ok());
        assert!(verify(&history(&[(0, 1, LARGEST - 1, 2)])).is_ok());
    }

    #[test]
    fn skipped_numbers_are_counted_and_only_a_violation_on_demand() {
        let operations = history(&[(0, 1, 10, 2), (2, 3, 15, 1), (4, 5, 17, 1)]);
        let proof = verify(&operations).unwrap();
        assert_eq!(proof.skipped, 4);
        let violation = proof.without_gaps().unwrap_err();
        assert_eq!(
            violation.to_string(),
            "numbers 12 to 14 were skipped (4 numbers are missing in all)"
        );
        assert_eq!(violation.operations(), [operations[0], operations[1]]);

        let dense = verify(&history(&[(0, 1, 10, 2), (2, 3, 12, 1)])).unwrap();
        assert!(dense.without_gaps().is_ok());
    }
}
