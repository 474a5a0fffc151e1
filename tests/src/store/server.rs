//! What all stores have in common: a process that can be killed, suspended and started again.

use std::time::Duration;

use crate::launch::Launch;
use crate::process::{Process, Signal};

/// How long a store may take to start and answer. It is far more than it needs.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long one call of a store's own command-line tool may take.
pub(crate) const TOOL_LIMIT: Duration = Duration::from_secs(20);

/// How long a store may take to stop when it is asked to.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A store's server process.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    /// The signal that means "finish and end".
    stop_signal: Signal,
}

impl Server {
    #[track_caller]
    pub(crate) fn start(launch: &Launch, stop_signal: Signal) -> Self {
        Self {
            process: Process::start(launch),
            stop_signal,
        }
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it in order. One that is suspended goes on first, or it could not.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.process.resume();
        self.process.signal(self.stop_signal);
        self.process.wait(STOP_LIMIT);
    }

    /// Starts it anew after its end, or after killing it.
    #[track_caller]
    pub(crate) fn restart(&mut self, launch: &Launch) {
        self.process.kill9_with_children();
        self.process = Process::start(launch);
    }
}
