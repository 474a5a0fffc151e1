//! A row in a Postgres database.
//!
//! One statement takes a block: it adds to the row's value and returns the sum. The row's lock
//! puts all replicas in line, and with `synchronous_commit = on` the answer comes after the
//! commit is on the disk. As each update waits for the commit before it, and commits are flushed
//! in order, a number that was answered cannot be lost without losing all later ones.
//!
//! The settings that this needs are part of each transaction: a pooler may give each to another
//! connection of the server.
//!
//! It is not a Postgres sequence: `nextval` in an autocommitted `SELECT` often writes nothing
//! by itself, so it waits for no disk, and after a crash the same value came again.

mod check;
mod session;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use chassis::{
    BadSettings,
    settings::{BadValue, Host, Secret},
};
use sequence::{Block, Count, Error, MAX_NUMBER, Reusable, Sequence, Store};
use serde::Deserialize;
use tokio_postgres::{Config, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::info;

use self::{
    check::{ensure, stored},
    session::{PostgresError, Session},
};
use super::{Backend, Operations};
use crate::{PostgresSettings, SequenceName, tls};

/// What the sessions call themselves, in `pg_stat_activity`.
const APPLICATION: &str = env!("CARGO_PKG_NAME");

/// The largest value, as the database has it.
const MAX_VALUE: i64 = MAX_NUMBER as i64;

/// How long a reservation waits for a lock, in milliseconds: less than an attempt (2 s), so that
/// a statement that no caller waits for any more does not stay in the queue for the row.
const RESERVE_LOCK_MS: u32 = 1400;

/// How long a check does, which must answer within 950 ms.
const CHECK_LOCK_MS: u32 = 600;

/// A sequence in a Postgres database.
#[derive(Clone)]
pub struct PostgresStore {
    server: Arc<PostgresServer>,
    session: Reusable<Session>,
}

/// The server as all handles of one process know it.
struct PostgresServer {
    host: PgHost,
    port: u16,
    config: Config,
    tls: MakeRustlsConnect,
    /// Host and port in messages.
    address: String,
    name: String,
    operations: Operations,
    /// The sequence has a row.
    has_row: AtomicBool,
    /// The latest attempt of some handle to connect has failed.
    refused: AtomicBool,
    /// That the server has risky settings was logged.
    warned: AtomicBool,
}

/// Neither the password nor anything else that the client library keeps.
impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("address", &self.server.address)
            .field("name", &self.server.name)
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// The sequence in the database that the settings name. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// `PGSSLMODE` and `PGSSLROOTCERT` do not go together, or the file cannot be read.
    pub fn open(
        settings: &PostgresSettings,
        sequence: &SequenceName,
        operations: Operations,
    ) -> Result<Self, BadSettings> {
        let (host, port) = (&settings.pghost, settings.pgport.get());
        // libpq has no TLS on Unix sockets either.
        let mode = match host {
            PgHost::Directory(_) => SslMode::Disable,
            PgHost::Host(_) => settings.pgsslmode,
        };
        let root_cert = settings.pgsslrootcert.as_deref();
        let tls = encryption(mode, root_cert).map_err(|bad| BadSettings(vec![bad]))?;
        let mut config = Config::new();
        config
            .user(&settings.pguser)
            .dbname(settings.pgdatabase.as_ref().unwrap_or(&settings.pguser))
            .application_name(APPLICATION)
            .ssl_mode(mode.negotiation());
        if let Some(password) = settings.pgpassword.as_ref().map(Secret::reveal) {
            config.password(password);
        }
        let server = PostgresServer {
            host: host.clone(),
            port,
            config,
            tls,
            address: host.with_port(port),
            name: sequence.as_str().to_owned(),
            operations,
            has_row: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            warned: AtomicBool::new(false),
        };
        Ok(Self {
            server: Arc::new(server),
            session: Reusable::default(),
        })
    }

    async fn call<T>(
        &self,
        call: impl AsyncFn(&mut Session) -> Result<T, PostgresError>,
    ) -> Result<T, Error> {
        let call = async |session: &mut Session| {
            let result = call(session).await;
            if let Err(error) = &result {
                session.idle &= error.keeps_connection();
            }
            result
        };
        let result = self.session.call(async || self.connect().await, call).await;
        result.map_err(|error| self.error(error))
    }

    async fn connect(&self) -> Result<Session, PostgresError> {
        let session = Session::open(&self.server).await;
        let refused = session.is_err();
        self.server.refused.store(refused, Ordering::Relaxed);
        session
    }

    fn error(&self, error: PostgresError) -> Error {
        let line = format!("{}: {error}", self.target());
        match error {
            PostgresError::Exhausted => Error::Exhausted,
            PostgresError::RowGone(_) => Error::regressed(line),
            _ => Error::unavailable(line),
        }
    }

    async fn take(&self, session: &mut Session, count: Count) -> Result<Block, PostgresError> {
        if !session.checked {
            ensure(session, &self.server).await?;
            session.checked = true;
        }
        let take = i64::from(count.get());
        self.server.operations.add_one();
        if let Some(value) = self.write(session, 0, take, RESERVE_LOCK_MS).await? {
            let before = u64::try_from(value - take).ok();
            let block = before.and_then(|before| Block::after(before, count).ok());
            // A trigger may have changed what was written; whatever it is, it is not ours.
            return block.ok_or_else(|| PostgresError::UnexpectedReply(value.to_string()));
        }
        match stored(session, &self.server.name).await? {
            Some(value) if Block::after(value, count).is_err() => Err(PostgresError::Exhausted),
            _ => Err(PostgresError::Changed),
        }
    }

    /// Moves the value up to `floor`, and never back. Also where it changes nothing it is a write
    /// that is flushed, and with it all that was read.
    async fn raise(
        &self,
        session: &mut Session,
        floor: i64,
        lock_ms: u32,
    ) -> Result<i64, PostgresError> {
        ensure(session, &self.server).await?;
        match self.write(session, floor, 0, lock_ms).await? {
            Some(value) if value >= floor => Ok(value),
            Some(value) => Err(PostgresError::UnexpectedReply(value.to_string())),
            None => {
                stored(session, &self.server.name).await?;
                Err(PostgresError::Changed)
            }
        }
    }

    /// Takes `take` numbers above `floor` and all that were taken before, and returns the last.
    ///
    /// Nothing is taken, and none is returned, if the sequence ends before, or if what is stored
    /// is no number of ours.
    async fn write(
        &self,
        session: &mut Session,
        floor: i64,
        take: i64,
        lock_ms: u32,
    ) -> Result<Option<i64>, PostgresError> {
        let PostgresServer { name, has_row, .. } = &*self.server;
        let had_row = has_row.load(Ordering::Relaxed);
        let statements = transaction(name, floor, take, lock_ms);
        let Some(row) = session.write(&statements).await? else {
            return Ok(None);
        };
        let (value, is_new) = read(&row)?;
        has_row.store(true, Ordering::Relaxed);
        match (is_new, had_row) {
            (true, true) => return Err(PostgresError::RowGone(name.clone())),
            (true, false) => info!(
                address = self.server.address,
                row = name,
                "STORE=postgres: the row does not exist yet; a new sequence begins"
            ),
            (false, _) => {}
        }
        Ok(Some(value))
    }
}

