//! The diagnostic log: what the process does and why, on standard error.
//!
//! One thread writes it: a reader that stalls costs lines, which are counted, and nothing else.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use opentelemetry_sdk::trace::SdkTracer;
use tracing::{Event, Level, Metadata, callsite::Identifier, warn};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer as _, Registry,
    filter::{FilterExt as _, Targets, filter_fn},
    fmt,
    layer::{Context, Filter, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use crate::settings::{Common, LogFormat, LogLevels};

/// How many lines may wait to be written; the next one is dropped.
const BACKLOG: usize = 4096;

static WRITER: OnceLock<NonBlocking> = OnceLock::new();
static LEVELS: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();
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

/// Sends what the process says to standard error, and panics too; and spans to `tracer`.
pub(crate) fn init(common: &Common, tracer: Option<SdkTracer>) -> Log {
    let (writer, thread) = NonBlockingBuilder::default()
        .buffered_lines_limit(BACKLOG)
        .thread_name("log")
        .finish(io::stderr());
    let lines = fmt::layer()
        .with_writer(writer.clone())
        .with_ansi(io::stderr().is_terminal());
    let layer = match format(common, &io::stderr()) {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let (levels, handle) = reload::Layer::new(common.rust_log.targets());
    let filter = levels
        .and(filter_fn(|metadata: &Metadata<'_>| metadata.is_event()))
        .and(Repetitions);
    let are_sent = tracer.is_some();
    let spans = tracer.map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
    });
    // Those of libraries are for debugging. The filter is there without a tracer, too: a layer
    // without one would ask for everything.
    let spans = spans.with_filter(filter_fn(move |metadata| {
        are_sent && metadata.is_span() && *metadata.level() <= Level::INFO
    }));
    // It fails where a subscriber is there already, as in tests that run services in-process.
    if tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(spans)
        .try_init()
        .is_ok()
    {
        let _ = WRITER.set(writer);
        let _ = LEVELS.set(handle);
        *THREAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            tracing::error!(thread = thread.name(), %panic, "panic");
        }));
    }
    Log
}

/// What is logged at the moment, as `RUST_LOG` has it.
pub(crate) fn levels() -> String {
    let levels = LEVELS.get();
    let text = levels.and_then(|levels| levels.with_current(Targets::to_string).ok());
    text.unwrap_or_default()
}

/// From now on logs this, until the process ends.
pub(crate) fn set_levels(levels: &LogLevels) {
    if let Some(handle) = LEVELS.get() {
        // It fails where the subscriber is gone, and then nothing is logged.
        let _ = handle.reload(levels.targets());
    }
}

/// How often the same warning or error is logged in each [`PERIOD`]; more are counted, and said then.
const MOST: u32 = 10;

/// See [`MOST`].
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// How often each warning and error came in this period, by its place in the code.
static REPETITIONS: LazyLock<Mutex<HashMap<Identifier, (u32, &Metadata<'_>)>>> =
    LazyLock::new(Mutex::default);

/// Keeps a storm of equal messages out of the log.
struct Repetitions;

impl<S> Filter<S> for Repetitions {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN {
            return true;
        }
        let mut repetitions = REPETITIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, _) = repetitions
            .entry(metadata.callsite())
            .or_insert((0, metadata));
        *count += 1;
        *count <= MOST
    }
}

/// Begins another [`PERIOD`], and says what the last one left out.
pub(crate) fn summarise() {
    let repetitions =
        std::mem::take(&mut *REPETITIONS.lock().unwrap_or_else(PoisonError::into_inner));
    for (count, metadata) in repetitions.into_values() {
        if count > MOST {
            warn!(
                left_out = count - MOST,
                file = metadata.file(),
                line = metadata.line(),
                "more messages from the same place were left out"
            );
        }
    }
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
