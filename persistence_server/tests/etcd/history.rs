//! Load from several threads, and a look at what they got.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use persistence_server::store::etcd::EtcdStore;

use super::reserve;

/// One reservation that was answered.
#[derive(Clone, Copy, Debug)]
struct Answer {
    asked: Instant,
    answered: Instant,
    first: u64,
    last: u64,
}

/// Threads that reserve without pause, each through a handle of its own.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(Vec<Answer>, Vec<String>)>>,
}

/// What came of a load.
pub(crate) struct History {
    answers: Vec<Answer>,
    /// Why reservations failed.
    pub(crate) failures: Vec<String>,
}

impl Load {
    pub(crate) fn start(store: &EtcdStore, threads: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |size: u32| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            thread::spawn(move || work(&store, size, &stop))
        };
        Self {
            threads: (1..=threads).map(start).collect(),
            stop,
        }
    }

    pub(crate) fn finish(self) -> History {
        Self::finish_all([self])
    }

    /// Stops several loads and looks at them as one.
    pub(crate) fn finish_all(loads: impl IntoIterator<Item = Self>) -> History {
        let mut history = History {
            answers: Vec::new(),
            failures: Vec::new(),
        };
        let loads: Vec<Self> = loads.into_iter().collect();
        for load in &loads {
            load.stop.store(true, Ordering::Relaxed);
        }
        for thread in loads.into_iter().flat_map(|load| load.threads) {
            let (answers, failures) = thread.join().expect("a thread that does not panic");
            history.answers.extend(answers);
            history.failures.extend(failures);
        }
        history.answers.sort_unstable_by_key(|answer| answer.first);
        history
    }
}

fn work(store: &EtcdStore, size: u32, stop: &AtomicBool) -> (Vec<Answer>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let handle = store.clone();
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            match reserve(&handle, size).await {
                Ok(block) => answers.push(Answer {
                    asked,
                    answered: Instant::now(),
                    first: block.first(),
                    last: block.last(),
                }),
                Err(reason) => {
                    failures.push(reason);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        (answers, failures)
    })
}

impl History {
    /// Panics unless every number was handed out once, and none after a larger one that was
    /// answered before it was asked for.
    #[track_caller]
    pub(crate) fn assert_linearizable(&self) {
        let mut latest_asked: Option<Answer> = None;
        for pair in self.answers.windows(2) {
            assert!(
                pair[0].last < pair[1].first,
                "handed out twice: {:?} and {:?}",
                pair[0],
                pair[1]
            );
        }
        for answer in &self.answers {
            if let Some(latest) = latest_asked {
                assert!(
                    answer.answered >= latest.asked,
                    "out of order: {latest:?} and {answer:?}"
                );
            }
            if latest_asked.is_none_or(|latest| latest.asked < answer.asked) {
                latest_asked = Some(*answer);
            }
        }
    }

    /// Panics if a number between 1 and the last one is missing.
    #[track_caller]
    pub(crate) fn assert_no_gap(&self) {
        let mut next = 1;
        for answer in &self.answers {
            assert_eq!(answer.first, next, "a gap before {answer:?}");
            next = answer.last + 1;
        }
    }

    /// How many reservations were answered.
    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    /// The largest number; 0 for none.
    pub(crate) fn last(&self) -> u64 {
        self.answers.last().map_or(0, |answer| answer.last)
    }

    /// How long it took from `since` until a reservation that was asked for later was answered.
    #[track_caller]
    pub(crate) fn recovery(&self, since: Instant) -> Duration {
        let later = self.answers.iter().filter(|answer| answer.asked > since);
        let first = later.map(|answer| answer.answered).min();
        first.expect("an answer after that") - since
    }

    /// The longest time that anybody waited for an answer.
    pub(crate) fn longest_wait(&self) -> Duration {
        let waits = self.answers.iter().map(|a| a.answered - a.asked);
        waits.max().unwrap_or_default()
    }
}
