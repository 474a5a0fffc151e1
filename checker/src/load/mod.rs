//! Drives load over kept-alive connections and writes down what happens.

mod control;
mod options;
mod tally;
mod threads;
mod tickets;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::client::{Client, Counters};
use crate::clock::Clock;
use crate::{History, Violation};

pub use crate::client::Failure;
pub use control::{Control, Ending};
pub use options::Options;
pub use tally::FailureCount;

use tally::Tally;
use tickets::Tickets;
use worker::Worker;

/// What happened while the load was driven.
#[derive(Clone, Debug)]
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
    let counters = Arc::new(Counters::default());
    let tickets = Arc::new(Tickets::new(options.requests));
    let targets: Vec<_> = options.targets.iter().cloned().map(Arc::new).collect();
    let worker = |connection: u16, tally: &Arc<Mutex<Tally>>| Worker {
        connection,
        client: Client::new(
            Arc::clone(&targets[usize::from(connection) % targets.len()]),
            options.count,
            options.timeout,
            clock,
            Arc::clone(&counters),
        ),
        asked: options.count,
        max_failures: options.max_failures,
        tickets: Arc::clone(&tickets),
        control: control.clone(),
        tally: Arc::clone(tally),
    };

    let (tally, ended) = thread::scope(|scope| {
        let threads = options.threads.max(1);
        let start = |thread: u16| {
            let tally = Arc::default();
            let share = (thread..options.connections).step_by(threads.into());
            let workers = share.map(|connection| worker(connection, &tally)).collect();
            threads::start(scope, workers, tally, control.clone(), clock)
        };
        let threads: io::Result<Vec<_>> = (0..threads).map(start).collect();
        // The scope waits for the threads that did start.
        let threads = threads.inspect_err(|_| control.abandon())?;
        threads::watch(threads, options, control, clock)
    })?;

    let name = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    Ok(Outcome {
        history: History {
            epoch: clock.epoch(),
            operations: tally.operations,
        },
        wrong: tally.wrong,
        wrong_answers: tally.wrong_answers,
        failures: tally.failures,
        abandoned: counters.abandoned.load(Ordering::Relaxed),
        served_by: (tally.served_by.iter())
            .map(|(value, count)| (name(value.as_bytes()), *count))
            .collect(),
        hashes: tally.hashes,
        connections: counters.opened.load(Ordering::Relaxed),
        elapsed: Duration::from_nanos(ended),
        ending: control.ending(),
    })
}
