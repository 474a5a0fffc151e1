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

/// One variable, as `--help` has it: its names, default and meaning.
type Setting = (String, String, String);

fn settings(binary: &str) -> Vec<Setting> {
    let help = run_to_end(binary, &[], &["--help"], LIMIT).stdout;
    let (_, list) = help.split_once("Environment variables:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let mut settings: Vec<Setting> = Vec::new();
    for line in list.lines() {
        if let Some(meaning) = line.strip_prefix("      ") {
            let so_far = &mut settings.last_mut().unwrap().2;
            *so_far = format!("{so_far} {meaning}").trim().to_owned();
        } else {
            let (names, default) = line.trim().split_once(" (default: ").unwrap();
            let default = default.trim_end_matches(')').to_owned();
            settings.push((names.to_owned(), default, String::new()));
        }
    }
    settings
}

/// The settings of every service, then those of each.
fn tables() -> String {
    let all = ["hello_server", "persistence_server", "hash_server"]
        .map(|binary| (binary, settings(binary)));
    let of = |settings: &[Setting], name: &str| {
        settings
            .iter()
            .find(|(names, ..)| names == name)
            .map(|(_, default, _)| default.clone())
    };
    let defaults = |name: &str| -> Option<Vec<String>> {
        all.iter().map(|(_, settings)| of(settings, name)).collect()
    };
    let mut tables = String::new();
    let mut table = |title: &str, rows: Vec<&Setting>, default: &dyn Fn(&Setting) -> String| {
        tables += &format!("\n## {title}\n\n| Variable | Default | Meaning |\n|---|---|---|\n");
        for row in rows {
            let names = row.0.replace(" or ", "`, `");
            let meaning = row.2.replace('|', "\\|");
            tables += &format!("| `{names}` | {} | {meaning} |\n", default(row));
        }
    };
    let common = all[0]
        .1
        .iter()
        .filter(|(names, ..)| defaults(names).is_some());
    table("Every service", common.collect(), &|(names, ..)| {
        let mut defaults = defaults(names).unwrap();
        defaults.dedup();
        defaults.join(", ")
    });
    for (binary, settings) in &all {
        let own = settings
            .iter()
            .filter(|(names, ..)| defaults(names).is_none());
        table(binary, own.collect(), &|(_, default, _)| default.clone());
    }
    tables
}

#[test]
fn the_page_of_the_settings_is_what_help_says() {
    const MARK: &str =
        "<!-- made from --help: RECORD_SETTINGS=1 cargo test -p e2e --test readme settings -->\n";
    let path = root().join("docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (text, shown) = page.split_once(MARK).expect("the mark");
    let tables = tables();
    if std::env::var_os("RECORD_SETTINGS").is_some() {
        fs::write(&path, format!("{text}{MARK}{tables}")).unwrap();
    } else {
        assert_eq!(shown, tables, "another --help: see the mark in the page");
    }
    for (names, ..) in settings("persistence_server") {
        assert!(tables.contains(&names.replace(" or ", "`, `")), "{names}");
    }
}

/// All pages, from the top of the repository.
fn pages() -> Vec<PathBuf> {
    let git = Launch::new("git").args([
        "-C",
        root().to_str().unwrap(),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.md",
    ]);
    let listed = git.run_to_end(LIMIT).success().expect("a git checkout");
    listed.lines().map(PathBuf::from).collect()
}

/// The anchors of a page: those of its headings, as GitHub makes them, and its own.
fn anchors(page: &str) -> Vec<String> {
    let slug = |title: &str| -> String {
        let title = title.to_lowercase().replace(' ', "-");
        title
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_".contains(*c))
            .collect()
    };
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| slug(line.trim_start_matches('#').trim()));
    let own = page
        .split("<a id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    headings.chain(own.map(str::to_owned)).collect()
}

#[test]
fn every_link_leads_somewhere() {
    if skip_without_history() {
        return;
    }
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(root().join(&page)).unwrap();
        let links = text.split("](").skip(1);
        for link in links.filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") || link.contains(char::is_whitespace) {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            let there = root().join(&target);
            assert!(there.exists(), "{} links to {link}", page.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&there).unwrap();
                assert!(
                    anchors(&text).iter().any(|there| there == anchor),
                    "{} links to {link}",
                    page.display()
                );
            }
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
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
