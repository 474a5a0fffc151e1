//! Postgres, from the Debian package `postgresql`.

mod cluster;

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::launch::Launch;
use crate::port::Port;
use crate::process::{Process, Signal};
use crate::skip::Missing;
use crate::store::server::{READY_LIMIT, Server, TOOL_LIMIT};
use crate::tls::Tls;
use crate::wait;

/// The superuser of every server that is started here.
pub const SUPERUSER: &str = "postgres";

/// A running Postgres server; dropping it stops it and deletes its data.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    options: Options,
    port: Port,
    folder: TempDir,
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether a commit is flushed to disk; off is how numbers come back after a crash.
    pub fsync: bool,
    /// The superuser's password. With one, every connection needs SCRAM authentication; without,
    /// everybody is trusted.
    pub password: Option<String>,
    /// With certificates, the server speaks TLS and refuses connections without it.
    pub tls: Option<Tls>,
    /// Further settings as in `postgresql.conf`, name and value.
    pub settings: Vec<(&'static str, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fsync: true,
            password: None,
            tls: None,
            settings: Vec::new(),
        }
    }
}

impl Postgres {
    /// Whether the server is installed.
    ///
    /// # Errors
    ///
    /// Says what is missing.
    pub fn available() -> Result<(), Missing> {
        for program in ["postgres", "initdb", "psql"] {
            cluster::binary(program).ok_or_else(|| Missing::new(program, "postgresql"))?;
        }
        Ok(())
    }

    /// Starts a server with the default options.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts a server with a new, empty cluster and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn start_with(options: Options) -> Self {
        let port = Port::free();
        let folder = TempDir::new().expect("a folder for the data");
        cluster::make(&options, folder.path());
        let launch = cluster::launch(&options, &port, folder.path());
        let postgres = Self {
            // The order to end without waiting for clients; TERM would wait for them.
            server: Server::start(&launch, Signal::INT),
            options,
            port,
            folder,
        };
        postgres.wait_ready();
        postgres
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The port on 127.0.0.1 where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The server's first process, for its id and its log.
    pub fn process(&self) -> &Process {
        self.server.process()
    }

    /// Crashes the whole server: the first process and all that it started, with SIGKILL. If any
    /// were left, the next start would refuse.
    pub fn kill9(&self) {
        self.process().kill9_with_children();
    }

    /// Ends it in order, without waiting for its clients.
    #[track_caller]
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Suspends it: connections stay and nothing answers.
    pub fn pause(&self) {
        self.process().pause();
    }

    /// Lets it go on after [`Postgres::pause`].
    pub fn resume(&self) {
        self.process().resume();
    }

    /// Starts it again on the same port and data, after killing it if it still runs, and waits
    /// until it answers, which takes as long as the recovery does.
    #[track_caller]
    pub fn restart(&mut self) {
        let launch = cluster::launch(&self.options, &self.port, self.folder.path());
        self.server.restart(&launch);
        self.wait_ready();
    }

    /// Waits until it answers queries.
    #[track_caller]
    pub fn wait_ready(&self) {
        wait::until("Postgres to answer", READY_LIMIT, || {
            self.try_sql("SELECT 1").ok()
        });
    }

    /// Creates a user who may log in with this password, and a database of the same name that it
    /// owns.
    #[track_caller]
    pub fn create_user_and_database(&self, name: &str, password: &str) {
        let password = password.replace('\'', "''");
        self.sql(&format!(
            "CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'"
        ));
        self.sql(&format!("CREATE DATABASE \"{name}\" OWNER \"{name}\""));
    }

    /// Runs one statement as the superuser and returns its rows, columns separated by `|`.
    ///
    /// # Panics
    ///
    /// When the statement fails.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        let answer = self.try_sql(statement);
        answer.unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// Runs one statement as the superuser.
    ///
    /// # Errors
    ///
    /// What psql says when the statement fails.
    pub fn try_sql(&self, statement: &str) -> Result<String, String> {
        self.try_sql_as(SUPERUSER, self.options.password.as_deref(), statement)
    }

    /// Runs one statement in the database `postgres` as this user.
    ///
    /// # Errors
    ///
    /// What psql says when the login or the statement fails.
    pub fn try_sql_as(
        &self,
        user: &str,
        password: Option<&str>,
        statement: &str,
    ) -> Result<String, String> {
        let psql = cluster::binary("psql").ok_or("psql is not installed")?;
        let mut launch = Launch::new(psql)
            .args([
                "--no-psqlrc",
                "--no-password",
                "--no-align",
                "--tuples-only",
            ])
            .args([
                "--quiet",
                "--set",
                "ON_ERROR_STOP=1",
                "--command",
                statement,
            ])
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port().to_string())
            .env("PGDATABASE", "postgres")
            .env("PGUSER", user)
            // Nothing from the developer's own folder: no password file, no client certificate.
            .env("HOME", "/nonexistent");
        if let Some(password) = password {
            launch = launch.env("PGPASSWORD", password);
        }
        if self.options.tls.is_some() {
            // Whatever its certificate is worth.
            launch = launch.env("PGSSLMODE", "require");
        }
        launch.try_run_to_end(TOOL_LIMIT)?.success()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed, it would leave behind a segment of System V shared memory; the order to end at
        // once removes it. After a crash the segment is there until the next start, so one that
        // was not started again is removed by hand.
        let process = self.server.process();
        process.resume();
        process.signal(Signal::QUIT);
        wait::within(READY_LIMIT, || (!process.alive()).then_some(()));
        cluster::remove_shared_memory(self.folder.path());
    }
}
