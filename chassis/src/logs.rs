//! The diagnostic log: what the process does and why, on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    Layer as _,
    filter::{ParseError, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::settings::{BadValue, Common, LogFormat};

/// The form of a log that the settings ask for: text where a person watches.
pub(crate) fn format(common: &Common, stream: &impl io::IsTerminal) -> LogFormat {
    common.log_format.unwrap_or(if stream.is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    })
}

/// Which messages to log.
///
/// # Errors
///
/// `RUST_LOG` holds something else than levels by module.
pub(crate) fn filter(common: &Common) -> Result<Targets, BadValue> {
    // The libraries report every malformed request as an error of theirs, and each step of a
    // start; whoever wants that names them in RUST_LOG, and the last word counts.
    let levels: Result<Targets, ParseError> =
        format!("actix_http=off,actix_server=warn,{}", common.rust_log).parse();
    levels.map_err(|error| {
        BadValue::together(format!(
            "RUST_LOG={:?} cannot be used: {error}; it accepts levels such as info or \
             warn,chassis=debug (off, error, warn, info, debug, trace)",
            common.rust_log
        ))
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
