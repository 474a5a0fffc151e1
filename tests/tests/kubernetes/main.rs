//! The manifests: that they build in every combination, that each pod keeps to what we ask of a
//! pod, that they agree with the programs, and that the chart is the same system.

mod admin_port;
mod agreement;
mod apply;
mod commands;
mod conventions;
mod guide;
mod helm;
mod pod;
mod rendered;
mod scripts;
mod security;
mod skaffold;
mod timing;
mod tools;

use std::path::PathBuf;
use std::time::Duration;

/// Far more than anything here takes, so that a busy machine fails no test.
const LIMIT: Duration = Duration::from_secs(240);

/// The root of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the folder of the tests is in the repository")
        .to_owned()
}
