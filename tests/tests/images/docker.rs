//! Docker as a user drives it: by its command line.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use e2e::{
    launch::{Launch, Output, find},
    skip::{self, Missing},
    wait,
};
use serde_json::Value;

/// How long anything but a build may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// How long all images may take, from nothing and on a busy machine.
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);

/// The version of the images, as their tag says it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// True when the test should return at once, because there is no Docker here.
///
/// Otherwise all images are there when this returns; the first test to ask builds them.
#[track_caller]
pub(crate) fn skip() -> bool {
    static IMAGES: OnceLock<()> = OnceLock::new();
    let skip = skip::unless(available());
    if !skip {
        IMAGES.get_or_init(|| {
            script("tests/images/stand-ins.sh").run(BUILD_LIMIT);
            script("scripts/images").run(BUILD_LIMIT);
        });
    }
    skip
}

fn available() -> Result<(), Missing> {
    let answers = || Launch::new("docker").arg("info").run_to_end(LIMIT).status;
    if find("docker").is_none() || !answers().success() {
        return Err(Missing::new("a Docker engine", "docker.io"));
    }
    let compose = compose();
    compose.ok_or_else(|| Missing::new("docker-compose", "docker-compose"))?;
    Ok(())
}

/// The command line of Compose: version 1 where it is installed, else version 2.
pub(crate) fn compose() -> Option<Vec<&'static str>> {
    if find("docker-compose").is_some() {
        return Some(vec!["docker-compose"]);
    }
    let version_2 = try_docker(&["compose", "version"]).status.success();
    version_2.then(|| vec!["docker", "compose"])
}

/// The top of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of it")
}

/// A program that must succeed.
pub(crate) trait Run {
    /// What it wrote to standard output.
    fn run(&self, limit: Duration) -> String;
}

impl Run for Launch {
    #[track_caller]
    fn run(&self, limit: Duration) -> String {
        let output = self.run_to_end(limit);
        let name = self.name();
        output
            .success()
            .unwrap_or_else(|said| panic!("{name}:\n{said}"))
    }
}

/// A script of this repository.
pub(crate) fn script(path: &str) -> Launch {
    at_home(repository().join(path))
}

/// A program that keeps things, or looks for its settings, in the user's home.
pub(crate) fn at_home(program: impl Into<PathBuf>) -> Launch {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/".into());
    Launch::new(program).env("HOME", home)
}

/// Runs `docker` to its end, however that is.
#[track_caller]
pub(crate) fn try_docker(args: &[&str]) -> Output {
    Launch::new("docker").args(args).run_to_end(LIMIT)
}

/// Runs `docker`, which must succeed, and returns what it says.
#[track_caller]
pub(crate) fn docker(args: &[&str]) -> String {
    let output = try_docker(args).success();
    output.unwrap_or_else(|said| panic!("docker {}:\n{said}", args.join(" ")))
}

/// What `docker inspect` tells of an image or a container.
#[track_caller]
pub(crate) fn inspect(what: &str) -> Value {
    let mut list: Value = serde_json::from_str(&docker(&["inspect", what])).expect("JSON");
    list[0].take()
}

/// A container that is removed when this is dropped.
pub(crate) struct Container {
    pub(crate) id: String,
}

impl Container {
    /// Starts one in the background: `docker run --detach ARGS`.
    #[track_caller]
    pub(crate) fn run(args: &[&str]) -> Self {
        let args = [&["run", "--detach"], args].concat();
        Self { id: docker(&args) }
    }

    /// Where a port of it is reached from here; it must have been published.
    #[track_caller]
    pub(crate) fn port(&self, number: u16) -> SocketAddr {
        let said = docker(&["port", &self.id, &number.to_string()]);
        let first = said.lines().next().expect("the port is published");
        first.parse().expect("an address")
    }

    /// Waits until Docker's health check says so.
    #[track_caller]
    pub(crate) fn becomes(&self, health: &str) {
        let state = || inspect(&self.id)["State"].clone();
        let found = wait::within(LIMIT, || {
            (state()["Health"]["Status"] == health).then_some(())
        });
        if found.is_none() {
            panic!("not {health}: {}\n{}", state(), self.logs());
        }
    }

    /// All that it wrote to both streams.
    pub(crate) fn logs(&self) -> String {
        let Output { stdout, stderr, .. } = try_docker(&["logs", &self.id]);
        stdout + &stderr
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Gone already is fine, and a panic here would hide another.
        let remove = ["rm", "--force", "--volumes", &self.id];
        let _ = Launch::new("docker").args(remove).try_run_to_end(LIMIT);
    }
}
