//! Redis, from the Debian package `redis-server`.

use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use super::server::{READY_LIMIT, Server, TOOL_LIMIT};
use crate::launch::Launch;
use crate::port::Port;
use crate::process::{Process, Signal};
use crate::skip::{Missing, installed};
use crate::tls::Tls;
use crate::wait;

/// A running Redis server; dropping it kills it and deletes its data.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    options: Options,
    port: Port,
    folder: TempDir,
}

/// How a server is set up. The default is the safe one: every write is on disk before its answer.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether writes are logged to disk at all. Without it, everything is gone after a restart.
    pub appendonly: bool,
    /// When the log is flushed: `always`, `everysec` or `no`.
    pub appendfsync: &'static str,
    /// The server whose replica this one is. It has the same password and authority.
    pub replica_of: Option<SocketAddr>,
    /// The default user's password.
    pub password: Option<String>,
    /// With certificates, the server speaks nothing but TLS.
    pub tls: Option<Tls>,
    /// Further settings as in `redis.conf`, name and value.
    pub settings: Vec<(&'static str, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            appendonly: true,
            appendfsync: "always",
            replica_of: None,
            password: None,
            tls: None,
            settings: Vec::new(),
        }
    }
}

impl Redis {
    /// Whether the server is installed.
    ///
    /// # Errors
    ///
    /// Says what is missing.
    pub fn available() -> Result<(), Missing> {
        for (program, package) in [
            ("redis-server", "redis-server"),
            ("redis-cli", "redis-tools"),
        ] {
            installed(program, package)?;
        }
        Ok(())
    }

    /// Starts a server with the default options.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts a server and waits until it answers; a replica, until it holds what its primary
    /// holds.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn start_with(options: Options) -> Self {
        let port = Port::free();
        let folder = TempDir::new().expect("a folder for the data");
        let launch = launch(&options, &port, &folder);
        let redis = Self {
            server: Server::start(&launch, Signal::TERM),
            options,
            port,
            folder,
        };
        redis.wait_ready();
        if redis.options.replica_of.is_some() {
            redis.wait_in_sync();
        }
        redis
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The port on 127.0.0.1 where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The server's process, for its id and its log.
    pub fn process(&self) -> &Process {
        self.server.process()
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&self) {
        self.process().kill9_with_children();
    }

    /// Ends it in order.
    #[track_caller]
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Suspends it: connections stay and nothing answers.
    pub fn pause(&self) {
        self.process().pause();
    }

    /// Lets it go on after [`Redis::pause`].
    pub fn resume(&self) {
        self.process().resume();
    }

    /// Starts it again on the same port and data, after killing it if it still runs, and waits
    /// until it answers.
    #[track_caller]
    pub fn restart(&mut self) {
        let launch = launch(&self.options, &self.port, &self.folder);
        self.server.restart(&launch);
        self.wait_ready();
    }

    /// Makes a replica a primary of its own, also after a restart.
    #[track_caller]
    pub fn promote(&mut self) {
        self.options.replica_of = None;
        self.cli(&["REPLICAOF", "NO", "ONE"]);
    }

    /// Waits until it answers.
    #[track_caller]
    pub fn wait_ready(&self) {
        wait::until("Redis to answer", READY_LIMIT, || {
            self.try_cli(&["PING"]).ok()
        });
    }

    /// Waits until this replica is linked to its primary and has received what that one held
    /// when they were linked.
    ///
    /// A replica writes what it received to its own log only afterwards, in the background;
    /// killed before that, it starts again without. That is waited for too.
    #[track_caller]
    pub fn wait_in_sync(&self) {
        let signs = [
            "master_link_status:up",
            "aof_rewrite_in_progress:0",
            "aof_rewrite_scheduled:0",
        ];
        wait::until("the replica to be in sync", READY_LIMIT, || {
            let info = self.try_cli(&["INFO"]).ok()?;
            signs.iter().all(|sign| info.contains(sign)).then_some(())
        });
    }

    /// Runs one command through `redis-cli` and returns what it prints.
    ///
    /// # Panics
    ///
    /// When the command fails.
    #[track_caller]
    pub fn cli(&self, command: &[&str]) -> String {
        let answer = self.try_cli(command);
        answer.unwrap_or_else(|error| panic!("redis-cli {}: {error}", command.join(" ")))
    }

    /// Runs one command through `redis-cli`.
    ///
    /// # Errors
    ///
    /// What it says when the command fails.
    pub fn try_cli(&self, command: &[&str]) -> Result<String, String> {
        let mut launch = Launch::new("redis-cli").args(["-e", "-p", &self.port().to_string()]);
        if let Some(password) = &self.options.password {
            launch = launch.env("REDISCLI_AUTH", password);
        }
        if self.options.tls.is_some() {
            // Whatever its certificate is worth.
            launch = launch.args(["--tls", "--insecure"]);
        }
        launch.args(command).try_run_to_end(TOOL_LIMIT)?.success()
    }
}

fn launch(options: &Options, port: &Port, folder: &TempDir) -> Launch {
    let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let path = |path: PathBuf| path.display().to_string();
    let number = port.number().to_string();

    let mut settings = vec![
        ("bind", "127.0.0.1".to_owned()),
        ("dir", path(folder.path().to_owned())),
        ("appendonly", yes_or_no(options.appendonly)),
        ("appendfsync", options.appendfsync.to_owned()),
        // No snapshots: what survives is what the append-only log holds, at any time of the test.
        ("save", String::new()),
        // A replica gets its data at once instead of five seconds later, and what follows as soon
        // as it has it: without a disk, up to a second later, with its next acknowledgement.
        ("repl-diskless-sync", "no".to_owned()),
    ];
    match &options.tls {
        None => settings.push(("port", number)),
        Some(tls) => settings.extend([
            ("port", "0".to_owned()),
            ("tls-port", number),
            ("tls-ca-cert-file", path(tls.ca())),
            ("tls-cert-file", path(tls.cert())),
            ("tls-key-file", path(tls.key())),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-replication", "yes".to_owned()),
        ]),
    }
    if let Some(password) = &options.password {
        settings.push(("requirepass", password.clone()));
        settings.push(("masterauth", password.clone()));
    }
    settings.extend(options.settings.iter().cloned());

    let mut launch = Launch::new("redis-server");
    for (name, value) in settings {
        launch = launch.arg(format!("--{name}")).arg(value);
    }
    if let Some(primary) = options.replica_of {
        let (host, port) = (primary.ip().to_string(), primary.port().to_string());
        launch = launch.args(["--replicaof", &host, &port]);
    }
    launch
}
