//! The services, as the compiler makes them fast.

use std::{
    env,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use e2e::service::{Builder, Service, build};

/// A service of one worker, built with the profile `cost`: the counts of an unoptimised build
/// would say little about what people run.
pub(crate) fn builder(binary: &str) -> Builder {
    Service::builder_at(folder().join(binary)).env("WORKERS", "1")
}

fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        build(&["--profile", "cost"]);
        // TARGET/PROFILE/deps/TEST
        let test = env::current_exe().expect("the test knows its own path");
        let target = test.ancestors().nth(3).expect("it is in the target folder");
        target.join("cost")
    });
    &FOLDER
}
