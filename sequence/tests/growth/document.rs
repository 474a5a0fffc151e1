//! The table in the documentation that is made here.

use std::{env, fs};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");
const BEGIN: &str = "<!-- estimate -->\n";
const END: &str = "<!-- /estimate -->\n";

/// Fails if the table in the document is not this one; with `RECORD_GROWTH` in the environment,
/// writes it there instead.
#[track_caller]
pub(crate) fn check(table: &str) {
    let text = fs::read_to_string(PATH).expect("the document");
    let (before, rest) = text.split_once(BEGIN).expect("the table begins");
    let (written, after) = rest.split_once(END).expect("the table ends");
    if env::var_os("RECORD_GROWTH").is_some() {
        let text = [before, BEGIN, table, END, after].concat();
        fs::write(PATH, text).expect("the document can be written");
    } else {
        assert!(
            written == table,
            "the estimate in docs/performance.md is out of date; RECORD_GROWTH=1 cargo test -p \
             sequence --test growth writes this:\n{table}"
        );
    }
}

/// Three digits of a rate: 5.56 k.
pub(crate) fn rate(per_second: f64) -> String {
    let (scaled, unit) = match per_second {
        ..1e3 => (per_second, ""),
        ..1e6 => (per_second / 1e3, " k"),
        _ => (per_second / 1e6, " M"),
    };
    let decimals = match scaled {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$}{unit}")
}
