//! From the command line to the exit code: start, serve, drain, stop.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::spawn_local,
    time::{Instant, interval, sleep},
};
use tracing::{error, info, warn};

use crate::{
    faults::Faults,
    health::healthcheck,
    logs,
    server::{Serving, Sockets},
    service::{Context, Fatal, Service},
    settings::{BadValue, Common, Environment, Settings, Switch, Variable, both},
    traces::Export,
};

/// The exit code of a process that a setting or the command line kept from starting.
const BAD_SETTINGS: u8 = 2;

/// Runs a service: reads its settings, builds it, serves until told to stop.
///
/// `build` makes the service from its own settings and what every service has. It runs before
/// the listeners answer, on the main thread's local runtime.
///
/// The exit code is 0 when it was stopped, 1 when it failed and 2 when a setting or the command
/// line is invalid; in the last two cases standard error says why.
pub fn run<S: Settings>(
    program: Program,
    build: impl AsyncFnOnce(S, Context) -> Result<Service, BoxError>,
) -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let command = match Command::parse(&arguments) {
        Ok(command) => command,
        Err(line) => return refuse(program, &[line]),
    };
    match command {
        Command::Help => return print(&program.help::<S>()),
        Command::Version => return print(&program.version_line()),
        Command::Serve | Command::HealthCheck => {}
    }

    let (settings, common) = match read_settings::<S>(program) {
        Ok(settings) => settings,
        Err(bad) => return refuse(program, &bad),
    };
    if command == Command::HealthCheck {
        return match healthcheck(&common) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(program, &reason),
        };
    }

    let traces = match Export::start(program, &common) {
        Ok(traces) => traces,
        Err(error) => return refuse(program, &[chain(&*error)]),
    };
    let _log = logs::init(&common, traces.as_ref().map(Export::tracer));
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(program, &error.to_string()),
    };
    let life = live(program, common, async |context| {
        build(settings, context).await
    });
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, life);
    drop(traces);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<BadSettings>() {
            Ok(bad) => refuse(program, &bad.0),
            Err(error) => fail(program, &chain(&*error).to_string()),
        },
    }
}

/// The service's own settings and the common ones.
fn read_settings<S: Settings>(program: Program) -> Result<(S, Common), Vec<BadValue>> {
    let environment = program.environment();
    let common = environment.read().and_then(Common::consistent);
    // All bad values at once, and not one at each start.
    both(S::read(&environment), common)
}

/// Settings that parse, each by itself, and are invalid still.
#[derive(Debug)]
pub struct BadSettings(pub Vec<BadValue>);

impl std::fmt::Display for BadSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("invalid settings")
    }
}

impl std::error::Error for BadSettings {}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn refuse(program: Program, lines: &[impl ToString]) -> ExitCode {
    for line in lines {
        complain(program, &line.to_string());
    }
    ExitCode::from(BAD_SETTINGS)
}

fn fail(program: Program, line: &str) -> ExitCode {
    complain(program, line);
    ExitCode::FAILURE
}

fn complain(program: Program, line: &str) {
    logs::print(&format!("{}: {line}", program.name));
}

/// A second SIGTERM within this time is the same request to stop: wrappers and process groups
/// send it twice.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Why a process could not start, or failed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves until a signal says stop, or something fails for good.
async fn live(
    program: Program,
    common: Common,
    build: impl AsyncFnOnce(Context) -> Result<Service, BoxError>,
) -> Result<(), BoxError> {
    // Before anything else: a signal during the start must not be lost.
    let mut signals = Signals::listen()?;
    let sockets = Sockets::bind(&common)?;
    // This sender is kept, so that the channel stays open where a service has no use for it.
    let (fatal, mut failure) = mpsc::unbounded_channel();
    let context = Context {
        common: common.clone(),
        fatal: Fatal(fatal.clone()),
        faults: match common.faults {
            Switch::On => Faults::on(),
            Switch::Off => Faults::default(),
        },
    };
    let faults = context.faults.clone();
    spawn_local(async {
        let mut periods = interval(logs::PERIOD);
        loop {
            periods.tick().await;
            logs::summarise();
        }
    });
    let service = build(context).await?;
    let serving = Serving::start(program, &common, sockets, service, faults)?;

    let outcome = tokio::select! {
        signal = signals.next() => {
            info!(signal, "stopping");
            Ok(())
        }
        reason = failure.recv() => {
            let reason = reason.unwrap_or_default();
            error!(reason, "fatal error, shutting down");
            Err(reason.into())
        }
    };
    spawn_local(exit_at_once_on(signals));
    serving.drain();
    if outcome.is_ok() {
        sleep(common.drain()).await;
    }
    serving.stop().await;
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

/// An error in one line with its causes.
fn chain(error: &dyn std::error::Error) -> impl fmt::Display {
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

/// What a program calls itself, and where it listens by default.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name, as users type it.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The commit it was built from, where the build was told.
    pub revision: Option<&'static str>,
    /// What it does, in a few words.
    pub about: &'static str,
    /// The port it serves on by default.
    pub port: u16,
    /// The port for probes and metrics by default.
    pub admin_port: u16,
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Serve,
    Help,
    Version,
    HealthCheck,
}

impl Command {
    /// Reads the arguments after the program's name.
    fn parse(arguments: &[String]) -> Result<Self, String> {
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Ok(Self::Serve),
            ["--help" | "-h" | "help"] => Ok(Self::Help),
            ["--version" | "-V" | "version"] => Ok(Self::Version),
            ["healthcheck"] => Ok(Self::HealthCheck),
            _ => Err(format!(
                "unexpected argument {:?}: expected healthcheck, --help, --version or nothing; \
                 settings are environment variables",
                arguments.join(" ")
            )),
        }
    }
}

