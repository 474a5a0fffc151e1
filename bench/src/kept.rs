//! Everything that is shown of a run: the report, the plots, and parts of the README and of the
//! documentation. All of it is made from the results alone, so that it can be made again, and compared.

use std::{fs, path::Path};

use crate::{
    http::GROWING,
    plots,
    report::{report, summary},
    results::{Results, Sample},
    spread::digits,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where runs are kept, in the repository.
const FOLDER: &str = "bench/results";

/// The documents that have a part that is made here, and what stands around it.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/performance.md"];
const BEGIN: &str = "<!-- made by bench --keep -->\n";
const END: &str = "<!-- end of what is made by bench --keep -->\n";

/// Writes the results and what is shown of them into a folder, under this name.
///
/// # Errors
///
/// If a file cannot be written.
pub(crate) fn write(results: &Results, folder: &Path, name: &str) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write_file(&folder.join(format!("{name}.json")), &results.to_json()?)?;
    write_shown(results, folder, name)
}

fn write_shown(results: &Results, folder: &Path, name: &str) -> Result<(), String> {
    for (file, text) in files(results, name)? {
        write_file(&folder.join(file), &text)?;
    }
    Ok(())
}

/// Keeps the results of this file in the repository, and shows them in the documents.
///
/// # Errors
///
/// If they cannot be read or written.
pub(crate) fn keep(path: &Path) -> Result<(), String> {
    // Kept as it is: a figure that is read and written again may end in another digit.
    let json = read_file(path)?;
    let results = Results::from_json(&json)?;
    let (folder, name) = (Path::new(ROOT).join(FOLDER), results.date()?);
    write_file(&folder.join(format!("{name}.json")), &json)?;
    write_shown(&results, &folder, name)?;
    for document in DOCUMENTS {
        let path = Path::new(ROOT).join(document);
        let text = with_section(document, &read_file(&path)?, &results)?;
        write_file(&path, &text)?;
    }
    Ok(())
}

/// What is shown of some results, by the names of the files.
pub(crate) fn files(results: &Results, name: &str) -> Result<Vec<(String, String)>, String> {
    let mut text = report(results);
    let mut files = Vec::new();
    for (plot, title, svg) in plots::all(results)? {
        let file = format!("{name}-{plot}.svg");
        text += &format!("\n![{title}]({file})\n");
        files.push((file, svg));
    }
    files.push((format!("{name}.md"), text));
    Ok(files)
}

/// The text of a document with these results in the place of others.
fn with_section(document: &str, text: &str, results: &Results) -> Result<String, String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or_else(|| format!("{document} has no place for results"))?;
    let section = match document {
        "README.md" => overview(results)?,
        _ => growth_table(results, results.date()?).ok_or("the file store was not measured")?,
    };
    Ok(format!("{before}{BEGIN}\n{section}\n{END}{after}"))
}

/// What the README shows.
fn overview(results: &Results) -> Result<String, String> {
    let name = results.date()?;
    let mut section = summary(results);
    for (plot, title, _) in plots::all(results)? {
        section += &format!("![{title}]({FOLDER}/{name}-{plot}.svg)\n");
    }
    section += &format!(
        "\nAll figures of this run: [{FOLDER}/{name}.md]({FOLDER}/{name}.md). `make bench` measures \
         again, on your machine.\n"
    );
    Ok(section)
}

fn read_file(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The file store under more and more connections, beside the formula in the documentation:
/// one worker of `persistence_server` on file, as a table with this name of the results; none
/// where something was not measured.
fn growth_table(results: &Results, name: &str) -> Option<String> {
    let median = |candidate: &str, connections: u32, of: fn(&Sample) -> f64| {
        let spread = results.spread(candidate, connections, of)?;
        Some(spread.median)
    };
    let http = median("memory", 1, |it| it.p50_us)?;
    let commit = median("file", 1, |it| it.p50_us)? - http;
    let mut table = format!(
        "From `{name}.json`: one worker and the thread that writes share a core; a commit takes \
         {commit:.0} µs.\n\n\
         | connections c | requests/s r | CPU µs a request | store operations/s | 2 r / c | formula |\n\
         |---|---|---|---|---|---|\n"
    );
    for c in GROWING {
        let growing = |of| median("file, growing", c, of);
        let requests = growing(|it| it.per_second)?;
        let cpu = growing(|it| it.cpu_us)?;
        let operations = growing(Sample::operations)?;
        let half = f64::from(c) / 2.0;
        // One alone takes no turns.
        let (shared, cycle) = match c {
            1 => (requests, http + commit),
            _ => (requests / half, commit.max(half * cpu)),
        };
        let [requests, cpu, operations, shared, formula] =
            [requests, cpu, operations, shared, 1e6 / cycle].map(digits);
        table += &format!("| {c} | {requests} | {cpu} | {operations} | {shared} | {formula} |\n");
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// The dates are such that the last name is the newest.
    fn newest() -> PathBuf {
        let entries = fs::read_dir(Path::new(ROOT).join(FOLDER)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let kept = paths.filter(|path| path.extension().is_some_and(|end| end == "json"));
        kept.max().expect("a run is kept")
    }

    #[test]
    fn what_is_shown_is_what_the_newest_kept_results_say() {
        let again = "bench --keep FILE.json makes it again";
        let path = newest();
        let results = Results::from_json(&read_file(&path).unwrap()).unwrap();
        let name = results.date().unwrap();
        assert_eq!(path.file_stem().unwrap(), name);
        for (file, text) in files(&results, name).unwrap() {
            let kept = fs::read_to_string(path.with_file_name(&file)).unwrap_or_default();
            assert!(kept == text, "{file} shows something else: {again}");
        }
        for document in DOCUMENTS {
            let text = read_file(&Path::new(ROOT).join(document)).unwrap();
            let shown = with_section(document, &text, &results).unwrap() == text;
            assert!(shown, "{document} shows something else: {again}");
        }
    }
}