impl Backend for PostgresStore {
    fn target(&self) -> String {
        format!("postgres at {}", self.server.address)
    }
}

#[async_trait(?Send)]
impl Sequence for PostgresStore {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        self.call(async |session| self.take(session, count).await)
            .await
    }
}

#[async_trait(?Send)]
impl Store for PostgresStore {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        let floor = i64::try_from(floor).map_or(MAX_VALUE, |floor| floor.min(MAX_VALUE));
        self.server.operations.add_one();
        let raise = async |session: &mut Session| self.raise(session, floor, RESERVE_LOCK_MS).await;
        self.call(raise).await.map(drop)
    }

    async fn check(&self) -> Result<u64, Error> {
        let check = async |session: &mut Session| self.raise(session, 0, CHECK_LOCK_MS).await;
        let last = self.call(check).await?;
        // This connection works, but another handle got none. Is there one by now?
        if self.server.refused.load(Ordering::Relaxed) {
            self.connect().await.map_err(|error| self.error(error))?;
        }
        Ok(last.unsigned_abs())
    }
}

/// A transaction that takes numbers, as one message: it is over, whatever happens, when the
/// answer is.
///
/// * A role, a database or the server may have other defaults for all of the settings.
/// * `READ COMMITTED`: stricter levels answer an update of a busy row with an error.
/// * `synchronous_commit = on`: the commit waits for the disk, and for the disk of a synchronous
///   standby where one is configured. `remote_apply` would wait for more than the disk. What
///   becomes of the setting comes back, from the transaction that commits: a trigger could have
///   changed it.
/// * `client_min_messages`: the warning that a commit did not wait for its standby must reach us.
/// * `xmax` is 0 in a row that was inserted. An update has locked the row first, which leaves a
///   trace there.
///
/// The name is of letters, digits, `_` and `-`, so it needs no escape.
fn transaction(name: &str, floor: i64, take: i64, lock_ms: u32) -> String {
    format!(
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        SET LOCAL synchronous_commit = on;
        SET LOCAL client_min_messages = warning;
        SET LOCAL lock_timeout = {lock_ms};
        SET LOCAL statement_timeout = {statement_ms};
        INSERT INTO numbers AS stored (name, value) VALUES ('{name}', {inserted})
        ON CONFLICT (name) DO UPDATE SET value = GREATEST(stored.value, {floor}) + {take}
        WHERE stored.value BETWEEN 0 AND {most}
        RETURNING value, current_setting('synchronous_commit'), current_setting('fsync'), xmax = 0",
        statement_ms = lock_ms + 100,
        inserted = floor + take,
        most = MAX_VALUE - take,
    )
}

