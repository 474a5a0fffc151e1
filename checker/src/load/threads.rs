//! The threads that the workers run on, and the one that watches them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use tokio::runtime;
use tokio::task::JoinSet;

use super::tally::Tally;
use super::worker::Worker;
use super::{Control, Options};
use crate::clock::Clock;

/// How often the watch looks.
const TICK: Duration = Duration::from_millis(20);

/// What a thread leaves behind: its notes, and when it was done.
pub(super) type Done = io::Result<(Tally, u64)>;

/// Starts a thread for the workers that share `tally`.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    workers: Vec<Worker>,
    tally: Arc<Mutex<Tally>>,
    control: Control,
    clock: Clock,
) -> io::Result<ScopedJoinHandle<'scope, Done>> {
    let watch = thread::current();
    thread::Builder::new().spawn_scoped(scope, move || {
        let result = drive(workers, &control);
        let ended = clock.now();
        watch.unpark();
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        result.map(|()| (std::mem::take(&mut *tally), ended))
    })
}

/// Ends the run when its time is up or nothing answers any more, and collects the notes.
pub(super) fn watch(
    threads: Vec<ScopedJoinHandle<'_, Done>>,
    options: &Options,
    control: &Control,
    clock: Clock,
) -> Done {
    while !threads.iter().all(ScopedJoinHandle::is_finished) {
        thread::park_timeout(TICK);
        let now = clock.now();
        if options.duration.is_some_and(|time| passed(time, now)) {
            control.finish();
        }
        let silence = now.saturating_sub(control.last_answer());
        if passed(options.keep_trying, silence) {
            control.give_up();
        }
    }
    let mut together = (Tally::default(), 0);
    for thread in threads {
        let (tally, ended) = thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        together.0.append(tally);
        together.1 = together.1.max(ended);
    }
    Ok(together)
}

fn drive(workers: Vec<Worker>, control: &Control) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let workers: JoinSet<()> = workers.into_iter().map(Worker::run).collect();
        tokio::select! {
            _ = workers.join_all() => {}
            () = control.until_abandoned() => {}
        }
    });
    // Drops what is still under way, without waiting for a look-up of a name that hangs.
    runtime.shutdown_background();
    Ok(())
}

fn passed(time: Duration, nanoseconds: u64) -> bool {
    u128::from(nanoseconds) > time.as_nanos()
}
