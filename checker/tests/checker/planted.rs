//! One fault in a large history that is otherwise right is found, wherever it is.

use checker::{Operation, Violation, verify};

const CONNECTIONS: u16 = 16;

/// Sixteen clients that ask one right service, each as soon as it has its answer.
fn right_history(random: &mut fastrand::Rng, operations: usize) -> Vec<Operation> {
    let mut free_at = [0_u64; CONNECTIONS as usize];
    let mut waiting: Vec<(u64, Operation)> = (0..operations)
        .map(|i| {
            let connection = (i % usize::from(CONNECTIONS)) as u16;
            let sent = free_at[usize::from(connection)] + random.u64(1..50);
            let served = sent + random.u64(1..200);
            let received = served + random.u64(1..200);
            free_at[usize::from(connection)] = received;
            let operation = Operation {
                sent,
                received,
                number: 0,
                count: random.u32(1..4),
                connection,
                run: 0,
            };
            (served, operation)
        })
        .collect();
    waiting.sort_by_key(|(served, _)| *served);
    let mut next = 1;
    waiting
        .into_iter()
        .map(|(_, mut operation)| {
            next += random.u64(0..20) / 19;
            operation.number = next;
            next += u64::from(operation.count);
            operation
        })
        .collect()
}

#[test]
fn a_right_history_is_proven() {
    let mut random = fastrand::Rng::with_seed(1);
    let history = right_history(&mut random, 20_000);
    let proof = verify(&history).unwrap();
    assert_eq!(proof.operations, 20_000);
    assert!(proof.skipped > 0);
}

#[test]
fn one_planted_fault_is_always_found() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut history = right_history(&mut random, 2_000);
        let planted = plant(&mut random, &mut history);
        random.shuffle(&mut history);

        let violation = verify(&history).expect_err(&format!("seed {seed}: {planted}"));
        assert_eq!(violation.kind(), planted, "seed {seed}: {violation}");
        assert_shown(&violation, seed);
    }
}

/// Breaks the history, which is in the order of its numbers, and says how.
fn plant(random: &mut fastrand::Rng, history: &mut [Operation]) -> &'static str {
    let here = random.usize(..history.len());
    match random.u8(..4) {
        0 => {
            let other = random.usize(..history.len());
            let other = if other == here { here ^ 1 } else { other };
            let shared = random.u64(history[other].number..=history[other].last());
            history[here].number = shared;
            "duplicate"
        }
        1 => {
            // Exchanges the answers of two requests that did not overlap: an inversion.
            let here = here / 2;
            let later = (here..history.len())
                .find(|&later| history[later].sent > history[here].received)
                .expect("half of the history comes later");
            let (number, count) = (history[here].number, history[here].count);
            history[here].number = history[later].number;
            history[here].count = history[later].count;
            history[later].number = number;
            history[later].count = count;
            "stale"
        }
        2 => {
            // A number that was skipped long ago: used by nobody, and stale all the same.
            let (gap, earlier) = (0..history.len() / 4)
                .find_map(|i| {
                    let free = history[i].last() + 1;
                    (history[i + 1].number > free).then_some((free, history[i + 1]))
                })
                .expect("one number in twenty is skipped");
            let later = history.len() / 2 + here / 2;
            assert!(history[later].sent > earlier.received);
            history[later].number = gap;
            history[later].count = 1;
            "stale"
        }
        _ => {
            history[here].number = *random
                .choice(&[0, checker::verify::LARGEST + 1, u64::MAX])
                .expect("the list is not empty");
            "out_of_range"
        }
    }
}

/// The named operations must by themselves show the violation.
fn assert_shown(violation: &Violation, seed: u64) {
    let named = violation.operations();
    assert_eq!(
        verify(&named).expect_err("the evidence is evidence").kind(),
        violation.kind(),
        "seed {seed}"
    );
}
