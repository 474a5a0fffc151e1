//! The file store under more and more connections, beside what the formula in the documentation
//! says of it.

use crate::{
    http::GROWING,
    results::{Results, Sample},
    spread::digits,
};

/// One worker of `persistence_server` on file, as a table with this name of the results; none
/// where something was not measured.
pub(crate) fn table(results: &Results, name: &str) -> Option<String> {
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
        // One alone has nobody to take turns with.
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