impl Program {
    /// The environment of this process, with this program's defaults.
    fn environment(&self) -> Environment {
        Environment::of_process()
            .with_default("PORT", self.port)
            .with_default("ADMIN_PORT", self.admin_port)
    }

    /// The text of `--version`.
    fn version_line(&self) -> String {
        let Self { name, version, .. } = self;
        match self.revision() {
            None => format!("{name} {version}\n"),
            Some(revision) => format!("{name} {version} (revision {revision})\n"),
        }
    }

    /// The revision, where it is known: a build argument that is not given is an empty variable.
    pub(crate) fn revision(&self) -> Option<&'static str> {
        self.revision.filter(|revision| !revision.is_empty())
    }

    /// The text of `--help`: every variable with its default.
    fn help<S: Settings>(&self) -> String {
        let Self { name, about, .. } = self;
        let mut text = format!(
            "{about}\n\n\
             Usage: {name}              serve, with the settings below\n       \
             {name} healthcheck  ask the running service whether it is ready: exit code 0 or 1\n       \
             {name} --help | --version\n\n\
             Environment variables:\n"
        );
        let environment = self.environment();
        for variable in S::variables().into_iter().chain(Common::variables()) {
            describe(&mut text, &variable, &environment.default_of(&variable));
        }
        text.push_str("\nExit codes: 0 stopped as asked, 1 failed, 2 a setting is invalid\n");
        text
    }
}

fn describe(text: &mut String, variable: &Variable, default: &str) {
    let Variable { accepts, help, .. } = variable;
    let default = match (default, variable.field) {
        ("", "workers") => "the number of CPUs",
        ("", "log_format") => "text on a terminal, else json",
        ("", _) => "none",
        (default, _) => default,
    };
    // Writing to a string cannot fail.
    let mut names = variable.name();
    if variable.secret {
        names = format!("{names} or {}", variable.file_name());
    }
    let _ = writeln!(text, "  {names} (default: {default})");
    let _ = writeln!(text, "      {}\n      Accepts {accepts}.", help.trim());
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETER: Program = Program {
        name: "greeter",
        version: "1.2.3",
        revision: None,
        about: "Greets",
        port: 8080,
        admin_port: 9080,
    };

    #[test]
    fn the_command_line_accepts_four_things_and_says_so() {
        let parse = |words: &[&str]| {
            Command::parse(
                &words
                    .iter()
                    .map(|&word| word.to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(parse(&[]), Ok(Command::Serve));
        assert_eq!(parse(&["--help"]), Ok(Command::Help));
        assert_eq!(parse(&["--version"]), Ok(Command::Version));
        assert_eq!(parse(&["healthcheck"]), Ok(Command::HealthCheck));
        let error = parse(&["--port", "80"]).unwrap_err();
        assert!(
            error.contains("--port 80") && error.contains("--help"),
            "{error}"
        );
    }

    #[test]
    fn help_lists_every_variable_with_its_default() {
        let help = GREETER.help::<Common>();
        for variable in Common::variables() {
            assert!(
                help.contains(&format!("  {} (default: ", variable.name())),
                "{help}"
            );
        }
        assert!(
            help.contains("PORT (default: 8080)") && help.contains("HOST (default: 127.0.0.1)")
        );
        // Longer than Google's load balancers keep theirs.
        assert!(help.contains("KEEP_ALIVE_SECONDS (default: 620)"), "{help}");
    }

    #[test]
    fn the_version_names_the_revision_where_it_is_known() {
        let version_line = |revision| {
            Program {
                revision,
                ..GREETER
            }
            .version_line()
        };
        assert_eq!(version_line(None), "greeter 1.2.3\n");
        assert_eq!(version_line(Some("")), "greeter 1.2.3\n");
        assert_eq!(version_line(Some("abc")), "greeter 1.2.3 (revision abc)\n");
    }
}