/// The value that was written, if the commit waited until it was durable, and whether the row is
/// new.
fn read(row: &SimpleQueryRow) -> Result<(i64, bool), PostgresError> {
    let [value, commit, fsync, is_new] = [0, 1, 2, 3].map(|column| row.get(column).unwrap_or(""));
    if !matches!(commit, "on" | "remote_apply") {
        return Err(PostgresError::NotSynchronous(commit.to_owned()));
    }
    if fsync != "on" {
        return Err(PostgresError::NoFsync);
    }
    let number = value
        .parse()
        .map_err(|_| PostgresError::UnexpectedReply(value.to_owned()))?;
    Ok((number, is_new == "t"))
}

/// Where the server is, as in libpq.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum PgHost {
    /// A name or an address.
    Host(Host),
    /// The directory of a Unix socket.
    Directory(String),
}

impl PgHost {
    /// The name or the address for TLS, or the directory.
    fn as_str(&self) -> &str {
        match self {
            Self::Host(host) => host.as_str(),
            Self::Directory(path) => path,
        }
    }

    /// Host and port in messages.
    pub fn with_port(&self, port: u16) -> String {
        match self {
            Self::Host(host) => host.with_port(port),
            Self::Directory(path) => format!("{path}:{port}"),
        }
    }
}

impl TryFrom<String> for PgHost {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.starts_with('/') && !text.contains(char::is_control) {
            true => Ok(Self::Directory(text)),
            false => Host::try_from(text).map(Self::Host),
        }
    }
}

/// The value of `PGSSLROOTCERT` that stands for the authorities of the system.
const SYSTEM: &str = "system";

/// Whether a connection is encrypted, and how far the server is verified, as in libpq.
///
/// `allow` is left out: plain first, and encrypted only where the server insists, protects from
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Plain.
    Disable,
    /// Encrypted if the server can. Unlike libpq, a handshake that fails is an error, and not a
    /// reason to go on without encryption.
    Prefer,
    /// Encrypted. With `PGSSLROOTCERT`, the same as `VerifyCa`.
    Require,
    /// Encrypted, with a certificate from an authority that is trusted.
    VerifyCa,
    /// The same, and the certificate is for the host in `PGHOST`.
    VerifyFull,
}

impl SslMode {
    /// The part of it that the client library sees.
    fn negotiation(self) -> tokio_postgres::config::SslMode {
        use tokio_postgres::config::SslMode as Negotiation;

        match self {
            Self::Disable => Negotiation::Disable,
            Self::Prefer => Negotiation::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => Negotiation::Require,
        }
    }
}

/// What makes a TCP connection a TLS connection.
///
/// # Errors
///
/// The mode needs authorities, and there are none to be read.
fn encryption(mode: SslMode, root_cert: Option<&str>) -> Result<MakeRustlsConnect, BadValue> {
    let bad = |why: String| {
        let reason = format!("{why}; expected the path of a PEM file with certificates, or system");
        BadValue::invalid("PGSSLROOTCERT", root_cert.unwrap_or_default(), reason)
    };
    let authorities = match (mode, root_cert) {
        (SslMode::VerifyFull, Some(SYSTEM)) => Some(tls::system_authorities().map_err(bad)?),
        (_, Some(SYSTEM)) => {
            return Err(BadValue::together(
                "PGSSLROOTCERT=system without PGSSLMODE=verify-full: anyone gets a certificate \
                 from some public authority",
            ));
        }
        (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
            return Err(BadValue::together(
                "PGSSLMODE cannot verify the server without PGSSLROOTCERT: expected the path of \
                 a PEM file with its authority, or with verify-full also system",
            ));
        }
        (SslMode::Disable, Some(path)) => {
            return Err(BadValue::invalid(
                "PGSSLROOTCERT",
                path,
                "the connection is not encrypted; expected PGSSLMODE=prefer or more, and a PGHOST \
                 that is no directory",
            ));
        }
        (_, Some(path)) => Some(tls::read_authorities(Path::new(path)).map_err(bad)?),
        (_, None) => None,
    };
    let config = match (mode, authorities) {
        (SslMode::VerifyFull, Some(authorities)) => tls::verify_name(authorities),
        (_, authorities) => tls::accept_any_name(authorities),
    };
    Ok(MakeRustlsConnect::new((*config).clone()))
}
