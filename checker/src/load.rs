//! Drives load over kept-alive connections and writes down what happens.

use std::collections::BTreeMap;
use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::client::Client;
use crate::clock::Clock;
use crate::target::Target;
use crate::worker::Worker;
use crate::{History, Violation};

pub use crate::client::Failure;

/// How the load is driven.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the requests go: the connections are dealt to these in turn. At least one.
    pub targets: Vec<Target>,
    /// Kept-alive connections, each with one request at a time: 1..=65535.
    pub connections: u16,
    /// Threads that share the connections; 1 is enough for tens of thousands of requests a second.
    pub threads: u16,
    /// Ends after so many answered requests. Failed ones are made again and do not count.
    pub requests: Option<u64>,
    /// Ends after this time.
    pub duration: Option<Duration>,
    /// Numbers to ask for in one request: 1..=65536.
    pub count: u32,
    /// How long to wait for a connection, and for each answer.
    pub timeout: Duration,
    /// Gives up after this long without a successful response.
    pub keep_trying: Duration,
    /// Stops when more requests than this failed.
    pub max_failures: Option<u64>,
}

impl Options {
    /// 64 connections and no end but [`Control::stop`], with the defaults of
    /// the command line for the rest.
    pub fn new(target: Target) -> Self {
        Self {
            targets: vec![target],
            connections: 64,
            threads: 1,
            requests: None,
            duration: None,
            count: 1,
            timeout: Duration::from_secs(15),
            keep_trying: Duration::from_secs(10),
            max_failures: None,
        }
    }
}

/// What happened while the load was driven.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The requests that were answered with numbers; not proven yet.
    pub history: History,
    /// The first of the answers that are wrong in themselves: a wrong hash or count, or a success
    /// without a number.
    pub wrong: Vec<Violation>,
    /// How many answers are wrong in themselves.
    pub wrong_answers: u64,
    /// Requests that brought no number, by kind.
    pub failures: BTreeMap<Failure, FailureCount>,
    /// Requests that were under way when the run was ended at once.
    pub abandoned: u64,
    /// Answers of any status by the value of their `X-Served-By`.
    pub served_by: BTreeMap<String, u64>,
    /// Hashes that were recomputed.
    pub hashes: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// From the start until the last connection was done.
    pub elapsed: Duration,
    /// Why it ended.
    pub ending: Ending,
}

/// How often a kind of failure happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureCount {
    /// How many requests failed like this.
    pub count: u64,
    /// What the service or the system said the first time; may be empty.
    pub example: String,
}

impl Outcome {
    /// Requests that failed, of any kind.
    pub fn failed(&self) -> u64 {
        self.failures.values().map(|failure| failure.count).sum()
    }

    /// Requests that were sent and never answered: each may or may not have taken its numbers.
    pub fn lost(&self) -> u64 {
        let lost = self.failures.iter().filter(|(kind, _)| kind.is_lost());
        self.abandoned + lost.map(|(_, failure)| failure.count).sum::<u64>()
    }

    pub(crate) fn add_failures(&mut self, failure: Failure, more: FailureCount) {
        let known = self.failures.entry(failure).or_default();
        if known.count == 0 {
            known.example = more.example;
        }
        known.count += more.count;
    }

    /// Adds what another connection wrote down.
    fn append(&mut self, mut other: Self) {
        let operations = &mut self.history.operations;
        operations.append(&mut other.history.operations);
        self.wrong.append(&mut other.wrong);
        self.wrong_answers += other.wrong_answers;
        for (failure, more) in other.failures {
            self.add_failures(failure, more);
        }
        self.abandoned += other.abandoned;
        for (name, count) in other.served_by {
            *self.served_by.entry(name).or_default() += count;
        }
        self.hashes += other.hashes;
        self.connections += other.connections;
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// All requests were answered, or the time was up.
    #[default]
    Complete,
    /// It was told to stop.
    Stopped,
    /// Nothing was answered with a number for longer than [`Options::keep_trying`].
    GaveUp,
    /// More requests failed than [`Options::max_failures`] allows.
    TooManyFailures,
}

/// Watches one run and ends it early. Clones are cheap and share the run.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ending: OnceLock<Ending>,
    abandoned: watch::Sender<bool>,
    answered: AtomicU64,
    failed: AtomicU64,
    last_answer: AtomicU64,
}

impl Control {
    /// Sends no more requests, and lets those under way finish.
    pub fn stop(&self) {
        self.end(Ending::Stopped);
    }

    /// Ends at once: requests under way are left without an answer.
    pub fn abandon(&self) {
        self.end_at_once(Ending::Stopped);
    }

    /// How many requests were answered with a number so far.
    pub fn answered(&self) -> u64 {
        self.0.answered.load(Ordering::Relaxed)
    }

