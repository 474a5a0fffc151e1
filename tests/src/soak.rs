//! Proofs in two sizes: small enough for every change, and as large as they deserve.

use std::fmt::Display;
use std::io::Write as _;

/// How much of a proof to run: all of it with `SOAK=full`, else enough to see it work.
pub fn scaled(full: u64, small: u64) -> u64 {
    if is_full() { full } else { small }
}

/// Prints a figure, past the test runner's capture, where the proof runs at its full size.
pub fn figure(line: impl Display) {
    if is_full() {
        // A figure that nobody reads is no failure.
        let _ = writeln!(std::io::stderr(), "FIGURE: {line}");
    }
}

fn is_full() -> bool {
    std::env::var("SOAK").is_ok_and(|soak| soak == "full")
}
