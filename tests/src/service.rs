//! A service of ours as a running process.

use std::env;
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::launch::{Launch, Output};
use crate::lines::{Lines, object};
use crate::port::Port;
use crate::process::{Process, Signal};
use crate::wait;

/// How long a service may take until it listens. It is far more than it needs.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long its ports may take to be free after its end.
const PORT_LIMIT: Duration = Duration::from_secs(5);

/// A running service; dropping it kills it.
///
/// If it is dropped because a test panics, the end of its logs is printed.
#[derive(Debug)]
pub struct Service {
    launch: Launch,
    process: Process,
    listening: Listening,
    /// The ports, once the process has ended, so that it can have them back.
    held: Mutex<Vec<Port>>,
    /// The runs before a restart. They have ended; their logs are of interest when a test fails.
    earlier: Vec<Process>,
}

/// What a service is started with.
#[derive(Clone, Debug)]
pub struct Builder {
    launch: Launch,
}

/// The addresses that a service says it listens on.
#[derive(Clone, Copy, Debug)]
struct Listening {
    public: SocketAddr,
    admin: SocketAddr,
}

impl Service {
    /// A service by the name of its binary, on free ports of 127.0.0.1 and with JSON logs.
    ///
    /// Its environment holds that and what the test adds, nothing from the developer's shell.
    #[track_caller]
    pub fn builder(binary: &str) -> Builder {
        Self::builder_at(binary_path(binary))
    }

    /// Like [`Service::builder`], for a binary at a path of its own.
    pub fn builder_at(binary: PathBuf) -> Builder {
        let launch = Launch::new(binary)
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("ADMIN_PORT", "0")
            .env("LOG_FORMAT", "json");
        Builder { launch }
    }

    /// Where the public listener is.
    pub fn addr(&self) -> SocketAddr {
        self.listening.public
    }

    /// Where the admin listener is.
    pub fn admin_addr(&self) -> SocketAddr {
        self.listening.admin
    }

    /// The public listener as `http://ADDRESS`, without a slash at the end.
    pub fn public_url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What this run wrote to standard output: the access log.
    pub fn stdout(&self) -> &Lines {
        self.process.stdout()
    }

    /// What this run wrote to standard error: the diagnostic log.
    pub fn stderr(&self) -> &Lines {
        self.process.stderr()
    }

    /// Sends a signal; a process that has ended is left alone.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// True until the process has ended.
    pub fn alive(&self) -> bool {
        self.process.alive()
    }

    /// Waits for the end of the process, up to `limit`; panics when it takes longer.
    #[track_caller]
    pub fn wait(&self, limit: Duration) -> ExitStatus {
        let status = self.process.wait(limit);
        self.hold_ports();
        status
    }

    /// Ends the process with SIGKILL. Its ports refuse connections until a restart.
    pub fn kill9(&self) {
        self.process.kill9();
        self.hold_ports();
    }

    /// Starts the service again on the same ports and with the same environment, after killing
    /// it if it still runs.
    ///
    /// # Panics
    ///
    /// When it does not listen again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill9();
        let Listening { public, admin } = self.listening;
        let launch = self.launch.clone();
        self.launch = launch
            .env("PORT", public.port().to_string())
            .env("ADMIN_PORT", admin.port().to_string());
        let process = Process::start(&self.launch);
        let ended = std::mem::replace(&mut self.process, process);
        self.earlier.push(ended);
        self.listening = listening(&self.process);
        self.held().clear();
    }

    /// User and system time so far; panics when the process has ended.
    #[track_caller]
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    /// Resident memory; panics when the process has ended.
    #[track_caller]
    pub fn rss_bytes(&self) -> u64 {
        self.process.rss_bytes()
    }

    /// How many files, sockets included, it has open; panics when the process has ended.
    #[track_caller]
    pub fn open_files(&self) -> usize {
        self.process.open_files()
    }

    /// Keeps the ports from being given to somebody else while the service is down.
    fn hold_ports(&self) {
        let mut held = self.held();
        if held.is_empty() {
            let Listening { public, admin } = self.listening;
            held.extend([public, admin].iter().filter_map(|addr| {
                // If it fails, somebody was faster, and a restart will say so.
                wait::within(PORT_LIMIT, || Port::reserve(addr.port()).ok())
            }));
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Port>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if thread::panicking() {
            // Each run prints itself when it is dropped, the current one before the earlier ones.
            // Their order in time is the order in the log that somebody has to read.
            for process in self.earlier.drain(..) {
                drop(process);
            }
        }
    }
}

