//! Drives load at a service that hands out numbers and proves what it answered.

mod args;
mod progress;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use checker::load::{self, Control};
use checker::{History, Summary};
use clap::Parser;
use tokio::runtime;

use args::Args;
use progress::{Progress, TICK};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = if args.verify.is_empty() {
        drive(&args)
    } else {
        prove_recorded(&args)
    };
    result.unwrap_or_else(|error| {
        let cause = error.source().map_or(String::new(), |e| format!(": {e}"));
        let _ = writeln!(io::stderr(), "error: {error}{cause}");
        ExitCode::from(2)
    })
}

fn prove_recorded(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let history = History::read(&args.verify)?;
    print(args, &Summary::of_history(history, args.gaps()))
}

fn drive(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let options = args.options();
    let control = Control::default();
    obey_signals(control.clone())?;
    // Opened before the load, which may take hours, so that a wrong name is told at once.
    let file = args.history.as_ref().map(History::create).transpose()?;

    let progress = Progress::new(&options, control.clone());
    let outcome = thread::scope(|scope| {
        let load = scope.spawn(|| load::run_with(&options, &control));
        while !load.is_finished() {
            progress.update();
            thread::sleep(TICK);
        }
        load.join().expect("the load does not panic")
    })?;
    drop(progress);

    // The verdict comes first: a full disk must not hide it.
    let exit_code = print(args, &Summary::of_run(&outcome, args.gaps()))?;
    if let Some(file) = file {
        outcome.history.write(file)?;
    }
    Ok(exit_code)
}

fn print(args: &Args, summary: &Summary) -> Result<ExitCode, Box<dyn Error>> {
    let mut output = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut output, summary)?;
        writeln!(output)?;
    } else {
        write!(output, "{summary}")?;
    }
    Ok(ExitCode::from(summary.verdict.exit_code()))
}

/// Stops the load on the first signal, so that there is something to prove, and leaves unanswered
/// requests alone on the second.
///
/// # Errors
///
/// If the system does not let us have the signals.
fn obey_signals(control: Control) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = {
        let _context = runtime.enter();
        Signals::listen()?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            signals.next().await;
            control.stop();
            signals.next().await;
            control.abandon();
        });
    });
    Ok(())
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        drop(tokio::signal::ctrl_c().await);
    }
}
