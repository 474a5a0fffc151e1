//! Measures the services side by side with their peers, in interleaved rounds of one run, and
//! prints what became of the targets: `bench [--quick] [FOLDER FOR THE RESULTS]`.

mod candidate;
mod facts;
mod generator;
mod http;
mod machine;
mod proof;
mod results;
mod rounds;
mod spread;
mod stores;
mod targets;

use std::{env, fs, path::PathBuf, process::ExitCode};

use results::Results;

/// How long and how often everything is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
}

const FULL: Plan = Plan {
    rounds: 5,
    seconds: 3,
};

/// The same table, roughly, in a few minutes.
const QUICK: Plan = Plan {
    rounds: 3,
    seconds: 1,
};

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print(&format!("bench: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, String> {
    let mut plan = FULL;
    let mut folder = PathBuf::from("target/bench");
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--quick" => plan = QUICK,
            option if option.starts_with('-') => {
                return Err(format!(
                    "{option} cannot be used; only --quick and a folder can"
                ));
            }
            path => folder = path.into(),
        }
    }
    let mut results = Results {
        machine: machine::describe(),
        rounds: plan.rounds,
        seconds: plan.seconds,
        ..Results::default()
    };
    facts::measure(&mut results)?;
    http::measure(plan, &mut results)?;
    stores::measure(plan, &mut results)?;

    let report = targets::report(&results);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    results.write(&folder.join("latest.json"))?;
    fs::write(folder.join("latest.md"), &report).map_err(|error| error.to_string())?;
    Ok(format!("{report}\nWritten to {}\n", folder.display()))
}

#[expect(clippy::print_stdout, reason = "it is what the program is for")]
fn print(text: &str) {
    print!("{text}");
}