impl Builder {
    /// Sets one variable, in place of a default or an earlier value.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.launch = self.launch.env(name, value);
        self
    }

    /// Adds one command-line argument.
    pub fn arg(mut self, arg: &str) -> Self {
        self.launch = self.launch.arg(arg);
        self
    }

    /// Lets a tool start the service: `strace`, `taskset` and the like, with their arguments.
    pub fn under(mut self, tool: impl IntoIterator<Item = String>) -> Self {
        self.launch = self.launch.under(tool);
        self
    }

    /// Starts the service and waits until both of its ports listen. That says nothing about its
    /// dependencies: for those, ask `/readyz`.
    ///
    /// # Panics
    ///
    /// When it ends instead, or says nothing in time. The message holds its log.
    #[track_caller]
    pub fn start(self) -> Service {
        let process = Process::start(&self.launch);
        Service {
            listening: listening(&process),
            launch: self.launch,
            process,
            held: Mutex::default(),
            earlier: Vec::new(),
        }
    }
}

/// Runs one of our binaries to its end, for what it does other than serving: `--help`, or a start
/// that must fail. Its environment holds `PATH` and what is given here.
///
/// # Panics
///
/// When it has not ended within `limit`; then it is killed.
#[track_caller]
pub fn run_to_end(binary: &str, env: &[(&str, &str)], args: &[&str], limit: Duration) -> Output {
    let mut launch = Launch::new(binary_path(binary)).args(args);
    for (name, value) in env {
        launch = launch.env(name, value);
    }
    launch.run_to_end(limit)
}

/// Learns from the diagnostic log where a service listens.
#[track_caller]
fn listening(process: &Process) -> Listening {
    let end = Instant::now() + START_LIMIT;
    let find = |listener: &str| {
        let left = end.saturating_duration_since(Instant::now());
        process
            .stderr()
            .find(left, |line| listens_on(line, listener))
    };
    match (find("public"), find("admin")) {
        (Some(public), Some(admin)) => Listening { public, admin },
        _ => {
            // Its log ends a moment before the process itself does.
            let ended = || (!process.alive()).then_some(());
            let state = match wait::within(Duration::from_secs(1), ended) {
                Some(()) => "has ended",
                None => "runs",
            };
            let log = process.stderr().all().join("\n");
            panic!("a service that {state} did not say where both of its listeners are:\n{log}")
        }
    }
}

/// The address in a log line such as
/// `{"message":"listening","public":"127.0.0.1:43211","admin":"127.0.0.1:43212"}`.
fn listens_on(line: &str, listener: &str) -> Option<SocketAddr> {
    let line = object(line)?;
    let field = |name: &str| line.get(name).and_then(Value::as_str);
    if field("message")? != "listening" {
        return None;
    }
    let mut address: SocketAddr = field(listener)?.parse().ok()?;
    // A service that listens on every interface is reached through loopback.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Some(address)
}

/// Where one of our binaries is, compiled from the sources as they are now.
///
/// # Panics
///
/// When it does not compile.
pub fn binary_path(binary: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        // TARGET/PROFILE/deps/TEST, or TARGET/PROFILE/PROGRAM
        let program = env::current_exe().expect("a program knows its own path");
        let folder = program.parent().expect("a file is in a folder");
        let folder = match folder.ends_with("deps") {
            true => folder.parent().expect("deps is in a folder"),
            false => folder,
        };
        build(match folder.ends_with("release") {
            true => &["--release"],
            false => &[],
        });
        folder.to_owned()
    });
    FOLDER.join(binary)
}

/// Compiles the programs as `make run` does, so that what either has compiled is fresh for both.
///
/// # Panics
///
/// When they do not compile.
pub fn build(options: &[&str]) {
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["build", "--quiet", "--locked"])
        .args(options);
    // Crates that read what cargo tells a test would be compiled again.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&*name);
        }
    }
    assert!(build.status().expect("cargo").success(), "{build:?}");
}