    /// How many requests failed so far.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }

    /// Sends no more requests for a reason; the first one stands.
    pub(crate) fn end(&self, ending: Ending) {
        self.0.ending.get_or_init(|| ending);
    }

    fn end_at_once(&self, ending: Ending) {
        self.end(ending);
        self.0.abandoned.send_replace(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.ending.get().is_some()
    }

    /// Returns when the run is to end at once.
    pub(crate) async fn until_abandoned(&self) {
        let mut abandoned = self.0.abandoned.subscribe();
        // The sender lives as long as we do, so there is always an answer.
        let _ = abandoned.wait_for(|abandoned| *abandoned).await;
    }

    /// Notes an answer with a number at a time of the run's clock.
    pub(crate) fn note_answer(&self, received: u64) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
        self.0.last_answer.fetch_max(received, Ordering::Relaxed);
    }

    /// Notes a failure and returns how many there are now.
    pub(crate) fn note_failure(&self) -> u64 {
        self.0.failed.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Ends the run when its time is up or nothing answers any more.
    fn watch(&self, options: &Options, now: u64) {
        let passed = |time: Duration, nanoseconds| u128::from(nanoseconds) > time.as_nanos();
        if options.duration.is_some_and(|time| passed(time, now)) {
            self.end(Ending::Complete);
        }
        let last_answer = self.0.last_answer.load(Ordering::Relaxed);
        if passed(options.keep_trying, now.saturating_sub(last_answer)) {
            self.end_at_once(Ending::GaveUp);
        }
    }
}

/// Drives load until the options say that it is enough. Blocks the calling thread.
///
/// # Errors
///
/// If the system has no thread or no event queue for us. What the service does wrong is not an
/// error, it is an [`Outcome`].
///
/// # Panics
///
/// If there is no target.
pub fn run(options: &Options) -> io::Result<Outcome> {
    run_with(options, &Control::default())
}

/// How often the watch looks.
const TICK: Duration = Duration::from_millis(20);

/// Wrong answers that are kept in full. The first tell the story; the rest are counted.
pub(crate) const KEPT: usize = 10;

/// Like [`run()`], and can be watched and ended by `control` from elsewhere.
///
/// # Errors
///
/// Those of [`run()`].
///
/// # Panics
///
/// If there is no target.
pub fn run_with(options: &Options, control: &Control) -> io::Result<Outcome> {
    assert!(!options.targets.is_empty(), "there must be a target");
    let clock = Clock::start();
    let tickets = Arc::new(AtomicU64::new(options.requests.unwrap_or(u64::MAX)));
    let threads = usize::from(options.threads.max(1));
    let share = |thread: usize| -> io::Result<Outcome> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .inspect_err(|_| control.abandon())?;
        let mut outcome = Outcome::default();
        runtime.block_on(async {
            let mut workers = JoinSet::new();
            let all = (0..options.connections).zip(options.targets.iter().cycle());
            for (connection, target) in all.skip(thread).step_by(threads) {
                let client = Client::new(target.clone(), options.count, options.timeout, clock);
                let worker = Worker {
                    connection,
                    client,
                    asked: options.count,
                    max_failures: options.max_failures,
                    tickets: Arc::clone(&tickets),
                    control: control.clone(),
                    outcome: Outcome::default(),
                };
                workers.spawn(worker.run());
            }
            let mut ticks = interval(TICK);
            loop {
                tokio::select! {
                    done = workers.join_next() => match done {
                        Some(Ok(part)) => outcome.append(part),
                        Some(Err(error)) => resume_unwind(error.into_panic()),
                        None => break,
                    },
                    _ = ticks.tick() => control.watch(options, clock.now()),
                }
            }
        });
        // Does not wait for a look-up of a name that hangs.
        runtime.shutdown_background();
        Ok(outcome)
    };
    let mut outcome = Outcome::default();
    // Not tokio's threads: that feature of it would come into the services, which are built along.
    thread::scope(|scope| -> io::Result<()> {
        let share = &share;
        let start = |thread| thread::Builder::new().spawn_scoped(scope, move || share(thread));
        let threads: io::Result<Vec<_>> = (0..threads).map(start).collect();
        // The scope waits for the threads that did start.
        for thread in threads.inspect_err(|_| control.abandon())? {
            outcome.append(thread.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(())
    })?;
    outcome.elapsed = Duration::from_nanos(clock.now());
    outcome.history.epoch = clock.epoch();
    outcome
        .wrong
        .sort_by_key(|wrong| wrong.operations()[0].received);
    outcome.wrong.truncate(KEPT);
    outcome.ending = control.0.ending.get().copied().unwrap_or_default();
    Ok(outcome)
}
