//! The sweep agrees with a general linearizability checker, which searches.

use std::cell::Cell;

use checker::{Operation, verify};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// Fetch-and-increment as the general checker understands it: given the last number handed out,
/// which answers may come next?
#[derive(Clone)]
struct Numbers {
    last: u64,
    may_skip: bool,
}

#[derive(Clone, Debug)]
struct Reserve {
    count: u32,
}

impl SequentialSpec for Numbers {
    type Op = Reserve;
    type Ret = u64;

    fn invoke(&mut self, op: &Reserve) -> u64 {
        let first = self.last + 1;
        self.last += u64::from(op.count);
        first
    }

    fn is_valid_step(&mut self, op: &Reserve, first: &u64) -> bool {
        let follows = if self.may_skip {
            *first > self.last
        } else {
            *first == self.last + 1
        };
        self.last = first + u64::from(op.count) - 1;
        follows
    }
}

/// Asks the general checker. `lost` are the invocation times of requests that were never answered.
fn linearizable(history: &[Operation], lost: &[u64], may_skip: bool) -> bool {
    enum Event {
        Invoke(u32),
        Return(u64),
    }
    // Invocations come before returns at the same instant, since such operations are concurrent.
    // Each operation is its own thread: what orders two operations is real time alone.
    let mut events = Vec::new();
    for (thread, operation) in history.iter().enumerate() {
        events.push((operation.sent, 0, thread, Event::Invoke(operation.count)));
        let answer = Event::Return(operation.number);
        events.push((operation.received, 1, thread, answer));
    }
    for (thread, sent) in (history.len()..).zip(lost) {
        events.push((*sent, 0, thread, Event::Invoke(1)));
    }
    events.sort_by_key(|(time, order, ..)| (*time, *order));

    let mut tester = LinearizabilityTester::new(Numbers { last: 0, may_skip });
    for (_, _, thread, event) in events {
        match event {
            Event::Invoke(count) => tester.on_invoke(thread, Reserve { count }).unwrap(),
            Event::Return(number) => tester.on_return(thread, number).unwrap(),
        };
    }
    tester.is_consistent()
}

/// Up to six operations within twelve instants, so that touching and overlapping is common.
///
/// Numbers are first given out in the order of a random instant within each operation, which is
/// right by construction; then a few are exchanged or moved, which may or may not be.
fn histories(largest_block: u32) -> impl Strategy<Value = Vec<Operation>> {
    let operation = (0..12_u64, 0..6_u64, 0..=5_u64, 1..=largest_block);
    let exchange = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let shift = (any::<prop::sample::Index>(), -1..=1_i64);
    (
        prop::collection::vec(operation, 1..=6),
        prop::collection::vec(exchange, 0..=2),
        prop::collection::vec(shift, 0..=1),
    )
        .prop_map(|(mut intervals, exchanges, shifts)| {
            intervals.sort_by_key(|(sent, length, instant, _)| sent + instant.min(length));
            let mut next = 1;
            let mut history: Vec<Operation> = (0..)
                .zip(intervals)
                .map(|(connection, (sent, length, _, count))| {
                    let number = next;
                    next += u64::from(count);
                    Operation {
                        sent,
                        received: sent + length,
                        number,
                        count,
                        connection,
                        run: 0,
                    }
                })
                .collect();
            for (one, other) in exchanges {
                let (one, other) = (one.index(history.len()), other.index(history.len()));
                let number = history[one].number;
                history[one].number = history[other].number;
                history[other].number = number;
            }
            for (which, by) in shifts {
                let which = which.index(history.len());
                let operation = &mut history[which];
                operation.number = operation.number.saturating_add_signed(by).max(1);
            }
            history
        })
}

/// Runs `cases` histories and returns the share that was accepted.
fn agree(cases: u32, largest_block: u32) -> f64 {
    let accepted = Cell::new(0);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let lost = prop::collection::vec(0..12_u64, 0..=2);
    runner
        .run(&(histories(largest_block), lost), |(history, lost)| {
            let verdict = verify(&history);
            prop_assert_eq!(verdict.is_ok(), linearizable(&history, &[], true));
            // Leaving out requests without an answer loses nothing …
            prop_assert_eq!(verdict.is_ok(), linearizable(&history, &lost, true));
            // … and what they explain exactly is accepted too.
            if linearizable(&history, &lost, false) {
                prop_assert!(verdict.is_ok());
            }
            let dense = verdict.clone().and_then(checker::Proof::without_gaps);
            let from_one = dense.is_ok_and(|proof| proof.range.is_some_and(|(low, _)| low == 1));
            prop_assert_eq!(from_one, linearizable(&history, &[], false));

            accepted.set(accepted.get() + u32::from(verdict.is_ok()));
            Ok(())
        })
        .unwrap();
    f64::from(accepted.get()) / f64::from(cases)
}

#[test]
fn the_sweep_agrees_with_a_general_checker_on_single_numbers() {
    let accepted = agree(6_000, 1);
    assert!((0.25..0.75).contains(&accepted), "{accepted}");
}

#[test]
fn the_sweep_agrees_with_a_general_checker_on_blocks() {
    let accepted = agree(3_000, 3);
    assert!((0.25..0.75).contains(&accepted), "{accepted}");
}
