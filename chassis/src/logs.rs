//! The diagnostic log: what the process does and why, on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::settings::{Common, LogFormat};

/// The form of a log that the settings ask for: text where a person watches.
pub(crate) fn format(common: &Common, stream: &impl io::IsTerminal) -> LogFormat {
    common.log_format.unwrap_or(if stream.is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    })
}

/// Sends what the process says to standard error, and panics too.
pub(crate) fn init(format: LogFormat, filter: Targets) {
    let lines = fmt::layer()
        .with_writer(io::stderr)
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
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            tracing::error!(thread = thread.name(), %panic, "panic");
        }));
    }
}
