//! Follows a page of the guide as a reader does, with two terminals.
//!
//! A block of `sh` is typed into the first terminal, where it goes on until Ctrl-C: at the next such
//! block, or at the end of the page. A block of `console` is typed into the second one, a command at a
//! time (`> ` continues it), and must print what is shown below it; `…` stands for anything, and blanks
//! for any number of blanks, since the width of a column depends on names.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    launch::{Launch, find},
    process::{Process, Signal},
};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(600);

/// What not every reader of a page has: without it, its commands are left out.
const OPTIONAL: [&str; 3] = ["minikube", "helm", "skaffold"];

/// What a reader does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// In the first terminal.
    Run(String),
    /// In the second terminal, with what is shown.
    Type(String, String),
}

/// The top of the repository, where a reader is.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("a folder of the project").to_owned()
}

/// Does what the page `name` says. `tool` starts the shells, if it is not empty.
///
/// # Panics
///
/// When something else happens than it shows.
#[track_caller]
pub fn follow(name: &str, tool: &[&str]) {
    let text = fs::read_to_string(root().join("docs/guide").join(name)).expect("a page");
    let mut first: Option<Process> = None;
    let mut status = 0;
    for step in steps(&text) {
        match step {
            Step::Run(command) => {
                end(first.take());
                let process = Process::start(&terminal(tool, &format!("exec 1>&2; {command}")));
                let starts = |line: &str| {
                    let starts = line.contains("listening") || line.contains("Forwarding from");
                    starts.then_some(())
                };
                let started = process.stderr().find(LIMIT, starts);
                assert!(started.is_some(), "{name}: {command} does not start");
                first = Some(process);
            }
            Step::Type(command, shown) => {
                let program = command.split(' ').next().unwrap_or_default();
                if OPTIONAL.contains(&program) && find(program).is_none() {
                    let mut out = io::stderr().lock();
                    // A terminal that is gone has no reader.
                    let _ = writeln!(out, "{name}: no {program}, so without: {command}");
                    continue;
                }
                // As in one shell: the status of the command before.
                let typed = format!("(exit {status}); {{ {command}\n}} 2>&1");
                let output = terminal(tool, &typed).run_to_end(LIMIT);
                status = output.status.code().unwrap_or(255);
                let printed = plain(&output.stdout);
                assert!(
                    is_like(&printed, &plain(&shown)),
                    "{name}\n$ {command}\n{printed}\nand the page shows\n{shown}"
                );
            }
        }
    }
    end(first);
}

fn terminal(tool: &[&str], command: &str) -> Launch {
    let typed = format!("cd '{}' || exit; {command}", root().display());
    let shell = Launch::new("bash")
        .args(["-c", &typed])
        .inherit(&["HOME", "KUBECONFIG"])
        // Not the reader's own containers and volumes, which a page may remove.
        .env("COMPOSE_PROJECT_NAME", "guide");
    match tool {
        [] => shell,
        tool => shell.under(tool.iter().map(|&word| word.to_owned())),
    }
}

/// Ctrl-C, if something still runs there.
#[track_caller]
fn end(process: Option<Process>) {
    let Some(process) = process else {
        return;
    };
    // It may have been stopped from the other terminal.
    process.signal(Signal::INT);
    let status = process.wait(LIMIT);
    let log = || process.stderr().all().join("\n");
    assert!(status.success(), "{status}\n{}", log());
}

/// What is typed on a page, in its order.
pub fn steps(page: &str) -> Vec<Step> {
    let (mut steps, mut block) = (Vec::new(), "");
    for line in page.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            block = kind;
        } else if block == "sh" {
            steps.push(Step::Run(line.to_owned()));
        } else if block == "console" {
            let more = line.strip_prefix("> ");
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step::Type(command.to_owned(), String::new())),
                (None, Some(Step::Type(command, _))) if more.is_some() => {
                    command.push('\n');
                    command.push_str(more.unwrap_or_default());
                }
                (None, Some(Step::Type(_, shown))) => {
                    shown.push_str(line);
                    shown.push('\n');
                }
                (None, _) => panic!("output of no command: {line}"),
            }
        }
    }
    steps
}

/// A text without what a page does not show: carriage returns, and blanks that align or end lines.
fn plain(text: &str) -> String {
    let lines = text.trim_end().lines();
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a text is what is shown, where `…` stands for anything.
fn is_like(text: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let begin = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(begin) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        match rest.find(part) {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
        last = Some(part);
    }
    rest.is_empty() || last.is_some_and(|last| last.is_empty() || rest.ends_with(last))
}
