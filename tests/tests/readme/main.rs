//! What the README shows is what happens.

mod make_run;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{
    guide::{self, Step},
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
    let steps = guide::steps(&readme()).into_iter();
    let typed = |step| match step {
        Step::Type(command, shown) => Some((command, shown)),
        Step::Run(_) => None,
    };
    steps.filter_map(typed).collect()
}

/// One variable, as `--help` has it.
struct Setting {
    names: String,
    default: String,
    meaning: String,
}

fn settings(binary: &str) -> Vec<Setting> {
    let help = run_to_end(binary, &[], &["--help"], LIMIT).stdout;
    let (_, list) = help.split_once("Environment variables:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let mut settings: Vec<Setting> = Vec::new();
    for line in list.lines() {
        if let Some(meaning) = line.strip_prefix("      ") {
            let so_far = &mut settings.last_mut().unwrap().meaning;
            *so_far = format!("{so_far} {meaning}").trim().to_owned();
        } else {
            let (names, default) = line.trim().split_once(" (default: ").unwrap();
            settings.push(Setting {
                names: names.to_owned(),
                default: default.trim_end_matches(')').to_owned(),
                meaning: String::new(),
            });
        }
    }
    settings
}

/// The settings of every service, with the default of each where they differ, then those of one.
fn tables() -> String {
    let binaries = ["hello_server", "persistence_server", "hash_server"];
    let services = binaries.map(settings);
    let defaults = |names: &str| -> Vec<&str> {
        let same = services.iter().flatten().filter(|one| one.names == names);
        same.map(|one| &*one.default).collect()
    };
    let is_common = |setting: &&Setting| defaults(&setting.names).len() == services.len();
    let table = |title: &str, settings: Vec<&Setting>| {
        let rows = settings.into_iter().map(|setting| {
            let names = setting.names.replace(" or ", "`, `");
            let mut defaults = defaults(&setting.names);
            defaults.dedup();
            let default = defaults.join(", ");
            format!("| `{names}` | {default} | {} |\n", setting.meaning)
        });
        let rows: String = rows.collect();
        format!("\n## {title}\n\n| Variable | Default | Meaning |\n|---|---|---|\n{rows}")
    };
    let common = services[0].iter().filter(is_common);
    let mut tables = table("Every service", common.collect());
    for (binary, settings) in binaries.iter().zip(&services) {
        let own = settings.iter().filter(|setting| !is_common(setting));
        tables += &table(binary, own.collect());
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
    // Whatever was recorded: help is not empty.
    assert!(tables.matches("\n| `").count() > 30, "{tables}");
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
        let output = launch
            .inherit(&["HOME"])
            .run_to_end(Duration::from_secs(60));
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
