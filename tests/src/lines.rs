//! What a process writes, line by line, while it runs.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The lines of one output stream so far. A clone shows the same lines.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    closed: bool,
}

impl Lines {
    /// Reads `stream` to its end in a thread of its own, so the writer never blocks on a full
    /// pipe.
    pub(crate) fn collect(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let writer = lines.clone();
        thread::spawn(move || writer.read_from(BufReader::new(stream)));
        lines
    }

    /// Every line so far, without line ends.
    pub fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// How many lines there are so far.
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// True while nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lines that are JSON objects, parsed; other lines are left out.
    pub fn json(&self) -> Vec<Value> {
        let lines = self.all();
        lines.iter().filter_map(|line| object(line)).collect()
    }

    /// True if a line so far contains `text`.
    pub fn contain(&self, text: &str) -> bool {
        self.lock().lines.iter().any(|line| line.contains(text))
    }

    /// The first line for which `pick` has an answer, waiting for it up to `limit`.
    ///
    /// Stops early when the stream has ended, since no further line can come.
    pub fn find<T>(&self, limit: Duration, mut pick: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let mut seen = 0;
        let mut state = self.lock();
        loop {
            let found = state.lines[seen..].iter().find_map(|line| pick(line));
            if found.is_some() || state.closed {
                return found;
            }
            seen = state.lines.len();
            let left = end.checked_duration_since(Instant::now())?;
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a line that contains `text`.
    ///
    /// # Panics
    ///
    /// When there is none within `limit`.
    #[track_caller]
    pub fn wait_for(&self, text: &str, limit: Duration) -> String {
        let found = self.find(limit, |line| line.contains(text).then(|| line.to_owned()));
        found.unwrap_or_else(|| panic!("no line with {text:?} within {limit:?}"))
    }

    /// Waits until the writer has closed the stream; false if it has not within `limit`.
    pub(crate) fn wait_closed(&self, limit: Duration) -> bool {
        self.find(limit, |_| None::<()>);
        self.lock().closed
    }

    fn read_from(&self, mut stream: impl BufRead) {
        let mut line = Vec::new();
        // A read error here is the end as much as end-of-file is: the process is gone.
        while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line);
            self.lock().lines.push(text.trim_end().to_owned());
            self.shared.changed.notify_all();
            line.clear();
        }
        self.lock().closed = true;
        self.shared.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked in `pick` leaves nothing half done here.
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line as a JSON object, if it is one.
pub(crate) fn object(line: &str) -> Option<Value> {
    let value = serde_json::from_str::<Value>(line).ok()?;
    value.is_object().then_some(value)
}
