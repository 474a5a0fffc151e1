//! What happens to a test that cannot run on this machine.

use std::env;
use std::fmt;
use std::io::Write as _;

/// Why a test cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The program that was looked for.
    pub program: String,
    /// How to get it.
    pub remedy: String,
}

impl Missing {
    /// This program, which comes with this Debian package.
    pub fn new(program: &str, package: &'static str) -> Self {
        Self {
            program: program.to_owned(),
            remedy: format!("Debian package {package}; tests/install-packages.sh gets it"),
        }
    }

    /// This program, which is no Debian package.
    pub fn elsewhere(program: &str, remedy: &str) -> Self {
        Self {
            program: program.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, remedy } = self;
        write!(f, "{program} is not installed ({remedy})")
    }
}

/// True when the test should return at once, because what it needs is not installed.
///
/// ```no_run
/// # use e2e::{skip, store::Redis};
/// if skip::unless(Redis::available()) {
///     return;
/// }
/// ```
///
/// # Panics
///
/// With `CI=true` in the environment: there, a test that quietly does not run is a failure.
#[track_caller]
pub fn unless(available: Result<(), Missing>) -> bool {
    let in_ci = env::var("CI").is_ok_and(|value| value == "true");
    let Some(reason) = decide(available, in_ci) else {
        return false;
    };
    // Written past the test runner's capture: a skipped test passes, and the output of a passed
    // test is never shown. If nobody listens there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
    true
}

/// The reason to skip, if there is one.
#[track_caller]
fn decide(available: Result<(), Missing>, in_ci: bool) -> Option<Missing> {
    let missing = available.err()?;
    assert!(!in_ci, "a test cannot run: {missing}");
    Some(missing)
}
