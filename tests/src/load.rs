//! Load on a sequence from several threads, and what it got, for `checker` to judge.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use checker::{Operation, Proof, Violation};
use sequence::{Count, Sequence};
use tokio::time::{sleep, timeout};

use crate::wait;

/// What histories call 0, so that those of several loads can be joined.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// As the coalescer has it.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Threads that reserve without pause, each through a handle of its own; the first takes one number
/// at a time, the second two, and so on.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<History>>,
}

/// What came of a load.
pub struct History {
    /// The reservations that were answered.
    pub operations: Vec<Operation>,
    /// Why others failed.
    pub failures: Vec<String>,
    /// How many the thread got that got the fewest.
    pub fewest: usize,
}

impl Default for History {
    fn default() -> Self {
        Self {
            operations: Vec::new(),
            failures: Vec::new(),
            fewest: usize::MAX,
        }
    }
}

impl Load {
    /// Starts so many threads, each with a handle from `open`.
    pub fn start<S: Sequence>(threads: u32, open: impl Fn() -> S + Clone + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let work = |size| {
            let (open, stop, answered) = (open.clone(), Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || reserve_until(&stop, &open(), size, &answered))
        };
        Self {
            threads: (1..=threads).map(work).collect(),
            stop,
            answered,
        }
    }

    /// Waits until so many more reservations were answered.
    #[track_caller]
    pub fn wait_for(&self, more: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        wait::until("progress", Duration::from_secs(30), || {
            (self.answered.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    /// Stops it.
    pub fn finish(self) -> History {
        Self::finish_all([self])
    }

    /// Stops several loads, and looks at them as one.
    pub fn finish_all(loads: impl IntoIterator<Item = Self>) -> History {
        let loads: Vec<Self> = loads.into_iter().collect();
        for load in &loads {
            load.stop.store(true, Ordering::Relaxed);
        }
        let mut all = History::default();
        for thread in loads.into_iter().flat_map(|load| load.threads) {
            let mut one = thread.join().expect("it does not panic");
            all.fewest = all.fewest.min(one.operations.len());
            all.operations.append(&mut one.operations);
            all.failures.append(&mut one.failures);
        }
        all
    }
}

fn reserve_until(
    stop: &AtomicBool,
    sequence: &impl Sequence,
    size: u32,
    answered: &AtomicUsize,
) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let count = Count::new(size).expect("a valid count");
    let now = || u64::try_from(START.elapsed().as_nanos()).expect("centuries");
    let mut history = History::default();
    runtime.block_on(async {
        while !stop.load(Ordering::Relaxed) {
            let sent = now();
            match timeout(ATTEMPT, sequence.reserve(count)).await {
                Ok(Ok(block)) => {
                    answered.fetch_add(1, Ordering::Relaxed);
                    history.operations.push(Operation {
                        sent,
                        received: now(),
                        number: block.first(),
                        count: size,
                        connection: u16::try_from(size).expect("few threads"),
                        run: 0,
                    });
                    continue;
                }
                Ok(Err(error)) => history.failures.push(error.chain()),
                Err(_elapsed) => history.failures.push("abandoned".to_owned()),
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    history
}

impl History {
    /// What the checker says of it.
    ///
    /// # Errors
    ///
    /// The two reservations that break the promise.
    pub fn verify(&self) -> Result<Proof, Violation> {
        checker::verify(&self.operations)
    }

    /// Panics unless it keeps the promise.
    #[track_caller]
    pub fn assert_proven(&self) -> Proof {
        match self.verify() {
            Ok(proof) => proof,
            Err(violation) => panic!("{violation}: {:?}", violation.operations()),
        }
    }

    /// The largest number; 0 for none.
    pub fn last(&self) -> u64 {
        self.operations
            .iter()
            .map(Operation::last)
            .max()
            .unwrap_or(0)
    }
}
