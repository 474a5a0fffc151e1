//! What happens to a test that cannot run on this machine.

use std::env;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::launch::find;

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

/// Whether a program is installed, which comes with this Debian package.
///
/// # Errors
///
/// Says that it is missing.
pub fn installed(program: &str, package: &'static str) -> Result<(), Missing> {
    let found = find(program).map(drop);
    found.ok_or_else(|| Missing::new(program, package))
}

/// The folder of the tools that are written in Python.
///
/// # Errors
///
/// Says that they are missing.
pub fn python_tools() -> Result<PathBuf, Missing> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python-tools");
    // The last thing that the installation does.
    let installed = tools.join("install-python-tools.sh").exists();
    installed.then_some(tools).ok_or_else(|| {
        Missing::elsewhere(
            "the set of tools in Python",
            "tests/install-python-tools.sh gets it, with Python 3.11 or newer",
        )
    })
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
