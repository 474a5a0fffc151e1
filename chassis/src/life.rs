//! The life of a process: start, serve, drain, stop.

use std::{fmt, io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::spawn_local,
    time::{Instant, sleep},
};
use tracing::{error, info, warn};

use crate::{
    logs,
    program::Program,
    service::{Context, Fatal, Service},
    serving::{Serving, Sockets},
    settings::Common,
};

/// A second SIGTERM within this time is the same request to stop: wrappers and process groups
/// send it twice.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Why a process could not start, or could not go on.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Serves until a signal says stop, or something says that it cannot go on.
pub(crate) async fn live(
    program: Program,
    common: Common,
    build: impl AsyncFnOnce(Context) -> Result<Service, Error>,
) -> Result<(), Error> {
    // Before anything else: a signal during the start must not be lost.
    let mut signals = Signals::listen()?;
    let sockets = Sockets::bind(&common)?;
    // This sender is kept, so that the channel stays open where a service has no use for it.
    let (fatal, mut failure) = mpsc::unbounded_channel();
    let context = Context {
        common: common.clone(),
        fatal: Fatal(fatal.clone()),
    };
    let service = build(context).await?;
    let serving = Serving::start(program, &common, sockets, service)?;

    let outcome = tokio::select! {
        signal = signals.next() => {
            info!(signal, "stopping");
            Ok(())
        }
        reason = failure.recv() => {
            let reason = reason.unwrap_or_default();
            error!(reason, "cannot go on; stopping");
            Err(reason.into())
        }
    };
    spawn_local(exit_at_once_on(signals));
    serving.drain();
    if outcome.is_ok() {
        sleep(common.drain()).await;
    }
    serving.stop().await?;
    info!("stopped");
    outcome
}

/// The signals that ask a process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A second signal means: now.
async fn exit_at_once_on(mut signals: Signals) {
    let first = Instant::now();
    let signal = loop {
        match signals.next().await {
            "SIGTERM" if first.elapsed() < SAME_REQUEST => {}
            signal => break signal,
        }
    };
    warn!(signal, "second signal; exiting at once");
    logs::finish();
    std::process::exit(1);
}

/// Something that went wrong, in one line with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> impl fmt::Display {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !line.contains(&words) {
            line.push_str(": ");
            line.push_str(&words);
        }
        next = cause.source();
    }
    line
}
