//! The figures that today's are held against.

use std::{collections::BTreeMap, env, fs, sync::Mutex};

use e2e::soak::figure;

use crate::count::Figures;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cost/recorded.json");

/// Fails if a figure of `what` is above `margin` times the recorded one, or was never recorded;
/// with `RECORD_COST` in the environment, records them instead.
#[track_caller]
pub(crate) fn check(what: &str, margin: f64, measure: fn() -> Option<Figures>) {
    /// The tests run at the same time, and both read and write the file.
    static FILE_LOCK: Mutex<()> = Mutex::new(());

    let Some(measured) = measure() else { return };
    let guard = FILE_LOCK
        .lock()
        .expect("no test panics while it holds this");
    let mut recorded = read();
    if env::var_os("RECORD_COST").is_some() {
        let rounded = measured
            .into_iter()
            .map(|(name, value)| (name, (value * 100.0).round() / 100.0));
        recorded.insert(what.to_owned(), rounded.collect());
        let text = serde_json::to_string_pretty(&recorded).expect("a map of numbers is JSON");
        fs::write(FILE, text + "\n").expect("the file can be written");
        return;
    }
    let recorded = recorded.get(what).cloned().unwrap_or_default();
    let mut above = Vec::new();
    for (name, value) in measured {
        let limit = recorded
            .get(&name)
            .map_or(0.0, |recorded| recorded * margin);
        figure(format_args!(
            "{name}: {value:.2} {what}, at most {limit:.2}"
        ));
        if value > limit {
            above.push(format!("{name}: {value:.2} {what}, above {limit:.2}"));
        }
    }
    drop(guard);
    assert!(
        above.is_empty(),
        "{}\nif there is a good reason, RECORD_COST=1 records the new figures in {FILE}",
        above.join("\n")
    );
}

fn read() -> BTreeMap<String, Figures> {
    let text = fs::read_to_string(FILE).expect("the recorded figures");
    serde_json::from_str(&text).expect("the recorded figures are JSON")
}
