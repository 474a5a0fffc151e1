//! From the command line to the exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use crate::{
    healthcheck, life, logs,
    program::{Command, Program},
    service::{Context, Service},
    settings::{BadValue, Common, Settings, both},
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
    build: impl AsyncFnOnce(S, Context) -> Result<Service, life::Error>,
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
        return match healthcheck::run(&common) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(program, &reason),
        };
    }

    let levels = common.rust_log.targets();
    let _log = logs::init(logs::format(&common, &io::stderr()), levels);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(program, &error.to_string()),
    };
    let life = life::live(program, common, async |context| {
        build(settings, context).await
    });
    match tokio::task::LocalSet::new().block_on(&runtime, life) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<BadSettings>() {
            Ok(bad) => refuse(program, &bad.0),
            Err(error) => fail(program, &life::chain(&*error).to_string()),
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
