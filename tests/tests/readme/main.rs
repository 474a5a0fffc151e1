//! What the README shows is what happens.

mod make_run;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{
    launch::Launch,
    service::run_to_end,
    skip::{self, Missing},
};

const LIMIT: Duration = Duration::from_secs(10);

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("the tests are in a folder of the project")
        .to_owned()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("the README")
}

/// The commands in the console blocks, each with the output that is shown below it.
fn shown_commands() -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    let mut in_console = false;
    for line in readme().lines() {
        if line.starts_with("```") {
            in_console = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| in_console) {
            commands.push((command.to_owned(), String::new()));
        } else if let Some((_, output)) = commands.last_mut().filter(|_| in_console) {
            output.push_str(line);
            output.push('\n');
        }
    }
    commands
}

#[test]
fn every_setting_is_in_the_readme_with_its_default() {
    let readme = readme();
    let mut count = 0;
    for binary in ["hello_server", "persistence_server", "hash_server"] {
        let help = run_to_end(binary, &[], &["--help"], LIMIT).stdout;
        for line in help.lines() {
            let Some((names, default)) = line.split_once(" (default: ") else {
                continue;
            };
            let name = names.trim().split(' ').next().unwrap_or_default();
            let default = default.trim_end_matches(')');
            let row = readme
                .lines()
                .find(|line| line.starts_with(&format!("| `{name}`")));
            let row = row.unwrap_or_else(|| panic!("{name} of {binary} is not in the README"));
            let shown = row.contains(&format!("| `{default}` |"))
                || row.contains(&format!("| {default} |"));
            assert!(
                shown || default == "none" || name.ends_with("PORT"),
                "{default}: {row}"
            );
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap_or_default();
            if !link.starts_with("http") && !file.is_empty() {
                assert!(root().join(file).exists(), "{name} links to {link}");
            }
        }
    }
}

fn skip_without_history() -> bool {
    let history = root().join(".git");
    let missing = || Missing::elsewhere("a git checkout", "this is a copy without its history");
    skip::unless(history.exists().then_some(()).ok_or_else(missing))
}

#[test]
fn a_clone_by_git_for_windows_has_the_line_ends_that_the_images_need() {
    if skip_without_history() {
        return;
    }
    let clone = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let git = Launch::new("git").args(args).run_to_end(LIMIT).success();
        git.unwrap_or_else(|said| panic!("git {args:?}:\n{said}"))
    };
    let (from, to) = (root(), clone.path());
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    git(&["clone", "--quiet", "--config=core.autocrlf=true", from, to]);
    let files = git(&["-C", to, "ls-files", "--eol"]);
    assert!(files.lines().count() > 100, "{files}");
    for file in files.lines() {
        assert!(
            !file.contains("w/crlf") && !file.contains("w/mixed"),
            "{file}"
        );
    }
}

#[test]
fn a_release_sets_the_version_wherever_it_is_written() {
    if skip_without_history() {
        return;
    }
    let clone = tempfile::tempdir().unwrap();
    let to = clone.path();
    let run = |program: &str, args: &[&str]| {
        let launch = Launch::new(program).args(args);
        let home = std::env::var_os("HOME").unwrap_or_default();
        let output = launch.env("HOME", home).run_to_end(Duration::from_secs(60));
        let said = output.success();
        said.unwrap_or_else(|said| panic!("{program} {args:?}:\n{said}"))
    };
    let git = |args: &[&str]| run("git", &[&["-C", to.to_str().unwrap()], args].concat());
    let (from, into) = (root(), to.display().to_string());
    run("git", &["clone", "--quiet", from.to_str().unwrap(), &into]);
    git(&["config", "user.name", "A maintainer"]);
    git(&["config", "user.email", "maintainer@example.com"]);
    run(to.join("scripts/release").to_str().unwrap(), &["98.7.6"]);

    // Not where it is the version of another program.
    let version = env!("CARGO_PKG_VERSION").replace('.', "\\.");
    let old = format!("(^|[^@0-9.]){version}([^0-9.]|$)");
    let left = [
        "grep",
        "--extended-regexp",
        &old,
        "--",
        ":!Cargo.lock",
        ":!CHANGELOG.md",
    ];
    let launch = Launch::new("git")
        .args(["-C", to.to_str().unwrap()])
        .args(left);
    let left = launch.arg(":!bench/results").run_to_end(LIMIT);
    assert_eq!(left.stdout, "", "still the old version");
    assert_eq!(git(&["describe"]), "v98.7.6");
    assert_eq!(git(&["status", "--porcelain"]), "");
}

#[test]
fn every_suite_of_tests_is_a_part_of_a_job() {
    let workflow = fs::read_to_string(root().join(".github/workflows/ci.yml")).unwrap();
    for folder in ["checker", "persistence_server", "sequence", "tests"] {
        for entry in fs::read_dir(root().join(folder).join("tests")).unwrap() {
            let path = entry.unwrap().path();
            let suite = path.file_stem().unwrap().to_str().unwrap();
            let words = format!("--test {suite}");
            assert!(workflow.contains(&words), "no job runs {}", path.display());
        }
    }
}

#[test]
fn what_the_chain_costs_is_what_the_newest_kept_run_says() {
    let entries = fs::read_dir(root().join("bench/results")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let reports = paths.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let report = fs::read_to_string(reports.max().expect("a run is kept")).unwrap();
    let cpu_time = |candidate: &str, connections: u32| -> f64 {
        let begin = format!("| {candidate} | {connections} | ");
        let row = report.lines().find_map(|line| line.strip_prefix(&begin));
        let cell = row.and_then(|row| row.split('|').nth(1)).expect("a figure");
        cell.split_whitespace().next().unwrap().parse().unwrap()
    };
    let [at_1, at_32, at_256] = [1, 32, 256]
        .map(|connections| cpu_time("chain", connections) / cpu_time("hello", connections));
    let claim = format!(
        "{at_1:.1} × the CPU time of `hello_server` for a request at 1 connection, \
         {at_32:.1} × at 32 and {at_256:.1} × at 256"
    );
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&readme()).contains(&claim), "{claim}");
}
