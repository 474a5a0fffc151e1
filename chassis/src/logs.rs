//! The diagnostic log: what the process does and why, on standard error.
//!
//! One thread writes it: a reader that stalls costs lines, which are counted, and nothing else.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::settings::{Common, LogFormat};

/// How many lines may wait to be written; the next one is dropped.
const BACKLOG: usize = 4096;

static WRITER: OnceLock<NonBlocking> = OnceLock::new();
static THREAD: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// The form of a log that the settings ask for: text where a person watches.
pub(crate) fn format(common: &Common, stream: &impl io::IsTerminal) -> LogFormat {
    common.log_format.unwrap_or(if stream.is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    })
}

/// The log, once it has begun; dropping it writes what still waits.
#[must_use]
pub(crate) struct Log;

impl Drop for Log {
    fn drop(&mut self) {
        finish();
    }
}

/// Sends what the process says to standard error, and panics too.
pub(crate) fn init(format: LogFormat, filter: Targets) -> Log {
    let (writer, thread) = NonBlockingBuilder::default()
        .buffered_lines_limit(BACKLOG)
        .thread_name("log")
        .finish(io::stderr());
    let lines = fmt::layer()
        .with_writer(writer.clone())
        .with_ansi(io::stderr().is_terminal());
    let layer = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // It fails where a subscriber is there already, as in tests that run services in-process.
    if tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .is_ok()
    {
        let _ = WRITER.set(writer);
        *THREAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            tracing::error!(thread = thread.name(), %panic, "panic");
        }));
    }
    Log
}

/// Writes a line that is no message of the log, whatever `RUST_LOG` says.
pub(crate) fn print(line: &str) {
    let line = format!("{line}\n");
    // There is nowhere left to report to if this fails.
    let _ = match WRITER.get() {
        Some(writer) => writer.clone().write_all(line.as_bytes()),
        None => io::stderr().write_all(line.as_bytes()),
    };
}

/// How many lines were dropped because standard error was not read.
pub(crate) fn dropped() -> u64 {
    WRITER
        .get()
        .map_or(0, |writer| writer.error_counter().dropped_lines() as u64)
}

/// Writes what still waits, unless standard error is stuck: the process must not wait for it.
pub(crate) fn finish() {
    let thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (Some(thread), Some(mut writer)) = (thread, WRITER.get().cloned()) else {
        return;
    };
    // To drop the first waits for the last line to be written. If there is no room for a message
    // that asks it to end, it complains on standard output, which is for the access log.
    let before = dropped();
    let _ = writer.write_all(b"");
    if dropped() > before {
        return std::mem::forget(thread);
    }
    let finishing = thread::spawn(move || drop(thread));
    for _ in 0..50 {
        if finishing.is_finished() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
