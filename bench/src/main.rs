//! Measures the services side by side with their peers, in interleaved rounds of one run, and
//! prints the targets and whether they were met: `bench [--quick] [FOLDER FOR THE RESULTS]`.
//!
//! `bench --keep FILE.json` keeps such results in the repository, and shows them in the README
//! and in the documentation.

mod candidate;
mod facts;
mod generator;
mod http;
mod kept;
mod open_loop;
mod plots;
mod puts;
mod report;
mod results;
mod rounds;
mod spread;
mod stores;
mod targets;
#[cfg(test)]
mod tests;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use results::Results;

/// How long and how often everything is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) warm_up: f64,
    /// That are proven to be unique and in order, on each store.
    pub(crate) numbers: u64,
}

const FULL: Plan = Plan {
    rounds: 8,
    seconds: 3.0,
    warm_up: 1.0,
    numbers: 50_000,
};

/// The same table, roughly, in a few minutes.
const QUICK: Plan = Plan {
    rounds: 3,
    seconds: 0.6,
    warm_up: 0.2,
    numbers: 20_000,
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
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => plan = QUICK,
            "--keep" => {
                let file = arguments.next().ok_or("--keep needs a file of results")?;
                kept::keep(Path::new(&file))?;
                return Ok(format!("Kept {file}\n"));
            }
            option if option.starts_with('-') => {
                return Err(format!(
                    "unexpected option {option}: expected --quick, --keep or a folder"
                ));
            }
            path => folder = path.into(),
        }
    }
    let results = measure(plan)?;
    kept::write(&results, &folder, "latest")?;
    let (report, folder) = (report::report(&results), folder.display());
    Ok(format!("{report}\nWritten to {folder}\n"))
}

fn measure(plan: Plan) -> Result<Results, String> {
    let mut results = Results {
        machine: facts::machine(),
        rounds: plan.rounds,
        seconds: plan.seconds,
        ..Results::default()
    };
    facts::measure(plan, &mut results)?;
    http::measure(plan, &mut results)?;
    stores::measure(plan, &mut results)?;
    Ok(results)
}

#[expect(clippy::print_stdout, reason = "it is what the program is for")]
fn print(text: &str) {
    print!("{text}");
}
