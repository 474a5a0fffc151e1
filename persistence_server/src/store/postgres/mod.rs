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

mod fitness;
mod problem;
mod session;
mod target;
mod tls;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use chassis::BadSettings;
use sequence::{Block, Count, Error, Kept, MAX_NUMBER, Sequence, Store};
use tokio_postgres::SimpleQueryRow;
use tracing::info;

use self::{
    fitness::{ensure, stored},
    problem::{PostgresError, Problem},
    session::Session,
    target::Target,
};
pub use self::{target::PgHost, tls::SslMode};
use super::Operations;
use crate::{PostgresSettings, SequenceName};

/// What the sessions call themselves, in `pg_stat_activity`.
const APPLICATION: &str = env!("CARGO_PKG_NAME");

/// The largest value, as the database has it.
const MAX_VALUE: i64 = MAX_NUMBER as i64;

/// How long a reservation waits for a lock, in milliseconds: less than an attempt (2 s), so that
/// a statement that no caller waits for any more does not stay in the queue for the row.
const RESERVE_LOCK_MS: u32 = 1400;

/// How long a check does, which must answer within 950 ms.
const CHECK_LOCK_MS: u32 = 600;

/// Where the sequence is, from which every thread takes its own handle.
#[derive(Clone)]
pub struct PostgresStore {
    target: Arc<Target>,
    name: Arc<str>,
    known: Arc<Known>,
    operations: Operations,
}

/// What all handles of a process know together.
#[derive(Debug, Default)]
struct Known {
    /// The sequence has a row.
    row: AtomicBool,
    /// The latest attempt of some handle to connect has failed.
    refused: AtomicBool,
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
        Ok(Self {
            target: Arc::new(Target::new(settings)?),
            name: sequence.as_str().into(),
            known: Arc::default(),
            operations,
        })
    }

    /// A handle for one thread; it connects at its first call.
    pub fn handle(&self) -> PostgresSequence {
        PostgresSequence {
            store: self.clone(),
            kept: Kept::new(),
        }
    }
}

/// Neither the password nor anything else that the client library keeps.
impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("address", &self.target.address)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A sequence in a Postgres database, over one connection that is kept between calls.
#[derive(Debug)]
pub struct PostgresSequence {
    store: PostgresStore,
    kept: Kept<Session>,
}

impl PostgresSequence {
    /// Makes a call over the kept connection, or a new one.
    async fn call<T>(
        &self,
        call: impl AsyncFn(&mut Session) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        let call = async |session: &mut Session| match call(session).await {
            Err(problem) if problem.keeps_connection() => Ok(Err(problem)),
            result => result.map(Ok),
        };
        let result = self.kept.call(async || self.open().await, call).await;
        result.flatten().map_err(|problem| self.error(problem))
    }

    async fn open(&self) -> Result<Session, Problem> {
        let session = Session::open(&self.store.target).await;
        let refused = &self.store.known.refused;
        refused.store(session.is_err(), Ordering::Relaxed);
        session
    }

    fn error(&self, problem: Problem) -> Error {
        let address = Arc::clone(&self.store.target.address);
        if matches!(problem, Problem::RowGone(_)) {
            return Error::regressed(format!("postgres at {address}: {problem}"));
        }
        Error::unavailable(PostgresError { address, problem })
    }

    /// Takes a block; none if the sequence ends before it does.
    async fn reserve_over(
        &self,
        session: &mut Session,
        count: Count,
    ) -> Result<Option<Block>, Problem> {
        if !session.inspected {
            ensure(session, &self.store.target).await?;
            session.inspected = true;
        }
        let take = i64::from(count.get());
        self.store.operations.add_one();
        if let Some(value) = self.write(session, 0, take, RESERVE_LOCK_MS).await? {
            let before = u64::try_from(value - take).ok();
            let block = before.and_then(|before| Block::after(before, count).ok());
            // A trigger may have changed what was written; whatever it is, it is not ours.
            return block.map(Some).ok_or(Problem::Strange(value.to_string()));
        }
        match stored(session, &self.store.name).await? {
            Some(value) if Block::after(value, count).is_err() => Ok(None),
            _ => Err(Problem::Changed),
        }
    }

    /// Moves the value up to `floor`, and never back. Also where it changes nothing it is a write
    /// that is flushed, and with it all that was read.
    async fn raise_over(
        &self,
        session: &mut Session,
        floor: i64,
        lock_ms: u32,
    ) -> Result<i64, Problem> {
        ensure(session, &self.store.target).await?;
        match self.write(session, floor, 0, lock_ms).await? {
            Some(value) if value >= floor => Ok(value),
            Some(value) => Err(Problem::Strange(value.to_string())),
            None => Err(stored(session, &self.store.name)
                .await
                .err()
                .unwrap_or(Problem::Changed)),
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
    ) -> Result<Option<i64>, Problem> {
        let PostgresStore {
            target,
            name,
            known,
            ..
        } = &self.store;
        let had_row = known.row.load(Ordering::Relaxed);
        let Some(row) = session
            .write(&transaction(name, floor, take, lock_ms))
            .await?
        else {
            return Ok(None);
        };
        let (value, is_new) = read(&row)?;
        known.row.store(true, Ordering::Relaxed);
        match (is_new, had_row) {
            (true, true) => return Err(Problem::RowGone(name.to_string())),
            (true, false) => info!(
                address = &*target.address,
                row = &**name,
                "STORE=postgres: the row does not exist yet; a new sequence begins"
            ),
            (false, _) => {}
        }
        Ok(Some(value))
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
fn read(row: &SimpleQueryRow) -> Result<(i64, bool), Problem> {
    let [value, commit, fsync, is_new] = [0, 1, 2, 3].map(|column| row.get(column).unwrap_or(""));
    if !matches!(commit, "on" | "remote_apply") {
        return Err(Problem::NotSynchronous(commit.to_owned()));
    }
    if fsync != "on" {
        return Err(Problem::NoFsync);
    }
    let number = value
        .parse()
        .map_err(|_| Problem::Strange(value.to_owned()))?;
    Ok((number, is_new == "t"))
}

#[async_trait(?Send)]
impl Sequence for PostgresSequence {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let block = self
            .call(async |session| self.reserve_over(session, count).await)
            .await?;
        block.ok_or(Error::Exhausted)
    }
}

#[async_trait(?Send)]
impl Store for PostgresSequence {
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        let floor = i64::try_from(floor).map_or(MAX_VALUE, |floor| floor.min(MAX_VALUE));
        self.store.operations.add_one();
        let raise =
            async |session: &mut Session| self.raise_over(session, floor, RESERVE_LOCK_MS).await;
        self.call(raise).await.map(drop)
    }

    async fn check(&self) -> Result<u64, Error> {
        let check = async |session: &mut Session| self.raise_over(session, 0, CHECK_LOCK_MS).await;
        let last = self.call(check).await?;
        // This connection works, but another handle got none. Is there one by now?
        if self.store.known.refused.load(Ordering::Relaxed) {
            self.open().await.map_err(|problem| self.error(problem))?;
        }
        Ok(last.unsigned_abs())
    }
}
